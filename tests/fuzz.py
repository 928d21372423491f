"""Damaged files, ten thousand of them: every one is read, or refused in one line; none hangs, or takes all memory.

    python tests/fuzz.py                        # a few minutes on one core
    python tests/fuzz.py --examples 500 --only tokenizer --seed 7

Hypothesis changes the sound files of `test_strangers_files.py`: values of their JSON (headers of safetensors too),
bytes, or the pickle in a zip file. A process of its own reads them, under a limit of memory and of time a file, and is
begun again if it ends. Printed is how many were read and refused; files for which neither is true stay in --keep, with
what happened beside them, and make the exit status 1. What is found belongs into the table of the test.
"""

import argparse
import io
import json
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from pairs.test_strangers_files import BYTES, MEMORY, PROMPT, SCHEDULER, TEXT, UNET, VAE, VIDEO, WEIGHTS, make
from small_t5 import charsmap, spiece

LONGEST = 2000  # characters of an error
SECONDS = 30  # that one file may take
HOWS = ("read", "refused", "unclear", "wrong")  # the last two are what is looked for
INDEX = "m.safetensors.index.json"
FILES = (
    "weights.safetensors", "weights.ckpt", INDEX, UNET, VIDEO, VAE, TEXT, SCHEDULER, f"vae/{WEIGHTS}", BYTES,
    "clip/vocab.json", "clip/merges.txt", "clip/special_tokens_map.json", "t5/spiece.model", "unigram/tokenizer.json",
    "lora.safetensors", "adapter_config.json", "record.json", "pair.json", "arms.json", "prompts.jsonl", "prompts.csv",
    "prompts.txt", "clip.png", "clip.gif", "clip.webp", "clip.mp4",
)  # fmt: skip


def prepare(folder: Path) -> None:
    """What `make` makes, twice, and sound files of the kinds that its table has no use for."""
    import numpy as np

    from ivmix.media import write_video
    from ivmix.models import T5Tokenizer

    make(folder)
    shutil.copytree(folder, folder / "sound")
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": {"a": "weights.safetensors"}}))
    (folder / "adapter_config.json").write_text('{"r": 1, "lora_alpha": 2, "alpha_pattern": {"to_k": 3}}')
    (folder / "clip").mkdir()
    tokens = ["<|startoftext|>", "<|endoftext|>", "a", "a</w>", "r", "d</w>"]
    (folder / "clip" / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "clip" / "merges.txt").write_text("#version: 0.2\n")
    (folder / "clip" / "special_tokens_map.json").write_text('{"pad_token": {"content": "<|endoftext|>"}}')
    (folder / "t5").mkdir()
    (folder / "t5" / "spiece.model").write_bytes(spiece(table=charsmap({"é": "e", "ﬁ": "fi", "…": "..."})))
    (folder / "unigram").mkdir()
    T5Tokenizer.from_folder(folder / "t5").backend.save(str(folder / "unigram" / "tokenizer.json"))
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    for suffix in ("webp", "mp4"):
        write_video(frames, folder / f"clip.{suffix}", fps=8)


# --- reading, in a process of its own -------------------------------------------------------------------------------


def reader(folder: Path) -> Callable[[str], object]:
    """Reads a file of `folder` the way that the command would."""
    from ivmix import TextToVideo
    from ivmix.evaluation.arms import check_arms, read_arms
    from ivmix.generation.replay import recall
    from ivmix.generation.requests import read_requests
    from ivmix.media import read_clip
    from ivmix.models import T5Tokenizer, Tokenizer, inspect, merge_loras, read_lora
    from ivmix.models.text.prompts import read_prompts
    from ivmix.pairs.pair import load_pair
    from ivmix.pairs.swaps import Swaps

    warnings.simplefilter("ignore")
    model = TextToVideo.from_pair(folder / "sound")

    def read(name: str) -> None:
        path = folder / name
        match name.partition(".")[0]:
            case "weights" | "m":
                inspect(path)
            case "bytes/tokenizer" | "clip/vocab" | "clip/merges" | "clip/special_tokens_map":
                tokenizer = Tokenizer.from_folder(path.parent, 8)
                tokenizer.check_fits(100)
                read_prompts(tokenizer, ["a (red:1.2) circle", "été 🌈 \u3000", "a" * 3000, ""])
            case "t5/spiece" | "unigram/tokenizer":
                t5 = T5Tokenizer.from_folder(path.parent, 8)
                t5.check_fits(200)
                read_prompts(t5, ["a (red:1.2) circle", "été 🌈 ﬁne…\u3000", "a" * 3000, ""])
            case "lora" | "adapter_config":
                merge_loras(model.pair.image.unet, [(read_lora(folder / "lora.safetensors"), 1.0)])
            case "record":
                recall(path)
            case "arms":
                arms = read_arms(path)
                check_arms(arms)
                for arm in arms:
                    arm.settings(model)
            case "prompts":
                for request in read_requests(path):
                    model.record(request.prompt, frames=1)
            case "clip":
                read_clip(path, limit=3)
            case "image/scheduler/scheduler_config":
                load_pair(folder, swaps=Swaps(image_model=str(folder / "image")))
            case _:
                TextToVideo(load_pair(folder)).record(PROMPT)

    return read


def work(folder: Path) -> None:
    """Answers every name of a file on stdin with a line of JSON: how it went, and the error."""
    read = reader(folder)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            read(line.strip())
            answer = ["read", ""]
        except (ValueError, OSError) as error:
            clear = "\n" not in str(error) and 0 < len(str(error)) <= LONGEST
            answer = ["refused" if clear else "unclear", str(error)]
        except BaseException as error:
            answer = ["wrong", f"{type(error).__name__}: {error}"]
        print(json.dumps(answer), flush=True)


class Worker:
    """The process that reads, begun again whenever it has ended."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.process = folder, None

    def ask(self, name: str) -> list[str]:
        if self.process is None or self.process.poll() is not None:
            typed = [sys.executable, __file__, "--worker", str(self.folder)]
            environment = os.environ | {"OMP_NUM_THREADS": "1", "RUST_BACKTRACE": "0"}
            self.process = subprocess.Popen(typed, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
            self._line(10 * SECONDS)
        assert self.process.stdin is not None
        self.process.stdin.write(f"{name}\n".encode())
        self.process.stdin.flush()
        line = self._line(SECONDS)
        if line is None:
            self.process.kill()
            return ["wrong", f"no answer after {SECONDS} s"]
        return json.loads(line) if line else ["wrong", f"the process ended with status {self.process.wait()}"]

    def _line(self, seconds: float) -> bytes | None:
        """One line, b"" if the process has ended, None if there is none in time."""
        assert self.process is not None
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        return self.process.stdout.readline() if ready else None


# --- damaging -------------------------------------------------------------------------------------------------------

VALUES = st.sampled_from([
    None, True, False, 0, 1, -1, 2, 3, 0.5, -2.5, 1e300, 10**6, 10**18, 2**63, "", "a", "1", "a\nb", "\0", "../x", "é",
    "x" * 5000, "hub:a", "ddim", "nan", [], {}, [[]], [None], [1, 2], {"": 0}, {"type": "Sequence"}, [0] * 999,
])  # fmt: skip
CHUNKS = st.sampled_from([b"", b'"', b"{", b"[", b"]", b"9" * 30, b"-1", b"null", b"\0" * 8, b"NaN", b"1e999", b"\xff",
                          b"[" * 5000, b"\n", b",", b"h\0", b"(", b"R", b"\x86"])  # fmt: skip


@st.composite
def damaged_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """A few bytes changed, cut out, put in, copied elsewhere, or the end cut off."""
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(0, len(data))), draw(st.integers(1, 64))
        match draw(st.sampled_from(["flip", "cut", "put", "copy", "end"])):
            case "flip":
                data = data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
            case "cut":
                data = data[:at] + data[at + length :]
            case "put":
                data = data[:at] + draw(CHUNKS) + data[at:]
            case "copy":
                begin = draw(st.integers(0, len(data)))
                data = data[:at] + data[begin : begin + length] + data[at:]
            case "end":
                data = data[:at]
    return data


@st.composite
def damaged_json(draw: st.DrawFn, text: bytes) -> bytes:
    """A few values exchanged, taken out, wrapped or called otherwise."""
    raw = json.loads(text)
    for _ in range(draw(st.integers(1, 3))):
        places = list(spots(raw))
        if not places:
            break
        inside, name = draw(st.sampled_from(places))
        match draw(st.sampled_from(["value", "value", "value", "other", "out", "wrap", "name"])):
            case "value":
                inside[name] = deepcopy(draw(VALUES))
            case "other":
                other, key = draw(st.sampled_from(places))
                inside[name] = json.loads(json.dumps(other[key]))
            case "out":
                del inside[name]
            case "wrap":
                inside[name] = [inside[name]]
            case "name" if isinstance(inside, dict):
                inside[draw(st.sampled_from(["", "x", "a\nb", "y" * 3000, "type", "kind"]))] = inside.pop(name)
    return json.dumps(raw).encode()


def spots(raw: Any) -> Any:
    """Every place of a value inside `raw`: what it is in, and its name or number there."""
    for name, value in raw.items() if isinstance(raw, dict) else enumerate(raw):
        yield raw, name
        if isinstance(value, dict | list):
            yield from spots(value)


@st.composite
def damaged(draw: st.DrawFn, name: str, data: bytes) -> bytes:
    """A sound file's bytes, changed in one of the ways that get past its first check."""
    plain = draw(st.integers(0, 3)) == 0
    if name.endswith((".json", ".jsonl")) and not plain:
        return draw(damaged_json(data))
    if name.endswith(".safetensors") and not plain:
        length = int.from_bytes(data[:8], "little")
        header = draw(st.one_of(damaged_json(data[8 : 8 + length]), damaged_bytes(data[8 : 8 + length])))
        return len(header).to_bytes(8, "little") + header + data[8 + length :]
    if name.endswith(".ckpt") and not plain:
        return rezipped(data, lambda pickled: draw(damaged_bytes(pickled)))
    return draw(damaged_bytes(data))


def rezipped(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """A file of torch.save's with another pickle in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            raw = old.read(entry)
            new.writestr(entry.filename, change(raw) if entry.filename.endswith("data.pkl") else raw)
    return file.getvalue()


# --- the run --------------------------------------------------------------------------------------------------------


def fuzz(names: list[str], examples: int, number: int, keep: Path) -> Counter[tuple[str, str]]:
    """How often which file went how."""
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder)
        sound = {name: (folder / name).read_bytes() for name in names}
        worker = Worker(folder)

        def one(name: str, raw: bytes) -> None:
            (folder / name).write_bytes(raw)
            how, said = worker.ask(name)
            counts[name, how] += 1
            if how not in ("read", "refused"):
                keep.mkdir(parents=True, exist_ok=True)
                file = keep / f"{sum(counts.values()):05d}-{name.replace('/', '-')}"
                file.write_bytes(raw)
                file.with_name(f"{file.name}.said").write_text(said)
                print(f"{name}: {how}: {said[:300]!r}", flush=True)

        quiet = settings(
            max_examples=-(-examples // len(names)), deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        for name in names:
            seed(number)(quiet(given(st.just(name), damaged(name, sound[name]))(one)))()
            (folder / name).write_bytes(sound[name])
            print(f"| {name:44} | {' | '.join(f'{counts[name, how]:7}' for how in HOWS)} |", flush=True)
        if worker.process is not None:
            worker.process.kill()
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="files whose names hold this")
    parser.add_argument("--keep", type=Path, default=Path("fuzzed"), metavar="FOLDER", help="(default: %(default)s)")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        work(options.worker)
        return 0
    began = time.perf_counter()
    names = [name for name in FILES if options.only in name]
    print(f"| {'file':44} | {' | '.join(f'{how:>7}' for how in HOWS)} |\n| --- {'| --: ' * len(HOWS)}|", flush=True)
    counts = fuzz(names, options.examples, options.seed, options.keep)
    totals = [sum(counts[name, how] for name in names) for how in HOWS]
    print(f"| {'all':44} | {' | '.join(f'{total:7}' for total in totals)} |")
    print(f"{sum(totals):,} files in {time.perf_counter() - began:,.0f} s")
    return int(any(totals[2:]))


if __name__ == "__main__":
    sys.exit(main())
