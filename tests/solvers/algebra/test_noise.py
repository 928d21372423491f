import numpy as np
import pytest
import torch

from ivmix.solvers import initial_noise, normal_noise, rescheduled_noise

SHAPE = (4, 8, 16, 16)


def test_a_sample_is_the_same_in_every_batch():
    batch = initial_noise([0, 1, 2], SHAPE)
    assert torch.equal(batch[2:], initial_noise([2], SHAPE))
    many, one = normal_noise([0, 1, 2], SHAPE), normal_noise([1], SHAPE)
    for _ in range(3):
        assert torch.equal(many(None, None)[1:2], one(None, None))


def test_draws_are_unit_normals_and_all_different():
    source = normal_noise([5], SHAPE)
    draws = [initial_noise([5], SHAPE), source(None, None), source(None, None), initial_noise([6], SHAPE)]
    n = draws[0].numel()
    for i, a in enumerate(draws):
        # 8192 numbers: mean within 5/sqrt(n), variance within 5·sqrt(2/n)
        assert abs(a.mean()) < 5 / n**0.5
        assert abs(a.var() - 1) < 5 * (2 / n) ** 0.5
        for b in draws[:i]:
            assert abs((a * b).mean()) < 5 / n**0.5


def test_global_state_is_neither_read_nor_changed():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = initial_noise([3], SHAPE)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(initial_noise([3], SHAPE), first)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.int32, torch.tensor])
def test_whole_numbers_of_other_libraries_are_seeds(kind):
    for source in (initial_noise, lambda seeds, shape: normal_noise(seeds, shape)(None, None)):
        assert torch.equal(source([kind(3)], SHAPE), source([3], SHAPE))


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "1", True, None, np.float64(3)])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(ValueError, match="seeds"):
        initial_noise([seed], SHAPE)


@pytest.mark.parametrize(("length", "stride"), [(8, 4), (8, 8), (8, 1), (6, 3)])
def test_windows_of_rescheduled_noise_hold_the_first_ones_frames_in_another_order(length, stride):
    noise = rescheduled_noise([3, 4], (2, 30, 2, 2), length, stride)
    assert torch.equal(noise[:, :, :length], initial_noise([3, 4], (2, length, 2, 2)))
    first = noise[:, :, :length].sort(2).values
    for start in range(0, 30 - length + 1, stride):
        assert torch.equal(noise[:, :, start : start + length].sort(2).values, first)
    if stride > 1:
        assert not torch.equal(noise[:, :, length : 2 * length], noise[:, :, :length])
    assert torch.equal(noise[1:], rescheduled_noise([4], (2, 30, 2, 2), length, stride))
    assert torch.equal(noise[:, :, :20], rescheduled_noise([3, 4], (2, 20, 2, 2), length, stride))
    short = rescheduled_noise([3], (2, 5, 2, 2), length, stride)
    assert torch.equal(short, initial_noise([3], (2, 5, 2, 2)))


def test_a_stride_beyond_the_window_leaves_frames_without_noise_and_is_refused():
    with pytest.raises(ValueError, match="stride: got 9"):
        rescheduled_noise([0], (2, 30, 2, 2), 8, 9)
