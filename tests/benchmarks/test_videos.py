"""Video files as clips: the frames that a rule names and no others, of real files in the shapes that people have."""

import os
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from ivmix.benchmarks.measuring import Meter, collect, measure
from ivmix.benchmarks.plan import files_plan
from ivmix.benchmarks.rules import ClipRule
from ivmix.benchmarks.videos import Files, read_ruled
from ivmix.evaluation.extractors import Extractor
from ivmix.evaluation.preprocessing import Preprocessing, Resize
from ivmix.evaluation.protocols import Extraction
from ivmix.media import count_frames, read_clip, write_video

FIRST = ClipRule(8)
RULES = [
    FIRST, ClipRule(), ClipRule(None, 7), ClipRule(5, 4), ClipRule(8, start="middle"), ClipRule(1, start="middle"),
    ClipRule(8, start="random"), ClipRule(4, 3, "random"), ClipRule(24, start="random"),
]  # fmt: skip
ALL, FOUR, MIDDLE = Preprocessing(None, resize=Resize("square")), Preprocessing(4), Preprocessing(4, "middle")


def moving(f: int = 24, h: int = 48, w: int = 64, seed: int = 0) -> np.ndarray:
    """Blocks of random colours that codecs keep apart, no two frames alike."""
    colours = np.random.default_rng(seed).integers(0, 256, (f, h // 16, w // 16, 3), dtype=np.uint8)
    return colours.repeat(16, axis=1).repeat(16, axis=2)


def film(path: Path, frames: np.ndarray, codec: str = "mpeg4", tag: str = "XVID", between: int = 2) -> Path:
    """Frames `f h w c` at 25 a second, as UCF-101 has them: MPEG-4 with frames that refer to later ones, in an AVI."""
    with av.open(str(path), "w", format="avi" if path.suffix == ".avi" else None) as output:
        stream = output.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        stream.codec_context.max_b_frames = between
        if tag:
            stream.codec_context.codec_tag = tag
        for time, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p")
            picture.pts, picture.time_base = time, Fraction(1, 25)
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    for name in ("clip.mp4", "clip.webp", "clip.gif", "clip"):
        write_video(moving(), folder / name)
    film(folder / "ucf.avi", moving(24, 240, 320))
    film(folder / "plain.avi", moving(), between=0)
    film(folder / "late.mp4", moving(), "libx264", "")
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ucf.avi", "plain.avi", "late.mp4", "clip.mp4", "clip.webp", "clip.gif", "clip"])
def test_frames_are_those_of_reading_all(name: str, files: dict[str, Path]) -> None:
    whole = read_clip(files[name]).frames
    assert len(whole) == count_frames(files[name]) == 24
    for rule in RULES:
        taken = read_ruled(files[name], rule, "a clip")
        assert (taken == whole[list(rule.window(24, "a clip"))]).all(), rule
        assert len(taken) == (rule.frames or len(range(0, 24, rule.stride)))


def test_a_random_place_is_the_key_s_alone_and_every_place_is_taken() -> None:
    rule = ClipRule(4, 2, "random")
    places = [rule.window(10, str(key)).start for key in range(300)]
    assert places == [rule.window(10, str(key)).start for key in range(300)]
    assert {*places} == {0, 1, 2, 3}
    assert min(map(places.count, range(4))) > 50
    assert rule.window(7, "any") == range(0, 7, 2)
    assert rule.window(2**40, "a\udcff") == rule.window(2**40, "a\udcff")  # a name that is no UTF-8
    # so that features of today are found again by another version
    assert ClipRule(16, start="random").window(164, "v_Baking_g01_c01 1").start == 77


def test_the_middle_has_as_many_frames_before_as_behind() -> None:
    assert ClipRule(4, start="middle").window(10, "") == range(3, 7)
    assert ClipRule(3, 2, "middle").window(9, "") == range(2, 7, 2)


def test_no_other_frames_are_held(tmp_path: Path) -> None:
    """A film of 240 frames of 1 MB: the memory of frames is NumPy's, which tracemalloc sees."""
    import tracemalloc

    path = film(tmp_path / "long.avi", moving(1, 480, 720).repeat(240, 0))
    frame = 480 * 720 * 3
    for rule in (ClipRule(4, start="random"), ClipRule(4, start="middle"), ClipRule(4), ClipRule(None, 60)):
        tracemalloc.start()
        assert len(read_ruled(path, rule, "b")) == 4
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert 7 * frame < peak < 16 * frame, rule  # those four, stacked, and what one is made of


def test_what_a_header_claims_is_not_believed(tmp_path: Path) -> None:
    path = film(tmp_path / "clip.avi", moving())
    data = bytearray(path.read_bytes())
    for chunk, place in ((b"avih", 16), (b"strh", 32)):  # how many frames, in both headers
        at = data.index(chunk) + 8 + place
        assert int.from_bytes(data[at : at + 4], "little") == 24
        data[at : at + 4] = (900).to_bytes(4, "little")
    path.write_bytes(data)
    with av.open(str(path)) as opened:
        assert opened.streams.video[0].frames == 900
    assert count_frames(path) == 24
    taken = read_ruled(path, ClipRule(4, start="middle"), "")
    assert (taken == read_clip(path).frames[10:14]).all()


@pytest.mark.parametrize("start", ["first", "middle", "random"])
def test_a_clip_that_is_too_short_is_refused_with_what_it_has_and_what_is_needed(start, files) -> None:
    assert len(read_ruled(files["clip.mp4"], ClipRule(24, start=start), "")) == 24
    assert len(read_ruled(files["clip.mp4"], ClipRule(2, 23, start), "")) == 2
    with pytest.raises(ValueError, match=r"clip.mp4' has 24 frames: 25 are needed$"):
        read_ruled(files["clip.mp4"], ClipRule(25, start=start), "")
    with pytest.raises(ValueError, match=r"clip.mp4' has 24 frames: 25 are needed, 3 each 12 apart$"):
        read_ruled(files["clip.mp4"], ClipRule(3, 12, start), "")


def test_damaged_files_are_refused_by_name_and_no_more_is_read_than_needed(files, tmp_path) -> None:
    data = files["ucf.avi"].read_bytes()
    cut, torn, text = (tmp_path / name for name in ("cut.avi", "torn.avi", "text.avi"))
    cut.write_bytes(data[: len(data) * 2 // 3])
    text.write_text("no video\n" * 99)
    torn.write_bytes(data[:200] + bytes(len(data) - 200))
    for path in (cut, torn, text):
        with pytest.raises(ValueError, match=rf"cannot read '.*{path.name}'"):
            read_ruled(path, ClipRule(4, start="random"), "")
    assert (read_ruled(cut, ClipRule(4), "") == read_clip(files["ucf.avi"], 4).frames).all()
    with pytest.raises(ValueError, match=r"cannot read '.*cut.avi': it is damaged or cut short after \d+ frames"):
        read_ruled(cut, ClipRule(22), "")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ClipRule(0), r"frames=0: expected a whole number of 1 or more, or none for all"),
        (lambda: ClipRule(2.0), r"frames=2.0: expected a whole number"),  # type: ignore[arg-type]
        (lambda: ClipRule(4, 0), r"stride=0: expected a whole number of 1 or more"),
        (lambda: ClipRule(4, 1, "last"), r"start is 'last', expected 'first' or 'middle' or 'random'"),  # type: ignore[arg-type]
        (lambda: ClipRule(start="random"), r"start is 'random' of all frames: expected 'first', or how many"),
        (lambda: ClipRule(4).window(3, ""), r"it has 3 frames, expected 4 or more"),
    ],
)
def test_rules_that_are_none_are_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


# Sets


def read(videos: Files, shown: Preprocessing | None = None, size: int = 2) -> list[np.ndarray]:
    return [clip for batch in files_plan(videos.ids, size) for clip in videos.frames(batch, shown)]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A folder as UCF-101's, with names that people have."""
    names = ["Baking/v_Baking_g01_c01", "Baking/v_Baking_g01_c02", "Tai Chi/v_Tai Chi, Süd_g01_c01"]
    for seed, name in enumerate([*names, "Z/v_" + "é" * 124 + "c"]):  # 251 bytes before .avi
        (tmp_path / name).parent.mkdir(exist_ok=True)
        film(tmp_path / f"{name}.avi", moving(seed=seed))
    (tmp_path / "Z" / "._v_what_a_Mac_leaves.avi").write_text("no video")
    (tmp_path / "Z" / "notes.avi").write_text("no video")
    elsewhere = film(tmp_path / "elsewhere.avi", moving(seed=9))
    (tmp_path / "Y").mkdir()
    (tmp_path / "Y" / "v_link.avi").symlink_to(elsewhere)
    return tmp_path


def test_a_set_is_the_files_of_a_pattern_by_name(dataset: Path) -> None:
    videos = Files.of_pattern("ours", dataset, "*/v_*.avi", ClipRule(4, start="random"))
    assert videos.ids == (
        "Baking/v_Baking_g01_c01", "Baking/v_Baking_g01_c02", "Tai Chi/v_Tai Chi, Süd_g01_c01", "Y/v_link",
        f"Z/v_{'é' * 124}c",
    )  # fmt: skip
    assert (len(videos), videos.samples) == (5, (1,) * 5)
    clips = read(videos)
    for clip, path, id in zip(clips, videos.paths, videos.ids, strict=True):
        assert clip.shape == (4, 48, 64, 3)
        assert (clip == read_ruled(path, videos.rule, f"{id} 1")).all()
    moved = dataset / "moved"
    moved.mkdir()
    for name in ("Baking", "Tai Chi", "Y", "Z"):
        (dataset / name).rename(moved / name)
    again = Files.of_pattern("ours", str(moved), "*/v_*.avi", videos.rule)
    assert all((a == b).all() for a, b in zip(read(again, FOUR, 3), clips, strict=True))


def test_settings_change_with_their_file_alone(dataset: Path) -> None:
    write_video(moving(2), dataset / "Baking" / "v_pictures")
    videos = Files.of_pattern("ours", dataset, "*/v_*", FIRST)
    assert videos.ids[2] == "Baking/v_pictures"
    (batch,) = files_plan(videos.ids)
    before = videos.settings(batch)["files"]
    path = videos.paths[0]
    stat = path.stat()
    assert before[0] == [path.name, stat.st_size, stat.st_mtime_ns]
    assert before == videos.settings(batch)["files"]
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    picture = videos.paths[2] / "frame_001.png"
    picture.write_bytes(picture.read_bytes() + b"\0")
    after = videos.settings(batch)["files"]
    changed = [k for k, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    assert changed == [0, 2]


def pooled(shown: Preprocessing) -> Meter:
    own = Extractor("mine", Extraction("i3d", shown), lambda x: x.mean((2, 3)).flatten(1), {}, torch.device("cpu"))
    return Meter("mine", own, own.settings, shown=shown)


def features(videos: Files, meter: Meter, folder: Path, size: int = 2) -> torch.Tensor:
    (folder / "parts" / meter.name).mkdir(parents=True)
    batches = files_plan(videos.ids, size)
    for batch in batches:
        measure([meter], videos, batch, False, folder)
    return collect(meter, videos, [(batch, len(batch.prompts)) for batch in batches], folder).pooled.features


def test_sizes_may_differ_and_features_are_those_of_each_clip(tmp_path: Path) -> None:
    for name, width in (("a", 64), ("b", 64), ("c", 32), ("d", 64)):
        film(tmp_path / f"{name}.avi", moving(w=width))
    videos = Files.of_pattern("ours", tmp_path, "*.avi", FIRST)
    meter = pooled(Preprocessing(None, resize=Resize("square", side=8)))
    together = features(videos, meter, tmp_path / "four", 4)
    assert (together.shape, together.dtype) == ((4, 24), torch.float32)
    alone = [meter.features(read_ruled(path, FIRST, "")[None]) for path in videos.paths]
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(together, features(videos, meter, tmp_path / "one", 1))


def test_counts_may_differ_only_where_the_protocol_chooses_frames(tmp_path: Path) -> None:
    for name, count in (("a", 8), ("b", 8), ("c", 9)):
        write_video(moving(count), tmp_path / f"{name}.webp")
    videos = Files.of_pattern("ours", tmp_path, "*.webp", ClipRule())
    with pytest.raises(ValueError, match=r"^ours: a has 8 frames, c 9: mine takes all of a clip, and compares"):
        features(videos, pooled(ALL), tmp_path / "all")
    ruled = Files.of_pattern("ours", tmp_path, "*.webp", FIRST)
    assert features(ruled, pooled(ALL), tmp_path / "ruled").shape[0] == 3
    for shown in (FOUR, MIDDLE):
        for path, clip in zip(videos.paths, read(videos, shown), strict=True):
            assert len(clip) == 4  # no more than is shown
            assert (shown(clip) == shown(read_clip(path).frames)).all()
    many = Preprocessing(12, "middle")  # and a clip of fewer repeats its last
    assert [len(clip) for clip in read(videos, many)] == [8, 8, 9]
    assert (many(read(videos, many)[0]) == many(read_clip(videos.paths[0]).frames)).all()


def test_too_few_frames_for_a_protocol_are_an_error_with_the_file(tmp_path: Path) -> None:
    write_video(moving(6), tmp_path / "short.webp")
    for rule in (ClipRule(), ClipRule(6)):
        videos = Files.of_pattern("ours", tmp_path, "*.webp", rule)
        for shown, needed in ((Preprocessing(16), 16), (Preprocessing(None, least=10), 10)):
            with pytest.raises(ValueError, match=rf"short.webp': the clip has 6 frames: expected {needed} or more$"):
                read(videos, shown)


def test_a_file_that_is_no_video_stops_where_it_comes(dataset: Path) -> None:
    videos = Files.of_pattern("ours", dataset, "Z/*.avi", FIRST)
    with pytest.raises(ValueError, match=r"cannot read '.*notes.avi': it is no video or picture"):
        read(videos, FOUR)


def test_folders_without_videos_are_refused_with_what_they_hold(dataset: Path) -> None:
    def refused(folder: Path, pattern: str, said: str, kind: type[Exception] = ValueError) -> None:
        with pytest.raises(kind, match=said):
            Files.of_pattern("ours", folder, pattern, FIRST)

    (dataset / "empty").mkdir()
    refused(dataset / "empty", "*.mp4", r"^no video '\*.mp4' in '.*empty': it holds nothing$")
    refused(dataset, "*.mp4", r"it holds 5 folders and 1 files, 'Baking', 'Tai Chi', 'Y', …$")
    refused(dataset / "missing", "*.mp4", r"missing' is not there: expected a folder of videos$", FileNotFoundError)
    refused(dataset / "elsewhere.avi", "*", r"elsewhere.avi' is not a folder", NotADirectoryError)
    for pattern in ("", "/etc/*", "../*.mp4", "a/../../b"):
        refused(dataset, pattern, re.escape(f"pattern {pattern!r}: expected one below the folder"))
    film(dataset / "Y" / "v_link.mp4", moving(), "libx264", "")
    refused(dataset, "Y/*", r"2 files are sample 1 of 'Y/v_link': '.*v_link.avi', '.*v_link.mp4'$")


def test_lists_that_do_not_fit_and_missing_videos_are_refused(dataset: Path) -> None:
    paths = tuple(dataset / f"{n}.mp4" for n in range(5))
    with pytest.raises(FileNotFoundError, match=r"ours: 5 of 5 videos are not there: '.*0.mp4', .*'.*2.mp4', …$"):
        Files("ours", tuple("abcde"), (1,) * 5, paths, FIRST)
    for ids, samples, files in ((("a",), (1, 2), paths[:1]), (("a", "b"), (1, 1), paths[:1]), ((), (), ())):
        with pytest.raises(ValueError, match=r"ours: \d ids, \d samples, \d paths: expected as many"):
            Files("ours", ids, samples, files, FIRST)
