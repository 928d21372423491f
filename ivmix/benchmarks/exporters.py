"""Files of other benchmarks' tools: ChronoMagic-Bench's leaderboard (its repository at e6b75ff), and VBench's folders
and results (its repository at 45e79ec).

VBench's own suite is read from one folder of "{prompt}-{index}.mp4", index 0 to 4. Of its temporal_flickering 25 are
drawn and shown to its static_filter.py first, which keeps 5. Prompts of one's own are its mode custom_input: any names,
and a JSON that has the prompt of each. That mode has no object_class, multiple_objects, scene, appearance_style, color
and spatial_relationship, and human_action reads the action from the file's name in every mode.
"""

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ivmix.benchmarks.layouts import Entry, check_names, paths_of
from ivmix.media.files import StrPath, check_writable, replacing, target_of, write_text
from ivmix.models.json_files import check_is_file, read_json
from ivmix.models.quoting import short
from ivmix.typed import check_keys

LEADERBOARD = {
    "mtscore": "Average_MTScore", "chscore": "Average_CHScore", "gpt4o_mtscore": "Average_GPT4o-MTScore",
    "umt_fvd": "Average_UMT-FVD", "umt_score": "Average_UMTScore",
}  # fmt: skip
"""Metrics, by their names in `ivmix.evaluation.paper`, and what the leaderboard calls them."""

UNMEASURED = -1
VBENCH_LAYOUT = "{prompt}-{index}.mp4"
VBENCH_SAMPLES = 5
CUSTOM_LAYOUT = "{id}-{index}.mp4"
VBENCH_SUFFIXES = (".mp4", ".gif")


def leaderboard(model: str, scores: Mapping[str, float]) -> str:
    """ChronoMagic-Bench-Input.json of one model, -1 for what was not measured: its page wants all five.

    >>> json.loads(leaderboard("ours", {"umt_fvd": 228.6}))["ours"]["Average_UMT-FVD"]
    228.6
    """
    if not model.strip():
        raise ValueError(f"model {model!r}: expected the name that the leaderboard is to show")
    check_keys(scores, LEADERBOARD, (), "scores")
    for name, score in scores.items():
        if not math.isfinite(score):
            raise ValueError(f"scores: {name} is {score}, expected a finite number; leave out what was not measured")
    row = {theirs: float(scores[ours]) if ours in scores else UNMEASURED for ours, theirs in LEADERBOARD.items()}
    return json.dumps({model: row}, indent=4, ensure_ascii=False) + "\n"


def to_vbench(files: Sequence[Path], entries: Sequence[Entry], samples: int, folder: StrPath) -> None:
    """A new folder of `files`, ordered as `layouts.paths_of`, for VBench's own suite.

    Files are linked, or copied where they cannot be. A prompt that is there twice, as two of VBench are, has the clips
    of its first. Raises ValueError for too few samples, and for prompts that are no names, OSError for a folder that
    is there already.
    """
    if samples < VBENCH_SAMPLES:
        raise ValueError(f"{samples} samples a prompt: VBench's own suite wants {VBENCH_SAMPLES}, 25 of its flickering")
    _link(_named(files, paths_of(VBENCH_LAYOUT, entries, samples)), folder)


def to_vbench_custom(files: Sequence[Path], entries: Sequence[Entry], samples: int, folder: StrPath) -> Path:
    """As `to_vbench`, for prompts of one's own, of any length: named by ids. Returns the file for --prompt_file, which
    lies beside the folder and has the same name and ".json"."""
    check_names(CUSTOM_LAYOUT, entries, samples)
    named = _named(files, paths_of(CUSTOM_LAYOUT, entries, samples))
    prompts = [prompt for _, prompt in entries for _ in range(samples)]
    place = Path(os.path.abspath(folder))
    beside = place.with_name(f"{place.name}.json")
    check_writable(beside, (".json",), clobber=False)
    _link(named, folder)
    text = json.dumps(dict(zip(named, prompts, strict=True)), indent=4)  # in ASCII: VBench names no encoding
    write_text(text + "\n", beside)
    return beside


def vbench_scores(*results: StrPath) -> dict[str, float]:
    """Scores by dimension, as `ivmix.evaluation.metrics.vbench.totals` takes them, of VBench's results: one file
    "…_eval_results.json" or several, {dimension: [score, [one of each video]]}. ValueError for anything else, and for
    a dimension that is there twice."""
    scores = dict[str, float]()
    for path in map(Path, results):
        for dimension, value in read_json(path, infinities=True).items():  # NaN: it found no video
            first = value[0] if isinstance(value, list) and value else None
            if isinstance(first, bool) or not isinstance(first, int | float) or not math.isfinite(first):
                raise ValueError(f"{path}: {short(dimension)} is {short(value)}, expected [score, [one of each video]]")
            if dimension in scores:
                raise ValueError(f"{path}: {short(dimension)} is in another of the files too; give one of each")
            scores[dimension] = float(first)
    return scores


def _named(files: Sequence[Path], paths: Sequence[Path]) -> dict[str, Path]:
    """Files by their names in a folder of VBench, which takes all to end as the first does."""
    if len(files) != len(paths):
        raise ValueError(f"files: {len(files)}, expected {len(paths)}, one a sample of each prompt")
    suffixes = sorted({file.suffix.lower() for file in files})
    if len(suffixes) != 1 or suffixes[0] not in VBENCH_SUFFIXES:
        raise ValueError(f"files end in {', '.join(suffixes) or 'nothing'}: VBench reads all .mp4 or all .gif")
    for file in files:
        check_is_file(file)
    named = dict[str, Path]()
    for path, file in zip(paths, files, strict=True):
        named.setdefault(path.with_suffix(suffixes[0]).name, file)
    return named


def _link(named: Mapping[str, Path], folder: StrPath) -> None:
    """A new folder with these files, whole or not at all."""
    check_writable(f"{os.fspath(folder)}/", ("",), clobber=False)
    with replacing(target_of(f"{os.fspath(folder)}/")[0]) as temporary:
        temporary.mkdir()
        for name, file in named.items():
            if os.path.lexists(place := temporary / name):
                raise ValueError(
                    f"{short(name)}: another name differs by case alone, and where {str(folder)!r} lies that is no "
                    "difference; choose a folder on another file system"
                )
            try:
                os.link(os.path.realpath(file), place)
            except OSError:  # another file system, or one without links
                shutil.copyfile(file, place)
