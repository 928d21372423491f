from itertools import pairwise

import pytest
import torch

from ivmix.solvers import (
    Coarse,
    Filter,
    Guided,
    IVMixed,
    LowPass,
    Network,
    Schedule,
    composite,
    fdg,
    integrate,
    plain,
)
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork, reference

SIZE = (16, 8)  # h w
SHAPE = (2, 3, 4, *SIZE)


def normal(seed):
    return torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


X = normal(0)
VIDEO = GaussianNetwork("video", {"": Gaussian(0.3 * normal(1)[0], 1.0), "cat": Gaussian(normal(2)[0], 0.4)})
GUIDED = Guided(VIDEO(""), VIDEO("cat"))


def bands(x, levels):
    """B_k·x by the equation, from the finest to the coarsest."""
    parts = [x, *(Coarse(k)(x) for k in range(1, levels)), torch.zeros_like(x)]
    return [a - b for a, b in pairwise(parts)]


@pytest.mark.parametrize("level", [1, 2])
def test_a_part_of_the_pyramid_is_its_stages_by_hand(level):
    """Sums over neighbours, with indices mirrored at the edges."""

    def along(y, axis, matrix):
        return torch.tensordot(matrix, y, dims=([1], [axis])).movedim(0, axis)

    def blur(n):
        matrix = torch.zeros(n, n, dtype=torch.float64)
        for i in range(n):
            for offset, weight in zip(range(-2, 3), (1, 4, 6, 4, 1), strict=True):
                j = abs(i + offset)
                matrix[i, j if j < n else 2 * (n - 1) - j] += weight / 16
        return matrix

    def halve(n):
        return torch.eye(n // 2, dtype=torch.float64).repeat_interleave(2, 1) / 2 @ blur(n)

    def double(n):
        centres = (torch.arange(2 * n) + 0.5) / 2 - 0.5
        matrix = torch.zeros(2 * n, n, dtype=torch.float64)
        for i, centre in enumerate(centres.clamp(0, n - 1).tolist()):
            low = min(int(centre), n - 2)
            matrix[i, low] += 1 - (centre - low)
            matrix[i, low + 1] += centre - low
        return blur(2 * n) @ matrix

    y = X
    for axis, n in ((-2, SIZE[0]), (-1, SIZE[1])):
        sizes = [n // 2**k for k in range(level)]
        for size in sizes:
            y = along(y, axis % 5, halve(size))
        for size in reversed(sizes):
            y = along(y, axis % 5, double(size // 2))
    torch.testing.assert_close(Coarse(level)(X), y, rtol=0, atol=1e-14)


@pytest.mark.parametrize("level", [1, 2])
def test_a_part_of_the_pyramid_is_linear_keeps_constants_and_frames_apart(level):
    coarse, a, b = Coarse(level), normal(3), normal(4)
    torch.testing.assert_close(coarse(2 * a - b), 2 * coarse(a) - coarse(b), rtol=0, atol=1e-14)
    torch.testing.assert_close(coarse(torch.full_like(a, 0.7)), torch.full_like(a, 0.7), rtol=0, atol=1e-15)
    assert torch.equal(coarse(a)[1:, 1:, 2:], coarse(a[1:, 1:, 2:]))
    assert coarse(a.float()).dtype == torch.float32


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_levels_sum_to_the_whole(levels):
    torch.testing.assert_close(sum(bands(X, levels)), X, rtol=0, atol=1e-15)
    parts = [1.0, *(Filter.of(Coarse(k)) for k in range(1, levels)), 0.0]
    assert sum(a - b for a, b in pairwise(parts)) == 1.0  # and exactly so as weights


@pytest.mark.parametrize("scales", [(3.0,), (10.0, 5.0), (4.0, 1.0, -2.0)])
def test_every_level_of_the_direction_has_its_scale(scales):
    u, c = GUIDED.uncond(X, 2.0), GUIDED.cond(X, 2.0)
    expected = u + sum(w * band for w, band in zip(scales, bands(c - u, len(scales)), strict=True))
    field = fdg(GUIDED, scales)
    torch.testing.assert_close(field(X, 2.0), expected, rtol=0, atol=1e-13)
    assert field.cost(2.0) == {"video": 2}
    assert field.total(2.0) == 1.0


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_equal_scales_are_plain_guidance_bit_for_bit(levels):
    assert torch.equal(fdg(GUIDED, [7.5] * levels)(X, 2.0), GUIDED.at(7.5)(X, 2.0))
    assert fdg(GUIDED, [1.0] * levels).cost(2.0) == {"video": 1}


def test_scales_may_be_functions_of_sigma():
    field = fdg(GUIDED, (lambda sigma: 2 * sigma, 5.0))
    torch.testing.assert_close(field(X, 3.0), fdg(GUIDED, (6.0, 5.0))(X, 3.0), rtol=0, atol=1e-13)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "flow"])
def test_the_guided_prediction_is_that_of_every_parameterisation(prediction):
    schedule = Schedule.rectified_flow() if prediction == "flow" else Schedule.scaled_linear()
    forward = VIDEO.forward(schedule, prediction)

    def guided(z, t, condition):
        u, c = forward(z, t, ""), forward(z, t, "cat")
        return u + sum(w * band for w, band in zip((10.0, 5.0), bands(c - u, 2), strict=True))

    direct = Network(guided, schedule, prediction, "video")(None)
    torch.testing.assert_close(fdg(GUIDED, (10.0, 5.0))(X, 2.0), direct(X, 2.0), rtol=0, atol=1e-12)


def test_zigzags_with_it_converge_to_its_composite(slopes):
    """Linear, it takes part in plans of legs and their limits: eps_V(w) + eps_I,fdg - eps_Vu of pattern "V-I"."""
    image = GaussianNetwork("image", {"": Gaussian(0.2, 0.7), "cat": Gaussian(normal(5)[0], 0.2)})
    pair = {"image": fdg(Guided(image(""), image("cat")), (0.8, 0.2)), "video": GUIDED}
    options = {"pattern": "V-I", "guidance": 1.5, "image_guidance": None, "video_guidance": 0.0}

    def grid(n):
        return Schedule.ve(0.2, 8.0).grid(n, "uniform-lam")

    limit = composite(**pair, **options, reference=grid(5)).denoise
    truth = reference(limit, 8 * X, grid(5)[[0, 4]], tolerance=1e-9)

    def error(n):
        return (integrate(pair, IVMixed(**options).legs(grid(n))[:-1], 8 * X).x - truth).norm()

    assert slopes(error, [40, 80]) == pytest.approx([1.0], abs=0.1)


def test_a_run_counts_guided_evaluations():
    run = integrate(fdg(GUIDED, (10.0, 5.0)), plain(torch.tensor([4.0, 1.0, 0.0])), 4 * X)
    assert (run.nfe, run.forwards) == ({"video": 2}, {"video": 4})


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fdg(VIDEO("cat"), (2.0, 1.0)), TypeError, "guided: got a Affine"),
        (lambda: fdg(GUIDED, ()), ValueError, "scales: got ()"),
        (lambda: fdg(GUIDED, 2.0), ValueError, "scales: got 2.0"),
        (lambda: fdg(GUIDED, (2.0, float("nan"))), ValueError, "scales: got nan"),
        (lambda: fdg(GUIDED, (2.0, Filter.of(LowPass()))), ValueError, "scales: got Filter"),
        (lambda: Coarse(0), ValueError, "level: got 0"),
        (lambda: Coarse(3)(X), ValueError, "x: got frames of 16 x 8, expected multiples of 8, at least 16"),
        (lambda: Coarse(1)(X[..., :6, :7]), ValueError, "x: got frames of 6 x 7"),
    ],
)
def test_what_has_no_levels_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
