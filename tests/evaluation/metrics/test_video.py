"""Metrics of clips: exact on clips whose answer is known, and worse when the thing they name is broken."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from ivmix.evaluation import dynamic_degree, flow_score, frame_consistency, temporal_flickering, warping_error
from ivmix.evaluation.metrics import video
from ivmix.media import to_frames
from ivmix.sprites.measure import real_clips
from ivmix.sprites.world import FRAMES, random_scenes, render

METRICS = {
    "temporal_flickering": temporal_flickering,
    "frame_consistency": lambda frames: frame_consistency(frames, lambda images: images.flatten(1)),
    "warping_error": warping_error,
    "flow_score": flow_score,
    "dynamic_degree": dynamic_degree,
}


def grey(*levels: int, size: int = 8) -> np.ndarray:
    """One clip of flat frames."""
    return np.broadcast_to(np.array(levels, np.uint8)[None, :, None, None, None], (1, len(levels), size, size, 3))


@pytest.fixture(scope="module")
def crisp():
    return to_frames(real_clips(5, seed=3, degraded=False)[0])


def sprites(speed: float) -> np.ndarray:
    """Eight scenes at `speed` pixels a frame, in their directions."""
    scenes = random_scenes(8, torch.Generator().manual_seed(3))
    step = scenes.position[:, 1:2] - scenes.position[:, :1]
    offsets = (torch.arange(FRAMES) - (FRAMES - 1) / 2)[None, :, None] * speed
    position = scenes.position.mean(1, keepdim=True) + step / step.norm(dim=2, keepdim=True) * offsets
    return to_frames(render(replace(scenes, position=position)))


# --- temporal flickering --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("levels", "expected"), [
    ((7, 7, 7), 1.0), ((100, 151, 100), 1 - 51 / 255), ((0, 255), 0.0), ((255, 0, 0), 0.5), ((0, 51, 255), 0.5),
])  # fmt: skip
def test_a_known_flicker_is_exact_and_bytes_do_not_wrap(levels, expected):
    assert temporal_flickering(grey(*levels)) == expected


def test_half_the_pixels_flicker_half_as_much():
    frames = grey(10, 112).copy()
    frames[:, 1, :4] = 10
    assert temporal_flickering(frames) == pytest.approx(1 - 0.5 * 102 / 255, abs=1e-15)


# --- frame consistency ----------------------------------------------------------------------------------------------


def angle(images: torch.Tensor) -> torch.Tensor:
    """Features of length 3 whose direction, in degrees, is the frame's grey level."""
    radians = torch.deg2rad(images.mean((1, 2, 3)).double() * 255)
    return 3 * torch.stack([radians.cos(), radians.sin()], 1)


@pytest.mark.parametrize(("degrees", "expected"), [
    ((40, 40, 40), 1.0),
    ((0, 60), 0.5),
    ((0, 60, 120), (0.5 + 0.5 + 0.5 + 0.0) / 4),  # cos 120° < 0 counts as 0
    ((0, 60, 0), (0.5 + 0.5 + 0.5 + 1.0) / 4),
])  # fmt: skip
def test_consistency_with_the_previous_and_the_first_frame(degrees, expected):
    assert frame_consistency(grey(*degrees), angle)[0] == pytest.approx(expected, abs=1e-5)


# --- warping error --------------------------------------------------------------------------------------------------


def test_integer_motion_under_its_own_flow_has_no_error():
    """A window on a larger random picture: pixels leave on one side and new ones come, neither can be compared."""
    picture = np.random.default_rng(0).integers(256, size=(40, 40, 3), dtype=np.uint8)
    frames = np.stack([picture[10 - t : 26 - t, 2 * t : 16 + 2 * t] for t in range(5)])[None]  # left 2, down 1

    def truth(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        sign = 1 if torch.equal(first, forward_of) else -1
        return torch.tensor([-2.0, 1.0])[:, None, None].expand(len(first), 2, 16, 16) * sign

    forward_of = torch.from_numpy(frames[0, :-1].copy()).permute(0, 3, 1, 2).float() / 255
    assert warping_error(frames, truth)[0] < 1e-10
    assert warping_error(frames, lambda a, b: -truth(a, b))[0] > 0.1


def test_what_a_moving_square_covers_and_uncovers_is_left_out():
    """A bright square crosses a random background at 2 px a frame: exact flows of both directions, known per pixel."""
    rng = np.random.default_rng(0)
    background, square = (rng.integers(256, size=(24, 24, 3), dtype=np.uint8) for _ in range(2))
    frames = np.repeat(background[None], 5, 0)
    flows = np.zeros((5, 2, 24, 24), np.float32)
    for t in range(5):
        frames[t, 8:16, 3 + 2 * t : 11 + 2 * t] = square[:8, :8]
        flows[t, 0, 8:16, 3 + 2 * t : 11 + 2 * t] = 2
    start = torch.from_numpy(frames[:-1].copy()).permute(0, 3, 1, 2).float() / 255

    def truth(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(flows[:-1] if torch.equal(first, start) else -flows[1:])

    assert warping_error(frames[None], truth)[0] < 1e-10


def test_our_flow_explains_nearly_all_of_a_coherent_clip_and_little_of_an_incoherent_one(crisp):
    """Frames of different clips are compared with the same clips' own frames, and with no warping at all."""
    mixed = np.stack([np.roll(crisp[:, t], t, axis=0) for t in range(FRAMES)], 1)
    unwarped = (np.diff(crisp.astype(float) / 255, axis=1) ** 2).mean((1, 2, 3, 4))
    assert warping_error(crisp).mean() < 0.1 * unwarped.mean()
    assert warping_error(mixed).mean() > 20 * warping_error(crisp).mean()


def test_a_frame_of_which_nothing_can_be_traced_counts_in_full():
    """A flow that never leads back; the authors' code would give such clips 0."""
    frames = np.random.default_rng(0).integers(256, size=(1, 3, 12, 12, 3), dtype=np.uint8)

    def senseless(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return torch.full((len(first), 2, 12, 12), 40.0)  # out of the frame, wherever from

    corner = np.broadcast_to(frames[:, :, -1:, -1:], frames.shape)[0, 1:]
    expected = ((frames[0, :-1] / 255 - corner / 255) ** 2).mean()
    assert warping_error(frames, senseless)[0] == pytest.approx(expected, rel=1e-5)


# --- motion ---------------------------------------------------------------------------------------------------------


def pixels_a_frame(length: float, share: float = 1.0):
    """A flow of `length` to the right on the first `share` of the rows, none elsewhere."""

    def flow(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        field = torch.zeros(len(first), 2, *first.shape[2:])
        field[:, 0, : round(share * first.shape[2])] = length
        return field

    return flow


def test_the_flow_score_is_the_mean_length():
    assert flow_score(grey(0, 0, 0), pixels_a_frame(3.0, 0.25)) == pytest.approx(0.75)


@pytest.mark.parametrize(("length", "fps", "moves"), [(0.76, 8, 1), (0.74, 8, 0), (1.49, 4, 0), (1.51, 4, 1)])
def test_the_threshold_is_6_pixels_in_256_at_8_fps(length, fps, moves):
    assert dynamic_degree(grey(*[0] * 8, size=32), fps, pixels_a_frame(length)) == moves


@pytest.mark.parametrize(("rows", "moves"), [(1, 0), (2, 1)])
def test_the_fastest_twentieth_of_the_pixels_decides(rows, moves):
    """Of 32 rows, 51 pixels are 1.6: one row at 1 px a frame averages 0.63, below 0.75."""
    assert dynamic_degree(grey(*[0] * 8, size=32), 8, pixels_a_frame(1.0, rows / 32)) == moves


@pytest.mark.parametrize(("steps", "moves"), [(1, 0), (2, 1), (7, 1)])
def test_a_quarter_of_the_frames_must_move(steps, moves):
    def flow(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return (torch.arange(7) < steps)[:, None, None, None] * torch.full((7, 2, 32, 32), 9.0)

    assert dynamic_degree(grey(*[0] * 8, size=32), 8, flow) == moves


def test_faster_clips_are_sampled_at_8_fps():
    seen = []

    def flow(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        seen.append((first[:, 0, 0, 0] * 255).round().int().tolist())
        return torch.zeros(len(first), 2, 8, 8)

    dynamic_degree(grey(*range(12)), 24, flow)
    assert seen == [[0, 3, 6]]


@pytest.mark.parametrize(("speed", "moves"), [(0.0, 0), (0.5, 0), (1.0, 1), (2.0, 1)])
def test_our_flow_tells_slow_textures_from_fast_ones(speed, moves):
    """The bound at 32 pixels is 0.75 px a frame. Waves of 9 to 20 px, moved without interpolation."""
    y, x, t = np.mgrid[0:32, 0:32, 0:8].transpose(0, 3, 1, 2)
    waves = [np.sin(a * (x - speed * t) + b * y) for a, b in ((0.3, 0.6), (0.5, -0.4), (-0.7, 0.1))]
    frames = np.stack([127.5 + 40 * (u + v) for u, v in zip(waves, waves[1:] + waves[:1], strict=True)], -1)
    assert dynamic_degree(frames.round().astype(np.uint8)[None]) == moves


def test_our_flow_tells_still_sprites_from_moving_ones():
    for speed, moves in ((0.0, 0), (2.0, 1), (4.6, 1)):
        assert (dynamic_degree(sprites(speed)) == moves).all()


def test_the_flow_score_grows_with_speed():
    scores = [flow_score(sprites(speed)).mean() for speed in (0.0, 1.0, 2.0, 4.0)]
    assert scores[0] < 1e-5
    assert all(slower < faster for slower, faster in pairwise(scores))


def test_too_few_frames_for_the_rule_are_refused():
    with pytest.raises(ValueError, match="are 2 at 8 fps"):
        dynamic_degree(grey(0, 0, 0, 0), fps=16)
    with pytest.raises(ValueError, match="fps is 0"):
        dynamic_degree(grey(0, 0, 0), fps=0)


# --- all ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_still_clip_is_perfect_and_does_not_move(metric, crisp):
    still = np.repeat(crisp[:2, :1], FRAMES, 1)
    perfect = {temporal_flickering: 1, METRICS["frame_consistency"]: 1}.get(metric, 0)
    np.testing.assert_allclose(metric(still), perfect, atol=1e-6)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_clip_scores_the_same_in_any_company(metric, crisp, monkeypatch):
    together = metric(crisp)
    assert together.shape == (5,)
    assert together.dtype == np.float64
    monkeypatch.setattr(video, "PIXELS", 2 * FRAMES * 32 * 32)
    np.testing.assert_allclose(metric(crisp[::-1]), together[::-1], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_frames_of_another_kind_are_refused(metric):
    good = np.zeros((1, 4, 8, 8, 3), np.uint8)
    for bad in (good.astype(np.float32), good[0], good[:, :1], good[:0]):
        with pytest.raises(ValueError, match="expected uint8"):
            metric(bad)
