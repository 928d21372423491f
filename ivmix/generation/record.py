"""What made a clip, as data: written beside it, read back to make it again."""

from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args, get_type_hints

from ivmix.devices import DTYPES, dtype_name
from ivmix.models.checkpoints.hub import parse
from ivmix.models.compile import Mode
from ivmix.models.json_files import read_json
from ivmix.models.quoting import printable
from ivmix.models.text.prompts import clean
from ivmix.pairs.facts import Read, RunAs
from ivmix.pairs.swaps import Swaps
from ivmix.samplers.reading import sampling
from ivmix.typed import check, check_keys, short, whole

# What has an entry a clip.
LISTS = (
    "prompts", "negative_prompts", "image_negative_prompts", "seeds", "source_prompts", "batch_sizes", "batch_places",
)  # fmt: skip


# What is not written where it is as by default: in a clip of one window.
WINDOWS = ("window", "overlap", "space_window", "noise")


NoiseKind = Literal["white", "freenoise"]


class Input(TypedDict):
    """A video or noise that a run began from: where it was read, None if it came from Python, and its bytes' hash."""

    path: str | None
    sha256: str


@dataclass(frozen=True)
class Record:
    """All that reproduces a result, and what it cost. What is a list has one entry a clip.

    `pair` is a name or a folder, `swaps` what was put in place of its models, `models` what image and video model were
    run as, `files` what was read of every source, those in the pair's folder by their
    place in it. `video`, `strength` and `source_prompts` say what a run began from, `latents` which noise was given
    instead of the seeds' own. Prompts are as they were read, white space cleaned; `raw_prompts` says that their
    brackets are text. `batch_sizes` and `batch_places` say how many clips ran together and which of them each was, from
    0: that decides the last bits. `window` and `overlap` are in frames, `space_window` in pixels, None where the models
    had all at once; `noise` is the kind it began from. `nfe` and `forwards` are a clip's, `seconds` of all of them,
    from prompts to frames.
    """

    ivmix: str
    torch: str
    pair: str
    swaps: dict[str, Any]
    models: dict[str, RunAs]
    files: dict[str, Read]
    compile: str
    prompts: list[str]
    negative_prompts: list[str]
    image_negative_prompts: list[str]
    seeds: list[int]
    frames: int
    height: int
    width: int
    vae_tile: int | None
    image_frames: int | None
    batch_sizes: list[int]
    batch_places: list[int]
    video: Input | None
    strength: float | None
    source_prompts: list[str] | None
    raw_prompts: bool
    latents: Input | None
    sampling: dict[str, Any]
    device: str
    dtype: str
    nfe: dict[str, int]
    forwards: dict[str, int]
    seconds: float
    cancelled: bool = False
    window: int | None = None
    overlap: int | None = None
    space_window: int | None = None
    noise: str = "white"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; windows, and another noise than white, where there are any."""
        said = asdict(self)
        unsaid = [f.name for f in fields(self) if f.name in WINDOWS and said[f.name] == f.default]
        return {name: value for name, value in said.items() if name not in unsaid}

    def of(self, clips: slice) -> "Record":
        """Of these clips alone: what is shared stays, `seconds` is their share."""
        own = {name: getattr(self, name)[clips] for name in LISTS if getattr(self, name) is not None}
        share = len(own["prompts"]) / len(self.prompts)
        return replace(self, **own, seconds=round(self.seconds * share, 3))

    @property
    def commits(self) -> dict[str, str]:
        """The hub's commit of every repository that is named without one."""
        named = {source: read["commit"] for source, read in self.files.items() if "@" not in source}
        return {parse(source).repo: commit for source, commit in named.items() if commit is not None}

    @property
    def lost(self) -> str | None:
        """What of the run no record can hold; None if a command can repeat it."""
        if self.latents is not None:
            return "it began from noise given in Python (latents)"
        if self.video is not None and self.video["path"] is None:
            return "it began from a video given in Python, which has no file"
        solver = str(self.sampling.get("solver", ""))
        return f"its solver {solver} has no name" if "(" in solver else None

    def asks_as(self, other: "Record") -> bool:
        """Whether both ask for the same, whatever it cost, whatever ran beside it, and whichever device of a kind."""
        cost: dict[str, Any] = {"nfe": {}, "forwards": {}, "seconds": 0.0}
        cost |= {"batch_sizes": [], "batch_places": []}
        mine, theirs = (replace(r, **cost, device=r.device.partition(":")[0]) for r in (self, other))
        return mine == theirs


def read_record(path: Path) -> Record:
    """The record in a JSON file, which can be asked for again as far as it tells.

    Raises ValueError, naming the entry, for a file that is none, OSError for no file.
    """
    raw, hints = read_json(path), get_type_hints(Record)
    where = f"{path} is not a record of `ivmix sample`"
    check_keys(raw, hints, {f.name for f in fields(Record) if f.default is MISSING}, where)
    for name, value in raw.items():
        check(value, hints[name], f"{where}: {name}")
    record = Record(**raw)
    if not record.prompts:
        raise ValueError(f"{where}: prompts is empty, expected one a clip")
    for name in LISTS:
        values = getattr(record, name)
        if values is not None and len(values) != len(record.prompts):
            raise ValueError(f"{where}: {name} has {len(values)} entries for {len(record.prompts)} prompts")
    try:
        _check_entries(record)
    except ValueError as error:
        raise ValueError(f"{where}: {printable(error)}") from None
    return record


def _check_entries(record: Record) -> None:
    """Raises ValueError, naming the entry, for a value of the right type that no run has."""
    for name in ("prompts", "negative_prompts", "image_negative_prompts", "source_prompts"):
        for text in getattr(record, name) or ():
            clean(text, name)
    if not all(map(str.strip, record.prompts)):
        raise ValueError("prompts: one is empty")
    for seed in record.seeds:
        whole("seeds", seed, 0, 2**63 - 1)
    for name in ("frames", "height", "width"):
        whole(name, getattr(record, name), 1)
    for name in ("vae_tile", "window", "space_window"):
        if getattr(record, name) is not None:
            whole(name, getattr(record, name), 1)
    if (record.window is None) != (record.overlap is None):
        raise ValueError(f"overlap is {record.overlap} of window {record.window}, expected both or neither")
    if record.window is not None:
        whole("overlap", record.overlap, 0, record.window - 1)
    if record.noise not in get_args(NoiseKind):
        raise ValueError(f"noise is {record.noise!r}, expected one of {', '.join(get_args(NoiseKind))}")
    if record.strength is not None and not 0 < record.strength <= 1:
        raise ValueError(f"strength is {record.strength}, expected a share of the steps, above 0 and at most 1")
    if record.compile not in get_args(Mode):
        raise ValueError(f"compile is {record.compile!r}, expected one of {', '.join(get_args(Mode))}")
    Swaps.from_dict(record.swaps)
    if record.dtype not in map(dtype_name, DTYPES):
        raise ValueError(f"dtype {short(record.dtype)}: expected one of {', '.join(map(dtype_name, DTYPES))}")
    options = {"sampler": None} | record.sampling
    if "(" in str(options.get("solver")):  # one without a name, see `lost`
        del options["solver"]
    name = options.pop("sampler")
    sampling({"sampler": name, str(name): options}, {})
