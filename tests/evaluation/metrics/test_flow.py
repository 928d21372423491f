"""The flow finds motions that are known exactly, and the sprite world's own; what cannot be traced is left out."""

import math
from dataclasses import replace

import pytest
import torch

from ivmix.evaluation.metrics.flow import inside, lucas_kanade, traceable, warp
from ivmix.sprites.world import MOTIONS, SIZE, degrade, random_scenes, render, signed_distance


def texture(shift: tuple[float, float] = (0.0, 0.0), size: tuple[int, int] = (48, 40)) -> torch.Tensor:
    """Four images (4 3 h w) of 16 plane waves of 8 px and longer, moved without interpolation."""
    generator = torch.Generator().manual_seed(0)
    frequency = 2 * math.pi / 8 * torch.rand(4, 3, 16, generator=generator)
    angle, phase = 2 * math.pi * torch.rand(2, 4, 3, 16, generator=generator)
    x, y = torch.arange(size[1]) - shift[0], torch.arange(size[0])[:, None] - shift[1]

    def per_wave(values: torch.Tensor) -> torch.Tensor:
        return values[..., None, None]

    along = per_wave(frequency * angle.cos()) * x + per_wave(frequency * angle.sin()) * y
    return 0.5 + 0.06 * (along + per_wave(phase)).cos().sum(2)


@pytest.mark.parametrize("shift", [(0.25, 0.0), (0.0, -0.5), (1.3, 0.7), (3.0, 0.0), (-2.0, 5.0), (6.0, 6.0)])
def test_translations_are_found_to_a_twentieth_of_a_pixel_or_of_their_length(shift):
    """Away from the frame's edge by the motion and the window. The second bound is the pull towards rest."""
    flow = lucas_kanade(texture(), texture(shift))
    error = (flow - torch.tensor(shift)[:, None, None]).norm(dim=1)[:, 10:-10, 10:-10]
    assert error.mean() < 0.05 * max(1, math.hypot(*shift))


def test_motions_of_several_windows_are_found_to_a_twentieth():
    """What a coarse level found has to arrive at the next one at its right length."""
    shift, size = (12.0, 9.0), (96, 96)
    flow = lucas_kanade(texture(size=size), texture(shift, size))
    error = (flow - torch.tensor(shift)[:, None, None]).norm(dim=1)[:, 24:-24, 24:-24]
    assert error.mean() < 0.05 * 15


def test_no_motion_is_no_flow():
    assert lucas_kanade(texture(), texture()).abs().max() < 1e-5


def test_flat_images_rest_whatever_their_brightness_does():
    flat = torch.full((1, 3, 16, 16), 0.5)
    assert lucas_kanade(flat, flat + 0.1).abs().max() < 1e-4


@pytest.mark.parametrize("size", [(8, 8), (33, 57), (16, 70)])
def test_any_size_will_do(size):
    shift = (0.5, 0.25)
    flow = lucas_kanade(texture(size=size), texture(shift, size))
    assert flow.shape == (4, 2, *size)
    assert (flow.mean((0, 2, 3)) - torch.tensor(shift)).norm() < 0.1


def test_pairs_do_not_depend_on_their_companions():
    first, second = texture(), texture((1.0, 0.5))
    alone = torch.cat([lucas_kanade(first[k : k + 1], second[k : k + 1]) for k in range(4)])
    torch.testing.assert_close(alone, lucas_kanade(first, second), rtol=0, atol=1e-5)


def test_images_that_do_not_match_or_are_too_small_are_refused():
    for first, second in (((1, 3, 8, 8), (1, 3, 8, 9)), ((3, 8, 8), (3, 8, 8)), ((1, 3, 7, 8), (1, 3, 7, 8))):
        with pytest.raises(ValueError, match="sides of 8 or more"):
            lucas_kanade(torch.zeros(first), torch.zeros(second))


# --- the sprite world -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world():
    """Scenes, their clips, each pixel's distance to the sprite's edge in frame 3, and the motion to frame 4."""
    scenes = random_scenes(32, torch.Generator().manual_seed(5))
    at, after = scenes.position[:, 3], scenes.position[:, 4]
    grid = torch.arange(SIZE) + 0.5
    dx, dy = grid - at[:, :1, None], grid[:, None] - at[:, 1:, None]
    dx, dy = torch.broadcast_tensors(dx, dy)
    edge = signed_distance(scenes.shape[:, None, None], scenes.radius[:, None, None], dx, dy)
    return scenes, render(scenes), edge, after - at


def sprite_errors(video, edge, motion) -> torch.Tensor:
    """Mean distance between flow and truth over each sprite's pixels: (b,)."""
    first, second = (video[:, :, t] / 2 + 0.5 for t in (3, 4))
    error = (lucas_kanade(first, second) - motion[:, :, None, None]).norm(dim=1)
    return torch.stack([e[distance < 0].mean() for e, distance in zip(error, edge, strict=True)])


def test_sprites_are_found_to_a_quarter_of_a_pixel(world):
    """They move 4 to 5.2 px, their stripes repeat every 8 px, and window and outline reach over their edge."""
    _, video, edge, motion = world
    errors = sprite_errors(video, edge, motion)
    assert errors.mean() < 0.25
    assert errors.max() < 0.8


def test_soft_sprites_behind_a_watermark_are_found_less_exactly(world):
    _, video, edge, motion = world
    assert sprite_errors(degrade(video, watermark=0.0), edge, motion).mean() < 0.5


def test_the_background_rests(world):
    """Beyond the reach of window and pyramid; its gradients, 0.5 to 1 grey level a pixel, alone would not tell."""
    _, video, edge, _ = world
    first, second = (video[:, :, t] / 2 + 0.5 for t in (3, 4))
    flow = lucas_kanade(first, second).norm(dim=1)
    assert flow[edge > 10].mean() < 0.1


def test_the_direction_is_the_captions(world):
    scenes, video, edge, _ = world
    first, second = (video[:, :, t] / 2 + 0.5 for t in (3, 4))
    flow = lucas_kanade(first, second)
    mean = torch.stack([f[:, e < 0].mean(1) for f, e in zip(flow, edge, strict=True)])
    assert torch.equal((mean @ torch.tensor(list(MOTIONS.values())).T).argmax(1), scenes.motion)


def test_scenes_at_rest_have_no_flow(world):
    scenes, *_ = world
    still = render(replace(scenes, position=scenes.position[:, :1].expand(-1, 2, -1)))
    assert lucas_kanade(still[:, :, 0], still[:, :, 1]).abs().max() < 1e-5


# --- warping and masks ----------------------------------------------------------------------------------------------


def constant(x: float, y: float, size: tuple[int, int] = (12, 16)) -> torch.Tensor:
    return torch.tensor([float(x), float(y)])[None, :, None, None].expand(1, 2, *size)


def test_warping_undoes_an_integer_motion():
    image = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    moved = image.roll((3, -2), dims=(3, 2))  # 3 to the right, 2 up
    warped = warp(moved, constant(3, -2))
    seen = inside(constant(3, -2))
    assert seen.sum() == (12 - 2) * (16 - 3)
    assert torch.equal(seen[0, 0], (torch.arange(16) < 13) & (torch.arange(12) >= 2)[:, None])
    torch.testing.assert_close(warped * seen, image * seen, rtol=0, atol=1e-5)


def test_warping_by_half_a_pixel_is_the_mean_of_two():
    image = torch.rand(1, 1, 12, 16, generator=torch.Generator().manual_seed(0))
    warped = warp(image, constant(0.5, 0))[..., :-1]
    torch.testing.assert_close(warped, (image[..., 1:] + image[..., :-1]) / 2, rtol=0, atol=1e-5)


def test_what_does_not_lead_back_is_occluded():
    """Allowed is a squared distance of 0.01 of the lengths' squares plus 0.5."""
    for back, kept in ((-2.0, True), (-2.7, True), (-2.9, False), (2.0, False)):
        mask = traceable(constant(2, 0), constant(back, 0))
        assert bool(mask[..., :13].all()) is kept


def test_the_way_back_starts_where_the_way_there_ended():
    """A block moves 2 px over a still background: all of it leads back, what it covers does not."""
    forward, backward = constant(0, 0).clone(), constant(0, 0).clone()
    forward[:, 0, :, 4:8], backward[:, 0, :, 6:10] = 2, -2
    kept = traceable(forward, backward)[0, 0, 0]
    boundary, covered = {3, 7}, {8, 9}
    assert {x for x in range(16) if not kept[x]} == boundary | covered


@pytest.mark.parametrize("axis", [2, 3])
def test_motion_boundaries_are_dropped(axis):
    """A step of 0.5 px lies above √0.002 px, though both sides lead back."""
    forward = constant(0, 0).clone()
    forward.narrow(axis, 8, 4).fill_(0.5)
    forward.narrow(axis, 12, forward.shape[axis] - 12).fill_(0.5)
    dropped = ~traceable(forward, -forward).any(5 - axis).flatten()
    assert dropped.nonzero().flatten().tolist() == [7]
