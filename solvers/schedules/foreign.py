"""diffusers' scheduler_config.json in our words: which schedule a network was trained on.

Its other entries are about sampling (timestep_spacing, shift, solver_order, …) or the prediction; they say nothing of
the schedule and are not read: a flow's `shift` moves a grid along one schedule (`Schedule.grid`, "shifted-flow").
"""

from collections.abc import Mapping
from typing import Any

import torch

from ivmix.solvers.checks import MOST_LEVELS, whole

BETAS = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
# Entries that change on which levels or times a network was trained, in ways that no schedule here has.
FIXED = {"snr_shift_scale": 1.0, "timestep_type": "discrete"}
MARKS = {"_class_name", "num_train_timesteps", "beta_schedule", "beta_start", "trained_betas", "use_flow_sigmas"}


def own_words(config: Mapping[str, Any]) -> dict[str, Any]:
    """A schedule that is in our words or in diffusers' in ours; so is one that it holds as its `of`."""
    if isinstance(config.get("of"), Mapping):
        return {**config, "of": own_words(config["of"])}
    return dict(config) if "kind" in config or not MARKS & config.keys() else from_diffusers(config)


def from_diffusers(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A scheduler's config, as in its file or its `config`, as `Schedule.to_config` would say it. Raises ValueError,
    which names the entry, for what no schedule here can be.

    >>> from_diffusers({"beta_schedule": "linear", "beta_start": 0.1, "beta_end": 0.2, "rescale_betas_zero_snr": True})
    {'kind': 'zero_terminal_snr', 'of': {'kind': 'linear', 'beta_start': 0.1, 'beta_end': 0.2, 'timesteps': 1000}}
    """
    for name, value in FIXED.items():
        if raw.get(name, value) != value:
            raise ValueError(f"{name}: got {raw[name]!r}, expected {value!r}")
    timesteps = whole("num_train_timesteps", raw.get("num_train_timesteps", 1000), 2, MOST_LEVELS)
    if is_flow(raw):
        return {"kind": "rectified_flow", "timesteps": timesteps, "t_max": timesteps}
    zero = raw.get("rescale_betas_zero_snr", False)
    if not isinstance(zero, bool):
        raise ValueError(f"rescale_betas_zero_snr: got {zero!r}, expected true or false")
    if raw.get("trained_betas") is not None:
        described: dict[str, Any] = {"kind": "alpha_bar", "alpha_bar": _alpha_bar(raw["trained_betas"])}
    else:
        described = _betas(raw, timesteps)
    return {"kind": "zero_terminal_snr", "of": described} if zero else described


def is_flow(raw: Mapping[str, Any]) -> bool:
    """By the class that a file names; a live scheduler's `config` names none, and a flow's has `shift` and no betas."""
    unnamed = "_class_name" not in raw and "shift" in raw and "beta_schedule" not in raw
    return unnamed or str(raw.get("_class_name")).startswith("FlowMatch") or raw.get("use_flow_sigmas") is True


def _betas(raw: Mapping[str, Any], timesteps: int) -> dict[str, Any]:
    named = raw.get("beta_schedule")
    if not isinstance(named, str) or named not in BETAS:
        was = f"got {named!r}" if "beta_schedule" in raw else "got none"
        raise ValueError(f"beta_schedule: {was}, expected one of {', '.join(BETAS)}")
    if named == "squaredcos_cap_v2":
        return {"kind": "cosine", "timesteps": timesteps}
    if lacking := [name for name in ("beta_start", "beta_end") if name not in raw]:
        raise ValueError(f"{lacking[0]}: got none, expected a number with beta_schedule {named!r}")
    return {"kind": BETAS[named], "beta_start": raw["beta_start"], "beta_end": raw["beta_end"], "timesteps": timesteps}


def _alpha_bar(betas: Any) -> list[float]:
    """The cumulative products of 1 - beta."""
    numbers = betas.tolist() if hasattr(betas, "tolist") else betas  # NumPy's, in a scheduler that was made of them
    if not isinstance(numbers, list) or len(numbers) < 2 or not all(map(_is_number, numbers)):
        raise ValueError(f"trained_betas: got {str(betas)[:60]}, expected a list of numbers")
    products: list[float] = (1 - torch.tensor([float(b) for b in numbers], dtype=torch.float64)).cumprod(0).tolist()
    return products


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)
