"""Public files of networks that measure: every key and shape taken, the published number of parameters found."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from ivmix.models import I3D, UMT, I3DConfig, UMTConfig, VideoMAE, ViTConfig
from ivmix.models.checkpoints.layouts import find
from ivmix.models.checkpoints.measuring import MEASURING
from ivmix.models.meta import build, shapes_of

Manifest = Callable[[str], tuple[dict[str, tuple[int, ...]], int]]

NETWORKS: dict[str, tuple[Any, Any]] = {
    "i3d_kinetics400": (I3D, I3DConfig(1e-3)),
    "videomae_g_ssv2": (VideoMAE, ViTConfig()),
    "umt_l16": (UMT, UMTConfig()),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_shape_is_taken_and_all_parameters_counted(name: str, manifest: Manifest) -> None:
    shapes, published = manifest(name)
    (found,) = find(shapes).values()
    taken = {key: shape for key, shape in shapes.items() if found.layout.names(key)}
    network, config = NETWORKS[name]
    assert taken == shapes_of(build(network, config))
    assert {source for key in taken for source in found.layout.sources(key)} == taken.keys()
    trained = {key for key in shapes if not key.endswith(("running_mean", "running_var", "tracked", "position_ids"))}
    assert sum(math.prod(shapes[key]) for key in trained) == published


@pytest.mark.parametrize("name", NETWORKS)
def test_sizes_are_told_by_the_shapes(name: str, manifest: Manifest) -> None:
    shapes, _ = manifest(name)
    (found,) = find(shapes).values()
    network, kind, tell = MEASURING[found.layout.part]
    assert (network, kind, tell(shapes)) == (NETWORKS[name][0], type(NETWORKS[name][1]), NETWORKS[name][1])


def test_umt_s_towers_are_a_vit_l_and_a_bert_large_that_attends_to_it(manifest: Manifest) -> None:
    shapes, _ = manifest("umt_l16")

    def parameters(part: str) -> int:
        return sum(math.prod(shape) for key, shape in shapes.items() if part in key and "position_ids" not in key)

    assert parameters("vision_encoder.") == 303_076_352
    pooler = 1024 * 1024 + 1024
    assert parameters("text_encoder.") - parameters("crossattention") == 335_141_888 - pooler  # BERT-large's
