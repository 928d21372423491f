"""Windows: shares that sum to 1, the plain call where one holds all, closed forms exact where nothing is lost and
bounded where something is."""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch

from ivmix.solvers import (
    DPMSolverPP2M,
    Euler,
    Guided,
    Network,
    Schedule,
    Windows,
    as_affine,
    cut_condition,
    initial_noise,
    integrate,
    plain,
    rescheduled_noise,
    seen,
    windowed,
)
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork, exponential

VP = Schedule.scaled_linear()


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("length", "overlap"), [(1, 0), (8, 0), (8, 1), (8, 4), (8, 7), (5, 3)])
@pytest.mark.parametrize("n", [1, 8, 9, 12, 16, 61])
def test_shares_of_every_entry_sum_to_one_and_the_last_window_ends_with_the_state(length, overlap, n):
    windows, total = Windows(length, overlap), torch.zeros(n, dtype=torch.float64)
    shares = windows.shares(n)
    for start, share in shares:
        assert (share > 0).all()
        total[start : start + len(share)] += share
    torch.testing.assert_close(total, torch.ones(n, dtype=torch.float64), rtol=0, atol=1e-15)
    starts = [start for start, _ in shares]
    assert (starts[0], starts[-1]) == (0, max(0, n - length))
    assert all(0 < b - a <= length - overlap for a, b in pairwise(starts))


def test_neighbours_fade_into_each_other_along_a_line():
    (_, first), (start, second) = Windows(8, 4).shares(12)
    assert start == 4
    torch.testing.assert_close(first[4:], torch.tensor([0.8, 0.6, 0.4, 0.2], dtype=torch.float64))
    torch.testing.assert_close(second[:4], torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64))
    (_, first), (start, second) = Windows(8, 0).shares(11)  # where the last one shares more than was asked for, too
    assert start == 3
    torch.testing.assert_close(first[3:], torch.tensor([4 / 5, 4 / 6, 3 / 6, 2 / 6, 1 / 5], dtype=torch.float64))


def test_a_state_that_one_window_holds_is_the_plain_call():
    given = []

    def forward(z, t, condition):
        given.append((z, t, condition))
        return z

    x, t, condition = normal(1, 2, 8, 4, 6), torch.tensor(3.0), normal(1, 2, 8, 4, 6)
    y = windowed(forward, Windows(8, 4), Windows(9, 0, "height"), Windows(6, 5, "width"))(x, t, condition)
    assert y is x
    assert [a is b for a, b in zip(given[0], (x, t, condition), strict=True)] == [True] * 3


def test_the_average_errs_least_from_all_windows_at_once():
    """MultiDiffusion's problem, solved as one: rows of a matrix are entries of windows."""
    windows, n = Windows(5, 2), 12
    pieces = {start: normal(5, seed=start) for start in windows.starts(n)}
    found = windowed(lambda x, sigma: pieces[int(x[0, 0, 0, 0, 0])].reshape(1, 1, 5, 1, 1), windows)(
        torch.arange(n, dtype=torch.float64).reshape(1, 1, n, 1, 1), 1.0
    )
    weight = torch.tensor([1.0, 2, 3, 2, 1], dtype=torch.float64).sqrt()
    A = torch.cat([weight[:, None] * torch.eye(n, dtype=torch.float64)[s : s + 5] for s in pieces])
    b = torch.cat([weight * piece for piece in pieces.values()])
    torch.testing.assert_close(found.flatten(), torch.linalg.lstsq(A, b[:, None]).solution[:, 0], rtol=0, atol=1e-12)


def test_windows_of_several_axes_have_the_product_of_their_shares():
    sizes, all_windows = (10, 7, 9), (Windows(4, 2), Windows(4, 3, "height"), Windows(5, 1, "width"))
    x, expected = normal(1, 2, *sizes), torch.zeros(1, 2, *sizes, dtype=torch.float64)

    def moved(z, sigma):  # depends on the window that it is asked for
        return z + z.mean((2, 3, 4), keepdim=True)

    over_f, over_h, over_w = (w.shares(n) for w, n in zip(all_windows, sizes, strict=True))
    for f, a in over_f:
        for h, b in over_h:
            for w, c in over_w:
                part = (..., slice(f, f + 4), slice(h, h + 4), slice(w, w + 5))
                expected[part] += a[:, None, None] * b[:, None] * c * moved(x[part], 1.0)
    torch.testing.assert_close(windowed(moved, *all_windows)(x, 1.0), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v", "flow"])
def test_a_network_may_be_cut_whatever_it_predicts(prediction):
    """The average of what it says is, read as x0, the average of the x0: where windows disagree, to rounding."""
    model, windows = GaussianNetwork("video", {None: Gaussian(0.3, exponential(8))}), Windows(8, 3)
    network = Network(windowed(model.forward(VP, prediction), windows), VP, prediction, "video")
    x = 2 * normal(1, 2, 21, 1, 1)
    torch.testing.assert_close(
        network(None)(x, 2.0), windowed(model.given[None], windows)(x, 2.0), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("windows", [Windows(6, 0), Windows(6, 3), Windows(6, 5)])
def test_what_is_independent_frame_by_frame_is_drawn_exactly(windows):
    mean, sigmas = normal(24, 1, 1), VP.grid(10)
    denoise, x = Gaussian(0.4, 1.3), sigmas[0] * normal(1, 2, 24, 2, 1)
    runs = [
        integrate(as_affine(lambda x, sigma, d=d: d(x - mean, sigma) + mean, "video"), plain(sigmas), x).x
        for d in (denoise, windowed(denoise, windows))
    ]
    torch.testing.assert_close(runs[1], runs[0], rtol=0, atol=1e-12)


def test_scenes_that_windows_hold_whole_are_drawn_exactly():
    """Blocks of six frames, correlated inside and not beyond: windows of six without overlap lose nothing."""
    K, sigmas = exponential(6, 1.2, 3.0), VP.grid(10)
    whole, x = Gaussian(0.2, torch.block_diag(K, K, K)), sigmas[0] * normal(1, 2, 18, 2, 1)
    runs = [
        integrate(as_affine(denoise, "video"), plain(sigmas, solver=DPMSolverPP2M()), x).x
        for denoise in (whole, windowed(Gaussian(0.2, K), Windows(6, 0)))
    ]
    torch.testing.assert_close(runs[1], runs[0], rtol=0, atol=1e-11)


@pytest.mark.parametrize("overlap", [0, 4, 8, 12])
@pytest.mark.parametrize("sigma", [0.3, 1.0, 5.0])
def test_what_is_lost_of_neighbours_fades_with_the_distance_from_the_edge(overlap, sigma):
    """Frames of covariance a^|i-j| are a Markov chain: a window errs inside by c_i·(error of its first frame) + d_i·
    (error of its last), the regression of frame i on both, in which c_i <= a^i, and d_i likewise from the other end:
    what is seen of the frames between makes both smaller. An average errs at most by the shares of that."""
    n, length, a = 64, 16, math.exp(-1 / 3)
    whole, part = (Gaussian(0.0, exponential(frames, 1.0, 3.0)) for frames in (n, length))
    windows = Windows(length, overlap)
    x = math.sqrt(1 + sigma**2) * normal(1, 1, n, 1, 1)
    truth, bound = whole(x, sigma).flatten(), torch.zeros(n, dtype=torch.float64)
    place = torch.arange(length, dtype=torch.float64)
    for start, share in windows.shares(n):
        inside = slice(start, start + length)
        error = (part(x[:, :, inside], sigma).flatten() - truth[inside]).abs()
        reach = (start > 0) * error[0] * a**place + (start + length < n) * error[-1] * a ** (length - 1 - place)
        assert (error <= reach + 1e-12).all()
        bound[inside] += share * reach
    assert ((windowed(part, windows)(x, sigma).flatten() - truth).abs() <= bound + 1e-12).all()


def test_what_all_frames_share_is_carried_one_window_on_and_restored_by_rescheduled_noise():
    """Frames of correlation 0.9, 32 of them in windows of 8: the covariance that the windowed ODE draws. Windows that
    disagree average to less variance, and what is two windows apart shares nothing; windows that begin from the same
    noises agree."""
    n, part, sigmas = 32, 0.9 * torch.ones(8, 8, dtype=torch.float64) + 0.1 * torch.eye(8), Schedule.ve(0.01, 1000.0)
    start = sigmas.grid(80, "karras")[0] * torch.eye(n, dtype=torch.float64).reshape(n, 1, n, 1, 1)
    field = as_affine(windowed(Gaussian(0.0, part), Windows(8, 4)), "video")
    linear = integrate(field, plain(sigmas.grid(80, "karras"), solver=DPMSolverPP2M()), start).x.reshape(n, n).mT
    order = rescheduled_noise([0], (1, n, 1, 1), 8, 4).reshape(n, 1)
    repeated = (order == initial_noise([0], (1, 8, 1, 1)).reshape(1, 8)).double()
    white, alike = linear @ linear.mT, linear @ repeated @ (linear @ repeated).mT
    assert 0.6 < white.diag().mean() < 0.75
    assert white.diagonal(16).abs().max() < 0.05
    torch.testing.assert_close(alike.diag(), torch.ones(n, dtype=torch.float64), rtol=0, atol=0.02)
    assert (alike > 0.88).all()


def test_an_evaluation_by_windows_counts_as_one_and_asks_for_one_shape():
    shapes = []
    model = GaussianNetwork("video", {"": Gaussian(0.0, 1.0), "cat": Gaussian(0.4, 0.5)})

    def forward(z, t, condition):
        shapes.append(tuple(z.shape))
        rows = zip(z.chunk(len(condition)), condition, strict=True)
        return torch.cat([model.forward(VP, "epsilon")(row, t, key) for row, key in rows])

    sigmas = VP.grid(4)
    for n, calls in ((8, 1), (20, 4), (64, 15)):
        shapes.clear()
        network = Network(windowed(forward, Windows(8, 4)), VP, "epsilon", "video", join=lambda keys: sum(keys, ()))
        guided = Guided(network(("",)), network(("cat",)))
        run = integrate(guided, plain(sigmas, 2.0), sigmas[0] * normal(3, 2, n, 2, 1))
        assert (run.nfe, run.forwards) == ({"video": 4}, {"video": 8})
        assert shapes == 4 * calls * [(6, 2, 8, 2, 1)]


def test_a_network_that_writes_on_what_it_is_told_spoils_no_other_window():
    def writes(z, t, condition):
        y = 2 * z + t
        z.zero_()
        t.zero_()
        return y

    x, t = normal(1, 1, 10, 1, 1), torch.tensor(3.0, dtype=torch.float64)
    kept = x.clone()
    torch.testing.assert_close(windowed(writes, Windows(4, 2))(x, t, None), 2 * kept + 3.0)
    assert torch.equal(x, kept)
    assert t == 3


@dataclass(frozen=True)
class Frames:
    rows: torch.Tensor

    def cut(self, axis, n, start, length):
        return Frames(self.rows[start : start + length]) if axis == "frames" else self


def test_conditions_of_frames_are_cut_along_and_text_is_told_whole():
    x, hint, text = normal(1, 2, 12, 2, 2), normal(1, 1, 12, 2, 2, seed=1), normal(1, 7, 16)

    def forward(z, t, condition):
        assert condition[1] is text
        return condition[0].expand_as(z)

    def of_hint(z, t, condition):
        return condition.expand_as(z)

    assert torch.equal(windowed(of_hint, Windows(5, 0), Windows(1, 0, "width"))(x, 1.0, hint), hint.expand_as(x))
    still = hint[:, :, :1]
    assert cut_condition(still, "frames", 12, 3, 5) is still
    assert cut_condition(text, "frames", 12, 3, 5) is text
    assert torch.equal(cut_condition(Frames(torch.arange(12)), "frames", 12, 3, 5).rows, torch.arange(3, 8))
    with pytest.raises(ValueError, match=r"condition: got shape \(1, 1, 11, 2, 2\), expected 12 or 1 along frames"):
        windowed(of_hint, Windows(5, 0))(x, 1.0, hint[:, :, 1:])


def test_views_of_a_network_are_windowed_like_it():
    windows = Windows(8, 4)

    def views(by):
        return windowed(lambda z, t, condition: by * z.mean(2, keepdim=True).expand_as(z), windows)

    network = Network(views(1.0), VP, "x0", "video", views=views)
    x = normal(1, 1, 20, 1, 1)
    torch.testing.assert_close(seen(network(None), by=0.5)(x, 1.0), network(None)(x, 1.0) / 2)


def test_windows_shift_with_the_level_alone_and_still_cover_all():
    windows = Windows(8, 4, shift=lambda t: (t.item() * 0.618) % 1)
    at = [torch.tensor(float(t)) for t in range(6)]
    assert [windows.starts(21, t)[1] for t in at] == [4, 2, 4, 3, 1, 4]
    for t in at:
        assert windows.starts(21, t) == windows.starts(21, t.clone())
        starts = windows.starts(21, t)
        assert (starts[0], starts[-1]) == (0, 13)
        assert max(b - a for a, b in pairwise(starts)) <= 4
        x = normal(1, 1, 21, 1, 1)
        torch.testing.assert_close(windowed(lambda x, t: 2 * x, windows)(x, t), 2 * x)
    with pytest.raises(ValueError, match=r"shift: got 1, expected a share of the stride in \[0, 1\)"):
        replace(windows, shift=lambda t: 1.0).starts(21, at[0])


def test_gradients_and_function_transforms_pass_through():
    denoise = windowed(Gaussian(0.1, exponential(4)), Windows(4, 2))
    x = normal(1, 1, 7, 1, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: denoise(x, 1.0), x)
    batch = normal(3, 1, 1, 7, 1, 1)
    by_one = torch.stack([denoise(one, 1.0) for one in batch])
    torch.testing.assert_close(torch.func.vmap(lambda x: denoise(x, 1.0))(batch), by_one)
    _, tangent = torch.func.jvp(lambda x: denoise(x, 1.0), (batch[0],), (batch[1],))
    torch.testing.assert_close(tangent, denoise(batch[1], 1.0) - denoise(torch.zeros_like(batch[1]), 1.0))


def test_half_precision_is_averaged_in_float32():
    y = windowed(lambda z, t: z, Windows(5, 3))(normal(1, 1, 11, 1, 1).half(), 1.0)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, normal(1, 1, 11, 1, 1).half().float(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Windows(0, 0), "length: got 0, expected a whole number >= 1"),
        (lambda: Windows(8, 8), "overlap: got 8, expected a whole number .* 7, below the length 8"),
        (lambda: Windows(8, -1), "overlap: got -1"),
        (lambda: Windows(8, 4, "channels"), "axis: got 'channels', expected 'frames', 'height' or 'width'"),
        (lambda: windowed(lambda x, t: x, Windows(2, 0))(normal(1, 2, 4, 1), 1.0), "expected b c f h w for a windowed"),
        (lambda: windowed(lambda x, t: x[:, :1], Windows(2, 0))(normal(1, 2, 4, 1, 1), 1.0), "returned shape"),
    ],
)
def test_what_no_window_is_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_runs_of_any_length_meet_the_same_largest_call():
    """What bounds memory: however long the clip, a call holds a window, one at a time."""
    largest = []

    def forward(z, t, condition):
        largest.append(z.numel())
        return 0 * z

    network = Network(windowed(forward, Windows(8, 4), Windows(4, 2, "height")), VP, "epsilon", "video")
    for n in (16, 64, 256):
        integrate(network(None), plain(VP.grid(2), solver=Euler()), normal(1, 1, n, 8, 2))
    assert set(largest) == {8 * 4 * 2}
