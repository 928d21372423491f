"""Clips that people have: whatever FFmpeg or Pillow reads comes in upright and in RGB, and is brought to size."""

import gc
import os
import re
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ivmix.media import Clip, count_frames, fit, read_clip, read_frames, read_video, upscale, write_video


def squares(f: int = 6, h: int = 64, w: int = 96, side: int = 8, seed: int = 0) -> np.ndarray:
    """Random squares that codecs keep: their sides are whole blocks, and no two frames or corners are alike."""
    colours = np.random.default_rng(seed).integers(0, 256, (f, h // side, w // side, 3), dtype=np.uint8)
    return colours.repeat(side, axis=1).repeat(side, axis=2)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b.astype(float)) ** 2), 1e-9)))


def film(
    path: Path, frames: np.ndarray, codec: str, pixels: str, times: Sequence[int] | None = None, **options: str
) -> Path:
    """Frames `f h w c` (c = 3, or 4 with alpha) written at 12 a second, or at `times` in twelfths of a second."""
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg lacks {codec}")
    with av.open(str(path), "w", options=options) as output:
        stream = output.add_stream(codec, rate=12)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        for time, frame in zip(times or range(len(frames)), frames, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgba" if frame.shape[2] == 4 else "rgb24")
            picture = picture.reformat(format=pixels)
            picture.pts, picture.time_base = time, Fraction(1, 12)
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return path


def sound(path: Path) -> Path:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=44100)
        for index in range(20):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            samples.sample_rate, samples.pts = 44100, 1024 * index
            output.mux(stream.encode(samples))
        output.mux(stream.encode(None))
    return path


def images(frames: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(frame) for frame in frames]


def animation(path: Path, frames: np.ndarray, **options: object) -> Path:
    first, *rest = images(frames)
    first.save(path, save_all=True, append_images=rest, **options)
    return path


# Films


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "least"),
    [
        ("clip.mp4", "libx264", "yuv420p", 26),
        ("clip.mp4", "libx265", "yuv420p10le", 20),
        ("clip.mov", "qtrle", "rgb24", 90),
        ("clip.mkv", "ffv1", "bgr0", 90),
        ("clip.webm", "libvpx-vp9", "yuv420p", 26),
        ("clip.avi", "mpeg4", "yuv420p", 24),
        ("clip.ts", "libx264", "yuv420p", 26),
    ],
)
def test_films_of_many_kinds_are_read_whatever_they_are_called(tmp_path, name, codec, pixels, least):
    path = film(tmp_path / name, squares(), codec, pixels)
    clip = read_clip(path)
    assert clip.frames.shape == squares().shape
    assert clip.frames.dtype == np.uint8
    assert psnr(clip.frames, squares()) > least
    assert clip.fps == pytest.approx(12)
    for other in ("notes.txt", "clip.png", "clip", "frames%03d.png"):
        path = path.rename(tmp_path / other)
        assert (read_clip(path).frames == clip.frames).all()


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), lambda frames: frames),
        ((0, 1, -1, 0), lambda frames: np.rot90(frames, -1, (1, 2))),  # a telephone held upright
        ((-1, 0, 0, -1), lambda frames: np.rot90(frames, 2, (1, 2))),
        ((0, -1, 1, 0), lambda frames: np.rot90(frames, 1, (1, 2))),
        ((-1, 0, 0, 1), lambda frames: frames[:, :, ::-1]),  # and its mirrored front camera
        ((0, 1, 1, 0), lambda frames: frames.transpose(0, 2, 1, 3)),
    ],
)
def test_films_are_turned_and_mirrored_as_they_say(tmp_path, matrix, shown):
    path = film(tmp_path / "clip.mov", squares(), "libx264", "yuv420p")
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 44  # the track header's matrix, a b u c d v x y w: ISO/IEC 14496-12, 8.3.2
    a, b, c, d = (number << 16 for number in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    assert psnr(read_clip(path).frames, shown(squares())) > 26


def test_frames_stay_as_stored_whatever_the_time_between_them(tmp_path):
    path = film(tmp_path / "clip.mkv", squares(), "ffv1", "bgr0", times=(0, 1, 2, 12, 13, 60))
    assert (read_clip(path).frames == squares()).all()


def test_transparent_films_are_laid_over_black(tmp_path):
    frames = np.concatenate([squares(), np.full((6, 64, 96, 1), 255, np.uint8)], axis=-1)
    frames[:, :32, :, 3], frames[:, :8, :, 3] = 0, 128
    shown = read_clip(film(tmp_path / "clip.mov", frames, "qtrle", "argb")).frames
    assert (shown[:, 32:] == squares()[:, 32:]).all()
    assert not shown[:, 8:32].any()
    assert np.abs(shown[:, :8] - squares()[:, :8] * (128 / 255)).max() <= 1


@pytest.mark.parametrize(("height", "matrix"), [(720, "ITU709"), (480, "ITU601")])
def test_films_that_do_not_tell_their_colours_are_shown_as_players_do(tmp_path, height, matrix):
    colour = np.full((height, 64, 3), (200, 60, 30), np.uint8)
    picture = av.VideoFrame.from_ndarray(colour, format="rgb24").reformat(format="yuv444p", dst_colorspace=matrix)
    picture.pts, picture.time_base = 0, Fraction(1, 12)
    with av.open(str(tmp_path / "clip.mkv"), "w") as output:
        stream = output.add_stream("ffv1", rate=12)
        stream.height, stream.width, stream.pix_fmt = height, 64, "yuv444p"
        output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    assert np.abs(read_clip(tmp_path / "clip.mkv").frames - colour.astype(int)).max() <= 3


def test_a_playlist_opens_no_other_file(tmp_path):
    film(tmp_path / "clip.ts", squares(), "libx264", "yuv420p")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nclip.ts\n#EXT-X-ENDLIST\n")
    (tmp_path / "list.txt").write_text("ffconcat version 1.0\nfile clip.ts\n")
    for name in ("list.m3u8", "list.txt"):
        with pytest.raises(ValueError, match="no video or picture"):
            read_clip(tmp_path / name)


# Pictures


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.ppm", "a.webp", "a.jpg"])
def test_a_picture_is_one_frame_without_a_rate(tmp_path, name):
    images(squares(1))[0].save(tmp_path / name, **({"lossless": True} if name == "a.webp" else {}))
    (tmp_path / name).rename(tmp_path / "a.mp4")
    clip = read_clip(tmp_path / "a.mp4")
    assert clip.fps is None
    assert clip.frames.shape == (1, 64, 96, 3)
    assert psnr(clip.frames, squares(1)) > (20 if name == "a.jpg" else 90)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_animations_keep_their_frames_and_their_rate(tmp_path, name):
    frames = squares(side=16)  # 24 colours a frame
    path = animation(tmp_path / name, frames, duration=100, **({"lossless": True} if name == "a.webp" else {}))
    assert (read_clip(path).frames == frames).all()
    assert read_clip(path).fps == pytest.approx(10)


def test_the_picture_beside_an_animation_is_not_one_of_its_frames(tmp_path):
    path = animation(tmp_path / "a.png", squares(), duration=100, default_image=True)
    assert (read_clip(path).frames == squares()[1:]).all()
    assert read_clip(path).fps == pytest.approx(10)


def test_the_pages_of_a_tiff_file_are_frames(tmp_path):
    clip = read_clip(animation(tmp_path / "a.tiff", squares()))
    assert (clip.frames == squares()).all()
    assert clip.fps is None


def test_a_photograph_with_a_depth_map_is_one_picture(tmp_path):
    photograph, other = Image.fromarray(squares(1)[0]), Image.new("RGB", (24, 16))
    photograph.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[other])
    assert read_clip(tmp_path / "a.jpg").frames.shape == (1, 64, 96, 3)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_photographs_are_turned_as_exif_says(tmp_path, name):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: held upright
    images(squares(1, side=16))[0].save(tmp_path / name, exif=exif)
    assert psnr(read_clip(tmp_path / name).frames, np.rot90(squares(1, side=16), -1, (1, 2))) > 20


def test_transparent_pictures_are_laid_over_black(tmp_path):
    Image.new("RGBA", (4, 4), (200, 100, 50, 51)).save(tmp_path / "soft.png")
    Image.new("LA", (4, 4), (200, 51)).save(tmp_path / "grey.png")
    hard = Image.new("P", (4, 4), 1)
    hard.putpalette([9, 9, 9, 200, 100, 50])
    hard.putpixel((0, 0), 0)
    hard.save(tmp_path / "hard.gif", transparency=0)
    shown = {name: read_clip(tmp_path / name).frames[0] for name in ("soft.png", "grey.png", "hard.gif")}
    assert (shown["soft.png"] == (40, 20, 10)).all()
    assert (shown["grey.png"] == 40).all()
    assert shown["hard.gif"][0, 0].tolist() == [0, 0, 0]
    assert shown["hard.gif"][1, 1].tolist() == [200, 100, 50]


def test_grey_two_level_and_16_bit_pictures_become_rgb(tmp_path):
    Image.new("L", (4, 4), 77).save(tmp_path / "grey.png")
    Image.new("1", (4, 4), 1).save(tmp_path / "ink.png")
    Image.new("CMYK", (4, 4), (0, 0, 0, 0)).save(tmp_path / "print.jpg")
    for suffix in ("png", "tiff", "ppm"):
        Image.fromarray(np.full((4, 4), 257 * 77, np.uint16)).save(tmp_path / f"deep.{suffix}")
    film(tmp_path / "grey.mkv", np.full((1, 4, 4, 3), 77, np.uint8), "ffv1", "gray16le")
    for name, level in [("grey.png", 77), ("ink.png", 255), ("print.jpg", 255), ("grey.mkv", 77)]:
        assert np.abs(read_clip(tmp_path / name).frames - [[[level] * 3]]).max() <= 1, name
    for suffix in ("png", "tiff", "ppm"):
        assert (read_clip(tmp_path / f"deep.{suffix}").frames == 77).all(), suffix


# Folders


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path):
    for index, name in enumerate(["a2.png", "a10.jpg", "a11.webp", "b1.PNG"]):
        Image.new("RGB", (2, 2), (10 * index,) * 3).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "._a2.png").write_text("what a Mac leaves")
    (tmp_path / "a3.png").mkdir()
    clip = read_clip(tmp_path)
    assert clip.fps is None
    assert np.abs(clip.frames[:, 0, 0, 0] - np.array([0, 10, 20, 30])).max() <= 1


def test_frames_of_a_folder_keep_their_order_beyond_a_thousand(tmp_path):
    for index in (2, 10, 999, 1000):
        Image.new("RGB", (2, 2), (index % 256, 0, 0)).save(tmp_path / f"frame_{index:03d}.png")
    assert read_video(tmp_path)[:, 0, 0, 0].tolist() == [2, 10, 999 % 256, 1000 % 256]


def test_sizes_may_not_change(tmp_path):
    for index, width in enumerate((4, 4, 6)):
        Image.new("RGB", (width, 4)).save(tmp_path / f"{index}.png")
    with pytest.raises(ValueError, match=r"/2.png': frame 2 is 4x6, those before are 4x4; expected one size for all"):
        read_clip(tmp_path)
    assert len(read_clip(tmp_path, limit=2).frames) == 2


# As few as needed


def test_no_more_frames_are_decoded_than_asked_for(tmp_path):
    path = film(tmp_path / "clip.mp4", squares(24), "libx264", "yuv420p", movflags="+faststart")
    whole = read_clip(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert (read_clip(path, limit=3).frames == whole.frames[:3]).all()
    assert read_clip(path, limit=3).fps == whole.fps
    gif = animation(tmp_path / "a.gif", squares(side=16), duration=100)
    assert (read_clip(gif, limit=2).frames == squares(side=16)[:2]).all()
    (tmp_path / "clip").mkdir()
    for index in range(3):
        Image.new("RGB", (2, 2)).save(tmp_path / "clip" / f"{index}.png")
    (tmp_path / "clip" / "3.png").write_text("broken")
    assert len(read_clip(tmp_path / "clip", limit=3).frames) == 3
    assert len(whole.frames) == len(read_clip(gif, limit=99).frames) + 18 == 24
    for limit in (0, -1):
        with pytest.raises(ValueError, match=f"limit is {limit}; expected the most frames to read, 1 or more"):
            read_clip(gif, limit=limit)


def test_frames_are_counted_and_chosen_across_all_files_of_a_clip(tmp_path):
    (tmp_path / "clip").mkdir()
    animation(tmp_path / "clip" / "1.webp", squares(side=16), duration=100, lossless=True)
    images(squares(1))[0].save(tmp_path / "clip" / "2.png")
    animation(tmp_path / "clip" / "3.webp", squares(side=16, seed=3), duration=100, lossless=True)
    whole = read_video(tmp_path / "clip")
    assert count_frames(tmp_path / "clip") == len(whole) == 13
    for wanted in ([0], [2, 5, 6, 7], range(5, 13, 3), [6], [12], range(11, 99)):
        assert (read_frames(tmp_path / "clip", wanted) == whole[[k for k in wanted if k < 13]]).all()
    with pytest.raises(ValueError, match=r"cannot read '.*clip': it ends before frame 13$"):
        read_frames(tmp_path / "clip", [13, 14])
    images(squares(1, w=64))[0].save(tmp_path / "clip" / "4.png")
    with pytest.raises(ValueError, match=r"4.png': frame 13 is 64x64, those before are 64x96"):
        read_frames(tmp_path / "clip", [3, 13])
    (tmp_path / "clip" / "4.png").write_text("broken")
    assert len(read_frames(tmp_path / "clip", range(3, 13))) == 10


def test_frames_are_let_go_at_once(tmp_path):
    """Not when garbage is next collected: they hold the picture, and threads that convert it."""
    path = film(tmp_path / "clip.avi", squares(), "mpeg4", "yuv420p")
    gc.collect()
    gc.disable()
    try:
        read_clip(path)
        left = [frame for frame in gc.get_objects() if type(frame) is av.VideoFrame]
    finally:
        gc.enable()
    assert not left


# Errors


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("missing.mp4", FileNotFoundError, "there is no such file or folder"),
        ("", ValueError, "it names no file"),
        ("a\0b.mp4", ValueError, "it names no file"),
        ("empty.mp4", ValueError, "the file is empty"),
        ("text.mp4", ValueError, "it is no video or picture that FFmpeg or Pillow reads, or it is cut short"),
        ("text.txt", ValueError, "it is no video or picture that FFmpeg or Pillow reads, or it is cut short"),
        ("text.png", ValueError, "it is no video or picture that FFmpeg or Pillow reads, or it is cut short"),
        ("titles.srt", ValueError, "it holds no video"),
        ("sound.m4a", ValueError, "it holds no video"),
        ("pipe.mp4", ValueError, "it is not a regular file"),
        ("floats.tiff", ValueError, "its pixels are floating-point numbers; expected 8 or 16 bits"),
        ("wide.tiff", ValueError, "its levels are 70000 to 70000; expected 8 or 16 bits"),
        ("folder", ValueError, r"the folder holds no pictures \(.png, .jpg, .jpeg, .webp\)"),
        ("text.txt/clip.mp4", FileNotFoundError, "there is no such file or folder"),
    ],
)
def test_what_is_no_clip_is_one_clear_error(tmp_path, name, error, message):
    sound(tmp_path / "sound.m4a")
    (tmp_path / "empty.mp4").touch()
    for suffix in ("mp4", "txt", "png"):
        (tmp_path / f"text.{suffix}").write_text("not a video\n" * 50)
    (tmp_path / "titles.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nnot a video\n\n")
    Image.new("F", (4, 4)).save(tmp_path / "floats.tiff")
    Image.new("I", (4, 4), 70000).save(tmp_path / "wide.tiff")
    (tmp_path / "folder").mkdir()
    film(tmp_path / "folder" / "clip.mp4", squares(), "mpeg4", "yuv420p")
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(error, match=rf"cannot read '.*{re.escape(repr(name)[1:])}: {message}$"):
        read_clip(name and f"{tmp_path}/{name}")


def test_the_picture_on_a_record_is_no_video(tmp_path):
    cover, audio = av.open(str(tmp_path / "cover.mp4"), "w"), sound(tmp_path / "sound.m4a")
    images(squares(1))[0].save(tmp_path / "cover.png")
    with cover, av.open(str(audio)) as music, av.open(str(tmp_path / "cover.png")) as picture:
        streams = [cover.add_stream_from_template(source.streams[0]) for source in (music, picture)]
        streams[1].disposition = av.stream.Disposition.attached_pic.value
        for source, stream in zip((music, picture), streams, strict=True):
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = stream
                    cover.mux(packet)
    with av.open(str(tmp_path / "cover.mp4")) as written:
        assert len(written.streams.video) == 1
    with pytest.raises(ValueError, match="it holds no video"):
        read_clip(tmp_path / "cover.mp4")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", ["a.mp4", "late.mp4", "a.webm", "a.mkv", "a.avi", "a.gif", "a.webp", "a.png", "a.jpg"])
def test_a_file_that_is_cut_short_is_an_error(tmp_path, name, kept):
    path, frames = tmp_path / name, squares(24)
    if name == "a.jpg":
        images(frames)[0].save(path)
    elif path.suffix in (".gif", ".webp", ".png"):
        animation(path, frames, duration=100)
    else:
        codec = {".webm": "libvpx-vp9", ".mkv": "ffv1", ".avi": "mpeg4"}.get(path.suffix, "libx264")
        film(path, frames, codec, "yuv420p", **({"movflags": "+faststart"} if name == "a.mp4" else {}))
    read_clip(path)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(ValueError, match=rf"cannot read '.*{name}': .*cut short"):
        read_clip(path)


# To size


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 48), (40, 104)])
def test_what_was_written_comes_back_as_it_was_drawn(tmp_path, height, width):
    frames = squares(8, height, width, side=1)
    for name in ("clip.webp", "clip"):
        write_video(frames, tmp_path / name)
        fitted, notes = fit(read_clip(tmp_path / name).frames, 8, height, width)
        assert (fitted == frames).all()
        assert re.fullmatch(rf"\d+x\d+ resized to {height}x{width}", " ".join(notes))
    write_video(frames, tmp_path / "clip.mp4")
    written = read_clip(tmp_path / "clip.mp4").frames
    fitted, _ = fit(written, 8, height, width)
    assert psnr(fitted, frames) > 40
    assert psnr(fitted, frames) >= psnr(written, upscale(frames))


def test_nothing_is_done_to_a_clip_that_fits():
    frames = squares()
    fitted, notes = fit(frames, 6, 64, 96)
    assert (fitted == frames).all()
    assert notes == []


def test_the_middle_is_cropped_and_all_is_said():
    frames = np.zeros((20, 36, 64, 3), np.uint8)
    frames[:, :, 14:50] = 200
    fitted, notes = fit(frames, 8, 12, 12)
    assert fitted.shape == (8, 12, 12, 3)
    assert (fitted == 200).all()
    assert notes == ["cut to the first 8 frames", "36x64 cropped to 36x36 and resized to 12x12"]
    fitted, notes = fit(frames.transpose(0, 2, 1, 3), 20, 36, 36)
    assert (fitted == 200).all()
    assert notes == ["64x36 cropped to 36x36"]


def test_the_first_frames_are_kept_and_a_picture_is_repeated():
    frames = squares()
    assert (fit(frames, 2, 64, 96)[0] == frames[:2]).all()
    assert fit(frames, 1, 64, 96)[1] == ["cut to the first frame"]
    fitted, notes = fit(frames[:1], 4, 64, 96)
    assert (fitted == frames[[0, 0, 0, 0]]).all()
    assert notes == ["one picture repeated to 4 frames"]
    assert fit(frames[:1], 1, 64, 96)[1] == []


def test_a_clip_that_is_too_short_is_refused():
    message = "the clip has 6 frames and 8 are to be drawn; draw fewer (--frames 6) or give a longer clip"
    with pytest.raises(ValueError, match=re.escape(message)):
        fit(squares(6), 8, 64, 96)


@pytest.mark.parametrize("to", [(30, 30), (32, 32), (63, 63)])
def test_shrinking_blends_what_is_too_fine(to):
    board = np.indices((64, 64)).sum(0) % 2 * 255
    frames = np.repeat(board.astype(np.uint8)[None, :, :, None], 3, axis=-1)
    fitted, _ = fit(frames[:, :60, :60] if to == (30, 30) else frames, 1, *to)
    assert abs(fitted.mean() - 127.5) < 2
    if to != (63, 63):  # nearly the same size: nearly the same board
        assert fitted.std() < 2


def test_growing_is_smooth():
    ramp = np.repeat(np.linspace(40, 200, 16).astype(np.uint8)[None, None, :, None], 16, axis=1).repeat(3, axis=3)
    fitted, notes = fit(ramp, 1, 64, 64)
    assert notes == ["16x16 resized to 64x64"]
    assert np.abs(np.diff(fitted[0, 32, :, 0].astype(int))).max() <= 4  # 11 with squares


@pytest.mark.parametrize(("name", "values"), [("length", (0, 4, 4)), ("height", (1, 0, 4)), ("width", (1, 4, -1))])
def test_a_size_of_nothing_is_refused(name, values):
    with pytest.raises(ValueError, match=rf"{name} is (0|-1); expected 1 or more"):
        fit(squares(), *values)


def test_extreme_shapes_fit():
    assert fit(np.zeros((1, 1, 500, 3), np.uint8), 1, 64, 64)[0].shape == (1, 64, 64, 3)
    assert fit(np.zeros((1, 500, 3, 3), np.uint8), 1, 8, 800)[0].shape == (1, 8, 800, 3)


def test_a_clip_tells_its_shape_rather_than_its_pixels():
    assert repr(Clip(squares(), 12.0)) == "Clip(frames=6x64x96x3, fps=12.0)"
