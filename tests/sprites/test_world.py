"""The world is the ground truth of every measurement, so it is checked against itself, pixel by pixel."""

import pytest
import torch
import torch.nn.functional as F

from ivmix.sprites.world import (
    COLOURS,
    FRAMES,
    MOTIONS,
    SHAPES,
    SIZE,
    WORDS,
    all_captions,
    balanced_captions,
    degrade,
    parse,
    random_scenes,
    render,
    watermark_mask,
)


def scenes(n: int = 64, seed: int = 0):
    return random_scenes(n, torch.Generator().manual_seed(seed))


def test_the_same_seed_draws_the_same_scenes_and_another_seed_others():
    a, b, c = render(scenes(8)), render(scenes(8)), render(scenes(8, seed=1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_captions_name_what_the_scene_holds_and_parse_back():
    drawn = scenes()
    for k, caption in enumerate(drawn.captions):
        assert parse(caption) == (drawn.colour[k], drawn.shape[k], drawn.motion[k])
        assert set(caption.split()) <= set(WORDS)
    assert len(set(all_captions())) == len(COLOURS) * len(SHAPES) * len(MOTIONS)


@pytest.mark.parametrize("caption", ["", "a red circle", "red circle moving left", "a red circle moving on", "a " * 9])
def test_a_text_that_is_no_caption_is_refused(caption):
    with pytest.raises(ValueError, match="is no caption"):
        parse(caption)


def test_given_captions_are_drawn():
    captions = all_captions()
    assert random_scenes(len(captions), torch.Generator().manual_seed(3), captions).captions == captions


def test_positions_follow_the_caption_at_constant_speed():
    drawn = scenes()
    steps = drawn.position.diff(dim=1)
    speed = (steps * torch.tensor(list(MOTIONS.values()))[drawn.motion][:, None]).sum(-1)
    assert ((speed >= 4.0 - 1e-4) & (speed <= 5.2 + 1e-4)).all()
    torch.testing.assert_close(steps, steps[:, :1].expand_as(steps), atol=1e-4, rtol=0)  # float32 pixels below 64
    assert drawn.position.min() >= 10  # the sprite never leaves the frame whole
    assert drawn.position.max() <= SIZE - 10


def test_the_sprite_is_painted_where_the_scene_says():
    """The centre of the pixels that change against the bare background is the recorded position (sprites inside)."""
    drawn = scenes(32)
    circles = drawn[(drawn.shape == SHAPES.index("circle")).nonzero()[:, 0]]
    clip = render(circles)
    saturation = clip.amax(1) - clip.amin(1)  # (b f h w): muted backgrounds stay below 0.4, sprites above 0.5 somewhere
    grid = torch.arange(SIZE) + 0.5
    weight = (saturation > 0.45).float()
    x = (weight * grid).sum((2, 3)) / weight.sum((2, 3))
    y = (weight * grid[:, None]).sum((2, 3)) / weight.sum((2, 3))
    inside = ((circles.position > 15) & (circles.position < SIZE - 15)).all(-1)
    error = torch.hypot(x - circles.position[..., 0], y - circles.position[..., 1])[inside]
    assert error.median() < 1  # a dark stripe or the outline can shift the centroid by a pixel


def test_a_single_frame_is_that_frame_of_the_clip():
    drawn = scenes(6)
    frame = torch.tensor([0, 1, 3, 5, 6, 7])
    assert FRAMES == 8
    torch.testing.assert_close(render(drawn.at(frame))[:, :, 0], render(drawn)[torch.arange(6), :, frame])


def test_degradation_is_off_at_zero_and_grows_with_its_amounts():
    clip = render(scenes(4))
    torch.testing.assert_close(degrade(clip, 0.0, 0.0), clip)
    half, full = ((degrade(clip, amount, amount) - clip).abs().mean() for amount in (0.5, 1.0))
    assert 0 < half < full


def test_amounts_may_differ_from_clip_to_clip():
    clip = render(scenes(2))
    both = degrade(clip, torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(both[0], clip[0])
    torch.testing.assert_close(both[1], degrade(clip[1:])[0])


def test_the_watermark_changes_its_own_pixels_only():
    clip = render(scenes(4))
    changed = (degrade(clip, 0.0, 1.0) - clip).abs().amax(dim=(0, 1, 2)) > 0
    assert torch.equal(changed, watermark_mask() > 0)


@pytest.mark.parametrize("degraded", [False, True])
def test_half_the_size_shows_the_same_picture(degraded):
    """What the latents are made of: two pixels' mean differs from theirs in what antialiasing samples."""
    clip, half = render(scenes(16)), render(scenes(16), SIZE // 2)
    if degraded:
        clip, half = degrade(clip), degrade(half)
    shrunk = F.avg_pool2d(clip.flatten(1, 2), 2).unflatten(1, (3, -1))
    difference, a_pixel_off = ((picture - shrunk).abs().mean() for picture in (half, half.roll(1, -1)))
    assert difference < a_pixel_off / 2


def test_captions_and_scenes_must_be_as_many():
    with pytest.raises(ValueError, match="2 captions for n=3"):
        random_scenes(3, torch.Generator(), all_captions()[:2])


def test_few_clips_are_a_fair_sample_of_the_captions():
    names = balanced_captions()
    assert sorted(names) == sorted(all_captions())
    seen = [parse(name) for name in names]
    for start in range(0, 64, 4):
        assert all(len(set(values)) == 4 for values in zip(*seen[start : start + 4], strict=True))
    for start in range(0, 64, 16):
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert len({(row[one], row[other]) for row in seen[start : start + 16]}) == 16
