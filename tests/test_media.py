"""Frames at the edges: what is written reads back, same frames, same bytes, and nothing is ever half-written."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from ivmix import media
from ivmix.media import (
    animated_png,
    check_writable,
    contact_sheet,
    read_video,
    side_by_side,
    to_frames,
    upscale,
    write_video,
)

NAMES = ("clip.mp4", "clip.gif", "clip.webp", "clip")


def noise(f: int = 5, h: int = 32, w: int = 40, seed: int = 0) -> np.ndarray:
    """Saturated noise, two equal neighbours among its frames: hard for every encoder."""
    frames = np.random.default_rng(seed).integers(0, 256, (f, h, w, 3), dtype=np.uint8)
    frames[f // 2] = frames[f // 2 - 1]
    return frames


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, hidden ones and empty folders included."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


# Tensors to frames


def test_every_level_survives_the_way_to_a_tensor_and_back():
    levels = torch.arange(256, dtype=torch.float64)
    video = (levels / 127.5 - 1).reshape(1, 1, 1, 16, 16).expand(2, 3, 4, 16, 16)
    for dtype in (torch.float64, torch.float32):
        frames = to_frames(video.to(dtype))
        assert frames.shape == (2, 4, 16, 16, 3)
        assert frames.dtype == np.uint8
        assert (frames[1, 2, :, :, 1].reshape(-1) == np.arange(256)).all()


def test_to_frames_moves_the_axes_and_rounds_to_nearest():
    video = torch.zeros(1, 3, 2, 4, 5)
    video[0, 0, 1, 2, 3] = 0.2 / 127.5 + 1 / 255  # level 128.2
    frames = to_frames(video)
    assert frames[0, 1, 2, 3].tolist() == [128, 128, 128]
    video[0, 0, 1, 2, 3] = 1.3 / 127.5 + 1 / 255
    assert to_frames(video)[0, 1, 2, 3].tolist() == [129, 128, 128]
    assert to_frames(torch.full((1, 3, 1, 1, 1), -7.0)).item(0) == 0
    assert to_frames(torch.full((1, 3, 1, 1, 1), 7.0, dtype=torch.bfloat16)).item(0) == 255


def test_to_frames_refuses_what_cannot_be_shown():
    for value in (float("nan"), float("inf")):
        video = torch.zeros(1, 3, 1, 2, 2)
        video[0, 0, 0, 1, 1] = value
        with pytest.raises(ValueError, match="NaN or infinite"):
            to_frames(video)
    with pytest.raises(ValueError, match=re.escape("video is (1, 4, 1, 2, 2); expected b c f h w with c = 3")):
        to_frames(torch.zeros(1, 4, 1, 2, 2))


# Upscaling


@pytest.mark.parametrize(
    ("size", "factor"),
    [((32, 32), 8), ((32, 200), 8), ((37, 64), 8), ((200, 150), 2), ((256, 256), 1), ((300, 511), 1)],
)
def test_small_videos_are_enlarged_by_an_even_factor_to_256_pixels(size, factor):
    frames = noise(2, *size)
    large = upscale(frames)
    assert large.shape == (2, size[0] * factor, size[1] * factor, 3)
    assert min(large.shape[1:3]) >= 256
    assert all((large[:, i::factor, j::factor] == frames).all() for i in range(factor) for j in range(factor))


# Round trips


@pytest.mark.parametrize("name", ["clip.webp", "clip", "clip.d/", "CLIP.WebP"])
@pytest.mark.parametrize("frames", [noise(), noise(1), noise(2, 257, 301)], ids=["small", "single", "odd"])
def test_webp_and_png_folders_are_exact(tmp_path, name, frames):
    path = f"{tmp_path}/{name}"
    write_video(frames, path)
    assert (read_video(path) == upscale(frames)).all()


@pytest.mark.parametrize(("codec", "least"), [("h264", 42), ("mpeg4", 32)])
def test_mp4_is_visually_lossless(tmp_path, monkeypatch, codec, least):
    if codec == "mpeg4":  # an FFmpeg without libx264
        monkeypatch.setattr(media.av, "codecs_available", {"mpeg4"})
    frames = noise()
    write_video(frames, tmp_path / "clip.mp4", fps=12)
    back = read_video(tmp_path / "clip.mp4")
    assert back.shape == upscale(frames).shape
    assert psnr(back, upscale(frames)) > least
    assert np.abs(back.mean((0, 1, 2)) - upscale(frames).mean((0, 1, 2))).max() < 2  # no cast of colour
    with av.open(str(tmp_path / "clip.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == (codec, "yuv420p")
        assert (stream.average_rate, stream.frames) == (12, len(frames))
    data = (tmp_path / "clip.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert b"Lavf" not in data
    if codec == "h264":
        assert b" threads=1 " in data  # x264 notes its settings; more threads would give other bytes elsewhere


def test_mp4_says_which_colours_it_holds(tmp_path):
    write_video(noise(), tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as file:
        picture = next(file.decode(video=0))
    assert (picture.colorspace, picture.color_primaries, picture.color_trc, picture.color_range) == (1, 1, 1, 1)


def test_mp4_makes_odd_sides_even_by_repeating_the_last_pixels(tmp_path):
    ramp = np.add.outer(np.arange(259) // 2, np.arange(301) // 2).astype(np.uint8)
    frames = np.stack([ramp[None]] * 3, axis=-1)
    write_video(frames, tmp_path / "clip.mp4")
    back = read_video(tmp_path / "clip.mp4")
    assert back.shape == (1, 260, 302, 3)
    assert psnr(back[:, :259, :301], frames) > 42
    assert psnr(back[:, 259, :301], frames[:, 258]) > 38


def test_gif_is_exact_up_to_256_colours(tmp_path):
    colours = np.random.default_rng(1).integers(0, 256, (256, 3), dtype=np.uint8)
    frames = colours[np.random.default_rng(2).integers(0, 256, (4, 32, 32))]
    frames[2] = frames[1]
    write_video(frames, tmp_path / "clip.gif")
    assert (read_video(tmp_path / "clip.gif") == upscale(frames)).all()


def test_gif_dithers_what_needs_more_than_256_colours(tmp_path):
    y, x = np.mgrid[:256, :256]
    frames = np.stack([x, y, np.full_like(x, 90)], axis=-1)[None].astype(np.uint8)
    write_video(frames, tmp_path / "clip.gif")
    error = read_video(tmp_path / "clip.gif").astype(float) - frames
    assert np.sqrt((error**2).mean()) < 6  # levels, from a palette of 256
    assert np.sqrt((error.reshape(32, 8, 32, 8, 3).mean((1, 3)) ** 2).mean()) < 1.5  # the eye averages; 2.4 undithered


@pytest.mark.parametrize(("name", "unit"), [("clip.gif", 10), ("clip.webp", 1)])
def test_animations_loop_and_last_as_long_as_they_should(tmp_path, name, unit):
    write_video(noise(8), tmp_path / name, fps=6)
    with Image.open(tmp_path / name) as image:
        assert image.n_frames == 8
        assert image.info["loop"] == 0  # for ever
        total = 0
        for index in range(8):
            image.seek(index)
            image.load()
            total += image.info["duration"]
    assert abs(total - 8000 / 6) <= 8 * unit


def test_an_animated_png_is_exact_and_lasts_as_long_as_it_should():
    frames = noise()
    with Image.open(io.BytesIO(animated_png(frames, fps=8))) as image:
        shown, milliseconds = [], 0.0
        for index in range(image.n_frames):
            image.seek(index)
            shown.append(np.asarray(image.convert("RGB")))
            milliseconds += image.info["duration"]
    assert image.info["loop"] == 0
    assert milliseconds == pytest.approx(1000 * len(frames) / 8, abs=1)
    different = [k for k in range(len(frames)) if k == 0 or (frames[k] != frames[k - 1]).any()]
    assert (np.stack(shown) == upscale(frames[different])).all()  # equal neighbours are one, shown twice as long


def test_frames_of_a_folder_keep_their_order_beyond_a_thousand(tmp_path):
    (tmp_path / "clip").mkdir()
    for index in (2, 10, 999, 1000):
        Image.new("RGB", (2, 2), (index % 256, 0, 0)).save(tmp_path / "clip" / f"frame_{index:03d}.png")
    assert read_video(tmp_path / "clip")[:, 0, 0, 0].tolist() == [2, 10, 999 % 256, 1000 % 256]
    check_writable(tmp_path / "clip")


def test_reading_something_else_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"unknown suffix '.avi'"):
        read_video(tmp_path / "clip.avi")
    with pytest.raises(ValueError, match=r"no frame_000\.png"):
        read_video(tmp_path)
    for name in NAMES:
        with pytest.raises(OSError, match="clip"):
            read_video(tmp_path / name)


# The same bytes


def test_the_same_frames_give_the_same_bytes(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for name in NAMES:
        write_video(noise(), tmp_path / "one" / name)
    time.sleep(1.1)  # a date in a file would differ now
    for name in NAMES:
        write_video(noise(), tmp_path / "two" / name)
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert len(one) == len(NAMES) + 5
    assert one == two


# Atomic


class Full(Exception):
    pass


@pytest.mark.parametrize("error", [Full, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("existing", [False, True])
def test_a_failure_leaves_the_old_target_and_nothing_else(tmp_path, monkeypatch, error, name, existing):
    if existing:
        write_video(noise(seed=1), tmp_path / name)
    before = contents(tmp_path)
    pictures, save, saved = media._pictures, Image.Image.save, []

    def broken_pictures(frames, pixels):
        yield from list(pictures(frames, pixels))[:3]
        raise error("in the middle")

    def broken_save(self, *args, **kwargs):
        save(self, *args, **kwargs)
        saved.append(self)
        if len(saved) == 3:
            raise error("in the middle")

    monkeypatch.setattr(media, "_pictures", broken_pictures)
    monkeypatch.setattr(Image.Image, "save", broken_save)
    with pytest.raises(error, match="in the middle"):
        write_video(noise(), tmp_path / name)
    assert contents(tmp_path) == before


def test_a_folder_survives_a_failure_between_the_two_renames(tmp_path, monkeypatch):
    write_video(noise(seed=1), tmp_path / "clip")
    before, rename = contents(tmp_path), Path.rename

    def broken(self, target):
        if Path(target) == tmp_path / "clip" and not broken.done:
            broken.done = True
            raise KeyboardInterrupt
        return rename(self, target)

    broken.done = False
    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises(KeyboardInterrupt):
        write_video(noise(), tmp_path / "clip")
    assert broken.done
    assert contents(tmp_path) == before


def test_a_full_disk_is_one_clear_error(tmp_path):
    script = f"""
import resource, numpy
from ivmix.media import write_video
frames = numpy.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=numpy.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for name in {NAMES}:
    try:
        write_video(frames, {str(tmp_path)!r} + "/" + name)
    except OSError as error:
        print(error.strerror, flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    expected = [f"cannot write '{tmp_path / name}': File too large; nothing was changed there" for name in NAMES]
    assert done.stdout.splitlines() == expected
    assert not contents(tmp_path)


def test_killed_while_writing_leaves_nothing_under_the_final_name(tmp_path):
    script = f"""
import numpy
from ivmix.media import write_video
frames = numpy.random.default_rng(0).integers(0, 256, (60, 480, 640, 3), dtype=numpy.uint8)
write_video(frames, {str(tmp_path / "clip.mp4")!r})
"""
    child = subprocess.Popen([sys.executable, "-c", script])
    try:
        deadline = time.monotonic() + 60
        while not [p for p in tmp_path.glob(".*.tmp") if p.stat().st_size]:
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / "clip.mp4").exists()


def test_an_existing_video_is_replaced_whole(tmp_path):
    for name in NAMES:
        write_video(noise(7, seed=1), tmp_path / name)
        write_video(noise(3), tmp_path / name)
        assert len(read_video(tmp_path / name)) == 3
    assert len(contents(tmp_path)) == len(NAMES) + 3


def test_links_are_written_through_and_stay(tmp_path):
    (tmp_path / "far").mkdir()
    for name in NAMES:
        (tmp_path / name).symlink_to(tmp_path / "far" / name)
        for seed in (1, 2):
            write_video(noise(seed=seed), tmp_path / name)
        assert (tmp_path / name).is_symlink()
        assert len(read_video(tmp_path / "far" / name)) == 5


def test_a_link_into_a_missing_folder_is_refused(tmp_path):
    (tmp_path / "clip.mp4").symlink_to(tmp_path / "missing" / "clip.mp4")
    with pytest.raises(FileNotFoundError, match=r"missing' does not exist; create it first"):
        check_writable(tmp_path / "clip.mp4")


def test_text_and_images_are_atomic(tmp_path, monkeypatch):
    media.write_text("σ = 1\n", tmp_path / "a.json")
    assert (tmp_path / "a.json").read_bytes() == "σ = 1\n".encode()
    image = Image.fromarray(noise()[0])
    media.write_image(image, tmp_path / "a.png")
    assert (np.asarray(Image.open(tmp_path / "a.png")) == noise()[0]).all()
    before = contents(tmp_path)
    monkeypatch.setattr(Image.Image, "save", lambda self, path, **_: (Path(path).write_bytes(b"half"), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        media.write_image(image, tmp_path / "a.png")
    with pytest.raises(UnicodeEncodeError):
        media.write_text("x\ud800", tmp_path / "a.json")
    assert contents(tmp_path) == before
    with pytest.raises(ValueError, match=r"unknown suffix '.jpg', accepted: .png"):
        media.write_image(image, tmp_path / "a.jpg")


# Refusals


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (
            "out.avi",
            ValueError,
            r"'.*/out.avi': unknown suffix '.avi', accepted: .mp4, .gif, .webp, no suffix \(a folder",
        ),
        ("out.", ValueError, r"unknown suffix '.', accepted"),
        ("frames.v2", ValueError, r"a folder whose name has a dot ends in /"),
        ("..", ValueError, r"it names no file"),
        (
            "missing/out.mp4",
            FileNotFoundError,
            r"folder '.*/missing' does not exist; create it first: mkdir -p .*/missing",
        ),
        ("file.txt/out.mp4", NotADirectoryError, r"'.*/file.txt' is not a folder"),
        ("folder.mp4", IsADirectoryError, r"exists and is not a regular file"),
        ("pipe.mp4", IsADirectoryError, r"exists and is not a regular file"),
        ("full", FileExistsError, r"the folder holds other files \(notes.txt\); choose a new or an empty folder"),
        ("plain", NotADirectoryError, r"a file of that name exists; remove it, or give a suffix such as .mp4"),
        ("x" * 300 + ".mp4", OSError, r"File name too long; choose another name"),
    ],
)
def test_a_bad_target_is_refused_before_anything_runs(tmp_path, name, error, message):
    (tmp_path / "file.txt").write_text("")
    (tmp_path / "plain").write_text("")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "full" / "frame_000.png").write_text("")
    os.mkfifo(tmp_path / "pipe.mp4")
    before = sorted(tmp_path.rglob("*"))
    for refuse in (check_writable, lambda path: write_video(noise(), path)):
        with pytest.raises(error, match=message):
            refuse(f"{tmp_path}/{name}")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_a_name_is_needed(name):
    with pytest.raises(ValueError, match=r"it names no file; give one such as 'out.mp4'"):
        check_writable(name)


def test_a_place_without_permission_is_refused(tmp_path):
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked.mp4").write_text("mine")
    os.chmod(tmp_path / "locked.mp4", 0o444)
    os.chmod(tmp_path / "locked", 0o555)
    if os.access(tmp_path / "locked", os.W_OK):
        pytest.skip("this user may write anywhere")
    with pytest.raises(PermissionError, match=r"locked' is not writable \(Permission denied\); choose another place"):
        check_writable(tmp_path / "locked" / "out.mp4")
    with pytest.raises(PermissionError, match="write-protected"):
        check_writable(tmp_path / "locked.mp4")


def test_a_file_system_that_takes_no_file_is_refused():
    if not Path("/proc/self").exists():
        pytest.skip("needs a file system nobody can write to, such as Linux's /proc")
    with pytest.raises(OSError, match=r"cannot write '/proc/out.mp4': folder '/proc' is not writable"):
        check_writable("/proc/out.mp4")


@pytest.mark.parametrize("name", [*NAMES, "clip.d/", "old", "old.mp4", "empty"])
def test_a_good_target_is_accepted_and_left_alone(tmp_path, name, monkeypatch):
    (tmp_path / "old.mp4").write_bytes(b"old")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "frame_000.png").write_bytes(b"old")
    (tmp_path / "empty").mkdir()
    before = contents(tmp_path)
    check_writable(f"{tmp_path}/{name}")
    monkeypatch.chdir(tmp_path)
    check_writable(name)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (noise().astype(np.float32), "frames is float32; expected a uint8 array f h w c"),
        (noise().tolist(), "frames is list; expected a uint8 array f h w c"),
        (noise()[0], "frames is (32, 40, 3); expected f h w c with c = 3 and nothing empty"),
        (noise()[..., :2], "frames is (5, 32, 40, 2)"),
        (noise()[:0], "frames is (0, 32, 40, 3)"),
    ],
)
def test_frames_of_another_kind_are_refused(tmp_path, frames, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        write_video(frames, tmp_path / "clip.mp4")
    assert not contents(tmp_path)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e9])
def test_an_impossible_rate_is_refused(tmp_path, fps):
    with pytest.raises(ValueError, match=r"fps is .*; expected frames per second, from 0.1 to 1000"):
        write_video(noise(), tmp_path / "clip.mp4", fps=fps)


# Figures


def flat(colour: tuple[int, int, int], f: int = 4, h: int = 32, w: int = 32) -> np.ndarray:
    return np.full((f, h, w, 3), colour, np.uint8)


def box(image: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of the pixels of exactly this colour."""
    ys, xs = np.nonzero((image == colour).all(-1))
    return int(ys.min()), int(ys.max()) + 1, int(xs.min()), int(xs.max()) + 1


@pytest.mark.parametrize(("f", "h", "w"), [(1, 8, 8), (8, 32, 32), (3, 512, 512), (4, 40, 200)])
def test_a_contact_sheet_shows_every_frame_whole_beside_its_label(f, h, w):
    clip = flat((0, 0, 0), f, h, w)
    clip[:, :, :, 0], clip[:, :, :, 1] = 200, 10 + np.arange(f, dtype=np.uint8)[:, None, None]
    sheet = contact_sheet([("a label that is long", clip), ("b", flat((0, 0, 255), f, h, w))])
    pixels = np.asarray(sheet)
    factor = upscale(clip, 96).shape[1] // h
    tops, lefts = [], []
    for index in range(f):
        top, bottom, left, right = box(pixels, (200, 10 + index, 0))
        assert (bottom - top, right - left) == (h * factor, w * factor)
        assert (pixels[top:bottom, left:right] == clip[index, 0, 0]).all()
        tops.append(top)
        lefts.append(left)
    assert len(set(tops)) == 1
    assert len({*np.diff(lefts)}) <= 1
    assert lefts == sorted(lefts)
    label = np.asarray(contact_sheet([("a lebal that is long", clip), ("b", flat((0, 0, 255), f, h, w))])) != pixels
    assert label.any()
    assert not label[:, lefts[0] :].any()
    assert not label[box(pixels, (0, 0, 255))[0] :].any()


@pytest.mark.parametrize(("f", "size"), [(8, 32), (16, 64), (16, 256), (16, 512), (32, 320)])
def test_labels_stay_readable_when_the_sheet_is_shown_on_a_page(f, size):
    sheet = contact_sheet([("IV-Mixed", flat((0, 0, 255), f, size, size))])
    pixels = np.asarray(sheet)
    left = box(pixels, (0, 0, 255))[2]
    ys, _ = np.nonzero((pixels[:, :left] < 160).all(-1))
    assert (ys.max() - ys.min()) * 1600 / max(sheet.width, 1600) > 9  # height of capitals, at most 1600 pixels wide


def test_clips_of_a_sheet_may_differ_and_a_long_title_is_wrapped():
    rows = [("short", flat((255, 0, 0), 2)), ("long\nand two lines", flat((0, 255, 0), 5, 64, 48))]
    plain = contact_sheet(rows)
    titled = contact_sheet(rows, title="every word of a title that is long " * 10)
    assert titled.width == plain.width
    assert titled.height > plain.height + 60
    below = np.asarray(titled)[-plain.height + 20 :]
    assert (below == np.asarray(plain)[20:]).all()
    assert (np.asarray(titled)[:, -4:] == np.asarray(titled)[0, 0]).all()  # a margin on the right


def test_side_by_side_is_a_grid_of_whole_clips():
    colours = [(255, 10 * i, 0) for i in range(5)]
    clips = [(f"clip {i}", flat(c)) for i, c in enumerate(colours)]
    for frames in (clip for _, clip in clips):
        frames[2] //= 2
    grid = side_by_side(clips)
    boxes = [box(grid[0], c) for c in colours]
    assert all((b - t, r - l) == (256, 256) for t, b, l, r in boxes)
    assert [b[0] for b in boxes[:3]] == [boxes[0][0]] * 3
    assert [b[2] for b in boxes[3:]] == [b[2] for b in boxes[:2]]
    assert all(value % 2 == 0 for b in boxes for value in b)  # whole blocks of a video's colour planes
    for (_, clip), (top, bottom, left, right) in zip(clips, boxes, strict=True):
        assert (grid[:, top:bottom, left:right] == clip[:, :1, :1]).all()
        grid[:, top:bottom, left:right] = 0
    assert (grid == grid[:1]).all()  # labels and paper stand still
    ys, _ = np.nonzero((grid[0, : boxes[0][0]] < 160).all(-1))  # and labels are whole, from the l of "clip" to its p
    assert ys.max() - ys.min() >= 14


@pytest.mark.parametrize(("n", "columns", "shape"), [(1, None, 1), (3, None, 3), (4, None, 2), (6, None, 3), (6, 2, 2)])
def test_columns_of_a_grid(n, columns, shape):
    colours = [(255, 10 * i, 0) for i in range(n)]
    grid = side_by_side([("", flat(c, 1)) for c in colours], columns=columns)
    assert len({box(grid[0], c)[2] for c in colours}) == shape


def test_a_label_wider_than_its_clip_is_not_cut():
    one, two = ("w" * 60, flat((255, 0, 0))), ("x", flat((0, 0, 255)))
    grid = side_by_side([one, two])
    other = side_by_side([("w" * 59 + "i", one[1]), two])
    assert box(grid[0], (0, 0, 255))[2] > box(other[0], (0, 0, 255))[2] > 300


def test_figures_refuse_what_they_cannot_lay_out():
    clip = ("a", flat((1, 2, 3)))
    for figure, name in ((contact_sheet, "rows"), (side_by_side, "clips")):
        with pytest.raises(ValueError, match=f"{name} is empty"):
            figure([])
        with pytest.raises(ValueError, match=rf"{name}\[1\] is float64"):
            figure([clip, ("b", np.zeros((1, 2, 2, 3)))])
    with pytest.raises(ValueError, match="expected one shape for all"):
        side_by_side([clip, ("b", flat((1, 2, 3), f=5))])
    for columns in (0, 3):
        with pytest.raises(ValueError, match=f"columns is {columns}; expected 1 to 2"):
            side_by_side([clip, clip], columns=columns)


def test_checking_a_target_needs_no_torch():
    script = "import sys, ivmix.media; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
