"""Distillation: the teacher's step is its ODE's, and a student that knows where it ends has nothing to learn."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ivmix.pairs.description import EMBEDDED
from ivmix.sprites.training.loop import Settings, train
from ivmix.sprites.training.losses import levels
from ivmix.sprites.training.student import Student, end, stepped, student, student_loss

CPU = torch.device("cpu")


class Clip(nn.Module):
    """The true v where every clip is x0 (1 c f h w), which without a caption is `off` by so much."""

    def __init__(self, x0: Tensor, off: float = 0.0) -> None:
        super().__init__()
        self.x0, self.off = x0, off

    def forward(self, z: Tensor, t: Tensor, prompts: Sequence[str]) -> Tensor:
        alpha, sigma_vp = levels(t, CPU)
        empty = torch.tensor([prompt == "" for prompt in prompts]).view(-1, 1, 1, 1, 1)
        x0 = self.x0 + self.off * empty
        return (alpha * z - x0) / sigma_vp


def noisy(x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    noise = torch.randn((len(t), *x0.shape[1:]), generator=torch.Generator().manual_seed(0))
    alpha, sigma_vp = levels(t, CPU)
    return alpha * x0 + sigma_vp * noise, noise


def test_a_teachers_step_leads_along_its_ode_under_guidance():
    """Of one clip x0 the ODE is a line; guided at w, its end is moved by (w - 1) times what the caption adds."""
    x0, t, below = torch.full((1, 4, 2, 3, 3), 0.7), torch.tensor([999, 499, 59]), torch.tensor([939, 439, 0])
    z, noise = noisy(x0, t)
    alpha, sigma_vp = levels(t, CPU)
    pulled = x0 - 0.3  # x0 + (2 - 1)·(x0 - (x0 + 0.3))
    slope = (z - alpha * pulled) / sigma_vp
    alpha_below, sigma_below = levels(below, CPU)
    found = stepped(Clip(x0, 0.3), z, t, below, ["a", "b", "c"], 2.0)
    torch.testing.assert_close(found, alpha_below * pulled + sigma_below * slope, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(slope, noise)


def test_where_a_trajectory_ends_is_x0_at_every_level_and_what_is_shown_at_the_lowest():
    x0, t = torch.full((1, 4, 2, 3, 3), 0.7), torch.tensor([999, 499, 19, 0])
    z, _ = noisy(x0, t)
    found = end(Clip(x0), z, t, ["a"] * 4)
    torch.testing.assert_close(found[:3], x0.expand(3, -1, -1, -1, -1), rtol=1e-4, atol=1e-4)
    assert torch.equal(found[3], z[3])


@pytest.mark.slow
def test_a_student_resumed_is_the_student_that_was_not_interrupted(tmp_path: Path):
    """Its target is an average over its past, and is kept."""
    pair, settings = EMBEDDED["sprites"], Settings(steps=4, save_every=2, log_every=1)
    loss = student_loss(pair, CPU)

    def cut(network: nn.Module, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        if progress == 0.75:
            raise KeyboardInterrupt
        return loss(network, generator, progress)

    once = train("student", student(pair), loss, settings, tmp_path / "once")
    with pytest.raises(KeyboardInterrupt):
        train("student", student(pair), cut, settings, tmp_path / "twice")
    twice = train("student", student(pair), loss, settings, tmp_path / "twice")
    ends = [torch.load(tmp_path / name / "student.pt", weights_only=True)["network"] for name in ("once", "twice")]
    assert {key.split(".")[0] for key in ends[0]} == {"network", "target"}
    for one, other in (ends, (once.state_dict(), twice.state_dict())):
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_target_follows_its_network_and_learns_nothing_by_itself():
    network = student(EMBEDDED["sprites"])
    assert isinstance(network, Student)
    assert not any(parameter.requires_grad for parameter in network.target.parameters())
    own, target = (next(part.parameters()) for part in (network.network, network.target))
    with torch.no_grad():
        own += 1.0
    network.follow(0.75)
    torch.testing.assert_close(own - target, torch.full_like(own, 0.75))
