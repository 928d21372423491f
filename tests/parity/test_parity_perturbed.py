"""Guidance by a network's own worse view against diffusers' `PerturbedAttentionGuidance` and `SkipLayerGuidance`: their
arithmetic, and their hooks on its UNets.

Both are made for transformers, whose stack of blocks they find by themselves. On a UNet they do not ("auto" is
refused), but take the blocks of one transformer by name, and what they hook there is computed as our view computes it.
"""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from ivmix.models import load_unet, perturbed
from ivmix.solvers import Guided, Network, Schedule, pag, seen, stg

pytestmark = pytest.mark.slow

STEPS, W, S = 6, 3.0, 1.7
SCHEDULE = Schedule.scaled_linear()
BLOCKS = "transformer_blocks"


def guider(diffusers: ModuleType, kind: str, config: Any) -> Any:
    """Scales W and S over the whole run, as told the third of its steps: the first it leaves alone."""
    prefix = {"PerturbedAttentionGuidance": "perturbed_guidance", "SkipLayerGuidance": "skip_layer_guidance"}[kind]
    name = "perturbed_guidance_config" if kind.startswith("P") else "skip_layer_config"
    span = {f"{prefix}_scale": S, f"{prefix}_start": 0.0, f"{prefix}_stop": 1.0, name: config}
    made = getattr(diffusers.guiders, kind)(guidance_scale=W, **span)
    made.set_state(2, STEPS, torch.tensor(0))
    return made


def config(kind: str, fqn: str) -> Any:
    """Identity attention, or a whole block left out."""
    from diffusers.hooks import LayerSkipConfig

    attention = {"skip_attention": False, "skip_attention_scores": True, "skip_ff": False}
    return LayerSkipConfig(indices=[0], fqn=fqn, **attention if kind.startswith("P") else {})


@pytest.mark.parametrize("kind", ["PerturbedAttentionGuidance", "SkipLayerGuidance"])
@pytest.mark.parametrize("space", ["epsilon", "x0", "v", "flow"])
def test_the_sum_is_theirs_whatever_is_predicted(diffusers: ModuleType, kind: str, space: Any) -> None:
    draw = torch.Generator().manual_seed(0)
    x, u, c, p = (torch.randn(2, 4, 3, 6, 5, generator=draw, dtype=torch.float64) for _ in range(4))
    schedule = Schedule.rectified_flow() if space == "flow" else SCHEDULE
    sigma = schedule.grid(STEPS)[2]

    def views(**how: Any) -> Callable[..., Tensor]:
        return lambda z, t, condition: p

    network = Network(lambda z, t, condition: condition, schedule, space, "video", views=views)
    guided = Guided(network(u), network(c))
    field = (pag if kind.startswith("P") else stg)(guided, seen(guided.cond, skip=("any",)), S)
    theirs = guider(diffusers, kind, config(kind, BLOCKS)).forward(c, u, p).pred
    alone = Network(lambda z, t, condition: theirs, schedule, space, "video")
    torch.testing.assert_close(field.at(W)(x, sigma), alone(None)(x, sigma), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["PerturbedAttentionGuidance", "SkipLayerGuidance"])
@pytest.mark.parametrize("transformer", ["mid_block.attentions.0", "up_blocks.1.attentions.1"])
@pytest.mark.parametrize("which", ["image_unet", "clip_unet"])
@pytest.mark.parametrize("dtype", [torch.float64], ids=["float64"])
def test_a_unet_under_their_hooks_is_our_view(
    diffusers: ModuleType, kind: str, transformer: str, which: str, request: pytest.FixtureRequest,
    normal: Callable[..., Tensor], agree: Callable[[Tensor, Tensor], None], dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    theirs = request.getfixturevalue(which)
    theirs.save_pretrained(tmp_path)
    ours = load_unet(tmp_path, dtype=dtype)
    image = which == "image_unet"
    z, t = normal(2, 4, 1 if image else 3, 8, 8), torch.tensor(500.0)
    u, c = normal(2, 7, 24, seed=1), normal(2, 7, 24, seed=2)

    made = guider(diffusers, kind, config(kind, f"{transformer}.{BLOCKS}"))
    predicted = {}
    with torch.no_grad():
        for batch in made.prepare_inputs({"context": (c, u)}):
            made.prepare_models(theirs)
            y = theirs(z[:, :, 0] if image else z, t, batch.context).sample
            predicted[getattr(batch, made._identifier_key)] = y.unsqueeze(2) if image else y
            made.cleanup_models(theirs)
        expected = made.forward(**predicted).pred

        name = f"{transformer}.{BLOCKS}.0"
        view = perturbed(ours, identity=[name]) if kind.startswith("P") else perturbed(ours, skip=[name])
        cond, uncond, weak = ours(z, t, ours.condition(c)), ours(z, t, ours.condition(u)), view(z, t, view.condition(c))
    agree(weak, predicted["pred_cond_skip"])
    assert (weak - cond).abs().max() > 1e-3
    agree(uncond + W * (cond - uncond) + S * (cond - weak), expected)


def test_their_hooks_do_not_find_a_unets_blocks_by_themselves(diffusers: ModuleType, image_unet: Any) -> None:
    for kind in ("PerturbedAttentionGuidance", "SkipLayerGuidance"):
        made = guider(diffusers, kind, config(kind, "auto"))
        made._count_prepared = 2
        with pytest.raises(ValueError, match="Could not find a suitable identifier"):
            made.prepare_models(image_unet)
