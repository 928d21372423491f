"""What a model was trained to predict and on which schedule, as its files and its user say it, in this package's words.

A pipeline's folder says it in scheduler/scheduler_config.json, as diffusers writes it. A single file says what it
predicts in its metadata (`modelspec.prediction_type`) or by empty tensors: `v_pred`, and `ztsnr` for a schedule that
was rescaled to zero terminal SNR; of its betas it says nothing.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ivmix.models.json_files import parse_json, read_json
from ivmix.models.quoting import printable, short
from ivmix.solvers import Schedule
from ivmix.solvers.schedules.foreign import from_diffusers, is_flow, own_words

Prediction = Literal["epsilon", "x0", "v", "flow"]
ScheduleConfig = dict[str, Any]  # what `Schedule.from_config` reads

CONFIG = "scheduler_config.json"
PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0", "flow_prediction": "flow"}
# Entries about sampling, which change nothing here: they are shown, and never taken.
SAMPLING = (
    "timestep_spacing", "steps_offset", "set_alpha_to_one", "clip_sample", "thresholding", "final_sigmas_type",
    "use_karras_sigmas", "shift", "flow_shift", "algorithm_type", "solver_order",
)  # fmt: skip
# Latents' schedules by name, for those who do not want to write JSON. "zero-snr" is the model's own, rescaled.
NAMED: dict[str, ScheduleConfig] = {
    name: {"kind": name, "beta_start": 0.00085, "beta_end": 0.012, "timesteps": 1000}
    for name in ("scaled_linear", "linear")
}
ZERO_SNR = "zero-snr"


@dataclass(frozen=True)
class TrainedAs:
    """What a model's own files say, None for what they do not. `zero_snr` is of a schedule that is not said itself."""

    file: str
    prediction: str | None = None
    schedule: ScheduleConfig | None = None
    zero_snr: bool = False

    def entries(self, own: ScheduleConfig) -> dict[str, Any]:
        """Those of a description, "prediction" and "schedule", that are said; the rest of a schedule is `own`."""
        said = {"prediction": self.prediction, "schedule": zero_snr(own) if self.zero_snr else self.schedule}
        return {name: value for name, value in said.items() if value is not None}


# --- diffusers' scheduler_config.json -------------------------------------------------------------------------------


def read_scheduler(path: Path | str, needed: Collection[str] = ("prediction", "schedule")) -> TrainedAs:
    """What a scheduler_config.json says; only what is `needed` is read. Raises FileNotFoundError, or one ValueError
    that names the file, the entry and its value for what no schedule here can be."""
    raw = read_json(Path(path), infinities=True)
    found: dict[str, Any] = {}
    for name, read in (("prediction", _prediction), ("schedule", lambda raw: checked(from_diffusers(raw)))):
        if name in needed:
            try:
                found[name] = read(raw)
            except ValueError as error:
                raise ValueError(f"{path}: {printable(error)}; {remedy(name)}") from None
    return TrainedAs(str(path), **found)


def remedy(name: str) -> str:
    return f"--image-{name} or --video-{name} says another"


def sampling_facts(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What a scheduler_config.json says of sampling."""
    return {name: raw[name] for name in SAMPLING if raw.get(name) is not None}


def _prediction(raw: Mapping[str, Any]) -> str:
    """"epsilon" where it is left out, as in every class of diffusers that has betas."""
    value = raw.get("prediction_type", "flow_prediction" if is_flow(raw) else "epsilon")
    if not isinstance(value, str) or value not in PREDICTIONS:
        raise ValueError(f"prediction_type is {value!r}, expected one of {', '.join(PREDICTIONS)}")
    if (value == "flow_prediction") != is_flow(raw):
        flow = "a rectified flow" if is_flow(raw) else "no rectified flow (use_flow_sigmas)"
        raise ValueError(f"prediction_type is {value!r}, but its schedule is {flow}")
    return PREDICTIONS[value]


# --- single files ---------------------------------------------------------------------------------------------------


def read_file(
    file: str, metadata: Mapping[str, str], keys: Collection[str], needed: Collection[str] = ("prediction", "schedule")
) -> TrainedAs:
    """What a single file says of what is `needed`, by its metadata and the names of its tensors. ValueError where they
    disagree."""
    zero = "schedule" in needed and "ztsnr" in keys
    if "prediction" not in needed:
        return TrainedAs(file, zero_snr=zero)
    entry = metadata.get("modelspec.prediction_type")
    told = None if entry is None else {"v": "v", **PREDICTIONS}.get(entry)
    if entry is not None and told is None:
        raise ValueError(
            f"{file}: its metadata's modelspec.prediction_type is {short(entry)}, expected v or epsilon; "
            + remedy("prediction")
        )
    marked = "v" if "v_pred" in keys else None
    if marked and told and told != marked:
        raise ValueError(
            f"{file}: its metadata's modelspec.prediction_type is {entry!r}, its tensor v_pred says v; "
            + remedy("prediction")
        )
    return TrainedAs(file, marked or told, zero_snr=zero)


# --- what a caller says ---------------------------------------------------------------------------------------------


def check_prediction(value: str, where: str) -> str:
    if value not in get_args(Prediction):
        raise ValueError(f"{where} is {value!r}, expected {' or '.join(get_args(Prediction))}")
    return value


def parse_schedule(value: str | Mapping[str, Any], own: ScheduleConfig, where: str) -> ScheduleConfig:
    """A schedule by name, as JSON (ours, or diffusers'), or as the file or folder that holds a scheduler_config.json.
    Raises ValueError, which begins with `where`, for none of these."""
    if isinstance(value, str):
        if value in NAMED:
            return NAMED[value]
        if value == ZERO_SNR:
            return zero_snr(own, where)
        if not is_json(value):
            path = Path(value) / CONFIG if Path(value).is_dir() else Path(value)
            if not path.is_file():
                names = ", ".join((*NAMED, ZERO_SNR))
                raise ValueError(f"{where} is {value!r}, expected {names}, JSON, or a {CONFIG}")
            value, where = read_json(path, infinities=True), str(path)
        else:
            value = _parsed(value, where)
    try:
        return checked(own_words(value))
    except ValueError as error:
        raise ValueError(f"{where}: {printable(error)}") from None


def is_json(value: str) -> bool:
    return value.lstrip().startswith("{")


def _parsed(text: str, where: str) -> ScheduleConfig:
    try:
        raw = parse_json(text.encode(), infinities=True)
    except ValueError as error:
        raise ValueError(f"{where} is not JSON: {error}") from None
    assert isinstance(raw, dict)  # it begins as one
    return raw


def checked(description: Mapping[str, Any]) -> ScheduleConfig:
    """A schedule that can be made. ValueError for another."""
    Schedule.from_config(description)
    return dict(description)


def zero_snr(own: ScheduleConfig, where: str = "zero terminal SNR") -> ScheduleConfig:
    """`own` rescaled to zero terminal SNR; itself where it ends so. ValueError for one that cannot be."""
    if own["kind"] == "zero_terminal_snr":
        return own
    try:
        return checked({"kind": "zero_terminal_snr", "of": own})
    except ValueError as error:
        raise ValueError(f"{where}: the schedule {in_words(own)} cannot be rescaled: {error}") from None


def in_words(description: Mapping[str, Any]) -> str:
    """A schedule in a few words.

    >>> in_words({"kind": "zero_terminal_snr", "of": NAMED["scaled_linear"]})
    'scaled_linear (0.00085 to 0.012), zero terminal SNR'
    """
    kind = description["kind"]
    if kind == "zero_terminal_snr":
        return f"{in_words(description['of'])}, zero terminal SNR"
    if kind == "fading":
        return f"{in_words(description['of'])}, x0 fading to {description.get('end', 0.7):g}"
    ends = [f"{description[name]:g}" for name in ("beta_start", "beta_end") if name in description]
    return kind + (f" ({' to '.join(ends)})" if ends else "")
