"""Frames at the edges: what is written reads back, same frames, same bytes, and nothing is ever half-written."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ivmix import media
from ivmix.media import (
    animated_png,
    check_fps,
    check_writable,
    read_clip,
    read_video,
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


# Round trips


@pytest.mark.parametrize("name", ["clip.webp", "clip", "clip.d/", "CLIP.WebP"])
@pytest.mark.parametrize("frames", [noise(), noise(1), noise(2, 257, 301)], ids=["small", "single", "odd"])
def test_webp_and_png_folders_are_exact(tmp_path, name, frames):
    path = f"{tmp_path}/{name}"
    write_video(frames, path)
    assert (read_video(path) == upscale(frames)).all()


@pytest.mark.parametrize("size", [(64, 64), (8, 8), (1, 1), (5, 3)])
@pytest.mark.parametrize("name", NAMES)
def test_frames_are_written_at_their_own_size_if_asked(tmp_path, name, size):
    h, w = size
    frames = np.broadcast_to(np.linspace(20, 235, 4 * w).astype(np.uint8).reshape(4, 1, w, 1), (4, h, w, 3)).copy()
    write_video(frames, tmp_path / name, upscaled=False)
    back = read_video(tmp_path / name)
    if name == "clip.mp4":
        assert back.shape == (4, h + h % 2, w + w % 2, 3)
        assert psnr(back[:, :h, :w], frames) > 36
    else:
        assert (back == frames).all()


@pytest.mark.parametrize(("codec", "least"), [("h264", 42), ("mpeg4", 32)])
def test_mp4_is_visually_lossless(tmp_path, monkeypatch, codec, least):
    if codec == "mpeg4":  # an FFmpeg without libx264
        monkeypatch.setattr(media.writing.av, "codecs_available", {"mpeg4"})
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


def writing(path: Path, before: str = "") -> subprocess.Popen:
    """A process in the middle of writing a long clip to `path`, after the statements `before`."""
    script = f"""
import numpy, signal, sys
from ivmix.media import write_video
{before}
frames = numpy.random.default_rng(0).integers(0, 256, (60, 480, 640, 3), dtype=numpy.uint8)
write_video(frames, {str(path)!r})
"""
    child = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not [p for p in path.parent.rglob("*") if ".tmp" in str(p) and p.is_file() and p.stat().st_size]:
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return child


@pytest.mark.slow
@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.webp", "clip"])
def test_an_interrupt_leaves_the_old_target_and_nothing_else(tmp_path, name, existing):
    if existing:
        write_video(noise(seed=1), tmp_path / name)
    before = contents(tmp_path)
    child = writing(tmp_path / name, "signal.signal(signal.SIGINT, signal.default_int_handler)")  # shells may ignore it
    child.send_signal(signal.SIGINT)
    assert child.communicate()[1].endswith("KeyboardInterrupt\n")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["clip.mp4", "clip"])
def test_a_signal_that_ends_the_program_leaves_nothing(tmp_path, name):
    child = writing(tmp_path / name, "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))")
    child.send_signal(signal.SIGTERM)
    child.communicate()
    assert child.returncode == 7
    assert contents(tmp_path) == {}


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


@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_is_one_clear_error(tmp_path, existing):
    for name in NAMES if existing else ():
        write_video(noise(seed=1), tmp_path / name)
    before = contents(tmp_path)
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
    assert contents(tmp_path) == before


def test_killed_while_writing_leaves_nothing_under_the_final_name(tmp_path):
    child = writing(tmp_path / "clip.mp4")
    child.kill()
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / "clip.mp4").exists()


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
def test_files_have_the_permissions_that_others_expect(tmp_path, umask):
    old = os.umask(umask)
    try:
        for name in NAMES:
            write_video(noise(), tmp_path / name)
        media.write_text("text", tmp_path / "a.json")
        media.write_image(Image.fromarray(noise()[0]), tmp_path / "a.png")
    finally:
        os.umask(old)
    paths = list(tmp_path.rglob("*"))
    assert len(paths) == len(NAMES) + 5 + 2
    for path in paths:
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask, path


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
        ("plain", NotADirectoryError, r"exists and is not a folder; choose another name, or a suffix such as .mp4"),
        ("file.txt/sub/out.mp4", NotADirectoryError, r"'.*/file.txt' is not a folder"),
        ("my folder/out.mp4", FileNotFoundError, r"create it first: mkdir -p '.*/my folder'$"),
        ("x" * 300 + ".mp4", OSError, r"File name too long; choose another name"),
        ("x" * 300 + "/out.mp4", OSError, r"File name too long; choose another name"),
        ("loop.mp4", OSError, r"symbolic links; choose another name"),
        ("a\0b.mp4", ValueError, r"'.*a\\x00b.mp4': a name cannot hold control characters"),
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
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    before = sorted(tmp_path.rglob("*"))
    for refuse in (check_writable, lambda path: write_video(noise(), path)):
        with pytest.raises(error, match=message):
            refuse(f"{tmp_path}/{name}")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["", ".", "..", "/", "./", "a/.."])
def test_a_name_is_needed(name):
    with pytest.raises(ValueError, match=r"it names no file; give one such as 'out.mp4'"):
        check_writable(name)


@pytest.mark.parametrize("name", [*NAMES, "empty"])
def test_what_exists_is_kept_on_request(tmp_path, name):
    if name == "empty":
        (tmp_path / name).mkdir()
    else:
        check_writable(tmp_path / name, clobber=False)
        write_video(noise(), tmp_path / name)
    before = contents(tmp_path)
    message = f"cannot write '{tmp_path / name}': it exists already; choose another name, or remove it first"
    with pytest.raises(FileExistsError, match=re.escape(message)):
        check_writable(tmp_path / name, clobber=False)
    assert contents(tmp_path) == before
    check_writable(tmp_path / name)


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


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e9, "8", None])
def test_an_impossible_rate_is_refused(tmp_path, fps):
    for refuse in (check_fps, lambda fps: write_video(noise(), tmp_path / "clip.mp4", fps=fps)):
        with pytest.raises(ValueError, match=rf"fps is {fps!r}; expected frames per second, from 0.1 to 1000"):
            refuse(fps)
    assert not contents(tmp_path)


@pytest.mark.parametrize("fps", [0.1, 1000, np.float32(24), np.int64(8), Fraction(30000, 1001)])
def test_any_kind_of_number_is_a_rate(tmp_path, fps):
    check_fps(fps)
    write_video(noise(), tmp_path / "clip.mp4", fps=fps)
    assert read_clip(tmp_path / "clip.mp4").fps == pytest.approx(float(fps), rel=1e-4)


def test_checking_a_target_needs_no_torch():
    script = "import sys, ivmix.media; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
