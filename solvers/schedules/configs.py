"""A schedule as plain JSON values: a `kind`, and the arguments of that constructor."""

from collections.abc import Mapping
from typing import Any

from ivmix.solvers.checks import MOST_LEVELS, check_number, whole
from ivmix.solvers.schedules.foreign import own_words

KINDS = {
    "scaled_linear": {"beta_start", "beta_end", "timesteps"},
    "linear": {"beta_start", "beta_end", "timesteps"},
    "cosine": {"s", "timesteps", "beta_max"},
    "rectified_flow": {"timesteps", "t_max"},
    "ve": {"sigma_min", "sigma_max", "timesteps"},
    "alpha_bar": {"alpha_bar"},
    "zero_terminal_snr": {"of"},
    "fading": {"of", "end", "levels"},
    "table": {"timesteps", "alpha", "sigma_vp", "path"},
}
NEEDED = {
    "ve": {"sigma_min", "sigma_max"},
    "alpha_bar": {"alpha_bar"},
    "zero_terminal_snr": {"of"},
    "fading": {"of"},
    "table": {"timesteps", "alpha", "sigma_vp"},
}
NUMBERS = {"beta_start", "beta_end", "s", "beta_max", "t_max", "sigma_min", "sigma_max", "end"}


def read_config(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The kind of a schedule and its arguments, checked: numbers are floats, and `timesteps`, where it counts them, is
    `n`. ValueError names the entry that cannot be."""
    if not isinstance(config, Mapping):
        shown = repr(config) if isinstance(config, str | int | float | None) else f"a {type(config).__name__}"
        raise ValueError(
            f'schedule: got {shown}, expected a mapping such as {{"kind": "linear"}} or a scheduler\'s config'
        )
    options = own_words(config)
    kind = options.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(
            f"kind: got {kind!r}, expected one of {', '.join(map(repr, KINDS))}, or the entries of diffusers' "
            "scheduler_config.json"
        )
    unknown = sorted(options.keys() - KINDS[kind])
    if unknown:
        raise ValueError(f"{kind}: got unknown keys {unknown}, expected some of {sorted(KINDS[kind])}")
    if lacking := sorted(NEEDED.get(kind, set()) - options.keys()):
        raise ValueError(f"{kind}: got no {', '.join(lacking)}, expected all of {sorted(NEEDED[kind])}")
    for name, value in options.items():
        if name in NUMBERS:
            check_number(name, value, "a finite number")
            options[name] = float(value)
        elif name == "levels" or (name == "timesteps" and kind != "table"):
            options[name] = whole(name, value, 2, MOST_LEVELS)
        elif name not in ("of", "path"):
            values = value if isinstance(value, list) else [value]
            for one in values:
                check_number(name, one, "a list of finite numbers")
            options[name] = [float(one) for one in values]
    if kind != "table" and "timesteps" in options:
        options["n"] = options.pop("timesteps")
    return kind, options
