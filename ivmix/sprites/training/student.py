"""The video model of few steps: a student that learns from the shipped one where its trajectories end.

Consistency distillation as latent consistency models do it (arXiv 2310.04378): at one of the 50 levels that runs pick
theirs from, the teacher takes a step of its ODE down, under guidance; what the student says at both ends of that step
is to be the same clip, and at t = 0 it says what it is shown (`Boundary`). So where a trajectory ends is told from
level to level upwards, and guidance comes with it: a run of the student has none.
"""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ivmix.solvers import Boundary
from ivmix.solvers.schedules.grids import LCM_LEVELS, lcm
from ivmix.sprites.training.loop import Loss
from ivmix.sprites.training.losses import levels, two_shapes
from ivmix.sprites.training.networks import VIDEO_CONFIG, Conditioned, load_conditioned, pair_vae, save_side
from ivmix.sprites.world import SIZE

GUIDANCE = 2.0  # the teacher's
DOWN = 3  # levels of the 50 that the teacher steps down: as in a run of 17 steps, which is what the pair's default has
DECAY = 0.95  # of the target's average
SMOOTH = 1e-3  # where the error turns from square to absolute: LCM's
TIMES = torch.tensor(lcm(1000, LCM_LEVELS)).flip(0)  # of the levels, from low to high


class Student(nn.Module):
    """The network that learns, and the average of it that says what the lower end of a step leads to.

    The average is part of what is saved, so that a training resumes where it was left.
    """

    def __init__(self, network: Conditioned) -> None:
        super().__init__()
        self.network = network
        self.target = copy.deepcopy(network).requires_grad_(False)

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Moves the target towards the network."""
        torch._foreach_lerp_(list(self.target.parameters()), list(self.network.parameters()), 1 - decay)


def student(pair: Path) -> Student:
    """One that knows what the teacher does, from the pair's folder."""
    return Student(load_conditioned("video", VIDEO_CONFIG)(pair))


def student_loss(pair: Path, device: torch.device) -> Loss:
    """How far what the student says at the two ends of a teacher's step is apart, absolute where it is far.

    The clips are those of `detail_loss`, encoded at their whole size: nothing but the pair is needed.
    """
    vae = pair_vae(pair, device)
    teacher = load_conditioned("video", VIDEO_CONFIG)(pair).to(device).eval().requires_grad_(False)

    def loss(network: nn.Module, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        assert isinstance(network, Student)
        network.follow(DECAY)
        x0, prompts, n = two_shapes(vae, generator, device, SIZE)
        repeats = len(x0) // n
        index = torch.randint(LCM_LEVELS, (n,), generator=generator).repeat(repeats)
        noise = torch.randn((n, *x0.shape[1:]), generator=generator).to(device).repeat(repeats, 1, 1, 1, 1)
        t = TIMES[index]
        below = torch.where(index < DOWN, 0, TIMES[(index - DOWN).clamp(min=0)])
        alpha, sigma_vp = levels(t, device)
        z = alpha * x0 + sigma_vp * noise
        with torch.no_grad():
            wanted = end(network.target, stepped(teacher, z, t, below, prompts, GUIDANCE), below, prompts)
        error = end(network.network, z, t, prompts) - wanted
        by_clip = error.detach().square().mean(dim=(1, 2, 3, 4))
        high = (t >= 500).to(device)
        logged = {"high": (by_clip * high).sum() / high.sum().clamp(min=1)}
        return ((error.square() + SMOOTH**2).sqrt() - SMOOTH).mean(), logged

    return loss


def end(network: nn.Module, z: Tensor, t: Tensor, prompts: Sequence[str]) -> Tensor:
    """Where the trajectory through z (b c f h w) at t (b,) ends, as a network that predicts v says it."""
    alpha, sigma_vp = levels(t, z.device)
    x0 = alpha * z - sigma_vp * network(z, t, prompts)
    c_skip, c_out = (c.float()[:, None, None, None, None].to(z.device) for c in Boundary().at(t.double()))
    return c_skip * z + c_out * x0


def stepped(teacher: nn.Module, z: Tensor, t: Tensor, below: Tensor, prompts: Sequence[str], guidance: float) -> Tensor:
    """z (b c f h w) at t (b,) after one DDIM step of the teacher, under guidance, to the times `below` (b,)."""
    both, empty = torch.cat([z, z]), [""] * len(prompts)
    cond, uncond = teacher(both, torch.cat([t, t]), [*prompts, *empty]).chunk(2)
    v = uncond + guidance * (cond - uncond)
    (alpha, sigma_vp), (alpha_below, sigma_below) = levels(t, z.device), levels(below, z.device)
    return alpha_below * (alpha * z - sigma_vp * v) + sigma_below * (sigma_vp * z + alpha * v)


def save_student(network: nn.Module, pair: Path) -> None:
    """Beside the pair, all else of which the student shares."""
    assert isinstance(network, Student)
    save_side(network.network, pair.parent / "student" / "video")
