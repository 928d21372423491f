"""Closed-form pairs that the solver tests share: float64, four frames, an image network that knows no time."""

import pytest
import torch

from ivmix.solvers import Guided, Schedule
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork, exponential

FRAMES = 4
SHAPE = (2, 3, FRAMES, 2, 1)  # b c f h w


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def x():
    """A state of unit variance; multiply by sigma."""
    return normal(*SHAPE)


@pytest.fixture
def schedule():
    return Schedule.scaled_linear()


@pytest.fixture
def pair():
    """Image and video networks whose four covariances and means all differ and do not commute."""
    image = GaussianNetwork("image", {"": Gaussian(0.4, 1.3), "cat": Gaussian(normal(*SHAPE[1:], seed=1), 0.5)})
    video = GaussianNetwork(
        "video",
        {
            "": Gaussian(-0.2, exponential(FRAMES, 1.5, 3.0)),
            "cat": Gaussian(normal(*SHAPE[1:], seed=2), exponential(FRAMES, 0.8, 1.0)),
        },
    )
    return {"image": Guided(image(""), image("cat")), "video": Guided(video(""), video("cat"))}


@pytest.fixture
def commuting():
    """A mixture of image and video with a closed-form flow: the covariances share their eigenvectors."""
    K = exponential(FRAMES, 1.2, 3.0)
    image = GaussianNetwork("image", {"": Gaussian(0.4, 1.3), "cat": Gaussian(normal(*SHAPE[1:], seed=1), 0.5)})
    video = GaussianNetwork("video", {"": Gaussian(-0.2, K), "cat": Gaussian(normal(*SHAPE[1:], seed=2), K @ K / 3)})
    guided_image, guided_video = Guided(image(""), image("cat")), Guided(video(""), video("cat"))
    return 0.35 * guided_image.at(1.5) + 0.65 * guided_video.at(2.0)


@pytest.fixture
def slopes():
    """Local orders log2(error(n) / error(2n)) of `error`, a function of the number of steps."""

    def measure(error, steps):
        errors = [float(error(n)) for n in steps]
        return [
            (torch.tensor(a / b).log2() / torch.tensor(m / n).log2()).item()
            for a, b, n, m in zip(errors, errors[1:], steps, steps[1:], strict=False)
        ]

    return measure


@pytest.fixture
def in_space():
    """`in_space(space, x, x0, sigma)`: the prediction that x0 stands for, of a variance-preserving schedule for "v"."""

    def convert(space, x, x0, sigma):
        alpha, eps = 1 / (1 + sigma**2) ** 0.5, (x - x0) / sigma
        return {"epsilon": eps, "x0": x0, "v": alpha * (eps - sigma * x0), "flow": eps - x0}[space]

    return convert
