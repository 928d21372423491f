"""Rows that networks are asked for: none whose weight is zero, eagerly or in captured graphs."""

from collections import Counter
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor, nn

from ivmix import TextToVideo
from ivmix.models.compile import Compiled, Graphs
from ivmix.pairs.pair import Pair
from ivmix.samplers.reading import sampling
from ivmix.samplers.samplers import SAMPLERS

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

SMALL = {"frames": 2, "height": 16, "width": 16, "steps": 4}
GAMMAS = ("image_guidance", "video_guidance")  # of legs that come in pairs, +gamma and -gamma, and of their limit
PAIRED = ("zigzag", "composite", "official")


class Graph(Graphs):
    """A network through graphs that a recorder on the CPU stands in for, its rows counted."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network, recorded)
        self.rows: Counter[int] = Counter()

    def __call__(self, z: Tensor, *args, **kwargs) -> Tensor:
        self.rows[len(z)] += 1
        return super().__call__(z, *args, **kwargs)


def recorded(function, device):
    """What a CUDA graph would be: a replay computes again, into the memory of the first output."""
    output = function().fill_(torch.nan)
    return output, lambda: output.copy_(function())


@pytest.fixture(scope="module")
def eager() -> TextToVideo:
    return TextToVideo.from_pair("sprites", "cpu")


def captured(pair: Pair) -> TextToVideo:
    sides = {s.name: replace(s, call=Compiled(Graph(s.unet), "cuda graphs", "asked for", recorded)) for s in pair.sides}
    return TextToVideo(replace(pair, **sides))


def at_one(model: TextToVideo, sampler: str) -> dict[str, float]:
    """Every scale at which a prediction is the conditional one: 1, and of legs in pairs, whose -1 is not, 0."""
    names = [f.name for f in fields(sampling(model.pair.defaults, {"sampler": sampler})) if "guidance" in f.name]
    return {name: 0.0 if sampler in PAIRED and name in GAMMAS else 1.0 for name in names}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_at_guidance_one_each_evaluation_is_of_one_row(sampler, eager):
    """CFG++ alone asks for both, whatever its scale, but where it steps to 0: the noise it goes on with is the
    unconditional one."""
    record = eager("a red circle moving left", sampler=sampler, **at_one(eager, sampler), **SMALL).record
    twice = {"video": 2 * SMALL["steps"] - 1} if sampler == "cfgpp" else {}
    assert record.forwards == record.nfe | twice
    guided = eager("a red circle moving left", sampler=sampler, **SMALL).record
    assert sum(guided.forwards.values()) > sum(guided.nfe.values())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_captured_graphs_are_asked_for_the_same_rows_and_say_the_same(sampler, eager):
    model = captured(eager.pair)
    scales = at_one(eager, sampler)
    for given in (scales, {}):
        call = {"sampler": sampler, **given, **SMALL}
        result = model("a red circle moving left", **call)
        assert torch.equal(result.latents, eager("a red circle moving left", **call).latents)
        for side in model.pair.sides:
            rows = side.call.forward.rows
            assert sum(n * times for n, times in rows.items()) == result.record.forwards.get(side.name, 0)
            rows.clear()


def test_an_image_direction_of_weight_zero_is_not_asked_for(eager):
    for sampler in ("composite", "mixture"):
        nothing = {"image_weight": 0.0} if sampler == "mixture" else {"image_guidance": 0.0}
        record = eager("a red circle moving left", sampler=sampler, **nothing, **SMALL).record
        assert record.nfe == {"video": SMALL["steps"]}
