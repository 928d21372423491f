"""Noise schedules: what a network was trained on, and the maps between its time t and sigma.

A training level is z = alpha·x0 + sigma_vp·eps; sigma = sigma_vp / alpha is the library's only time-like variable and
t, the network's own index, never leaves its adapter. Schedules of three kinds differ in how they join their training
levels:

| path | t is linear in | alpha between levels | for |
|---|---|---|---|
| "vp" | log sigma | 1 / sqrt(1 + sigma²) | DDPM-like networks |
| "ve" | log sigma | 1 | variance-exploding networks |
| "flow" | sigma / (1 + sigma) | 1 / (1 + sigma) | rectified flows: exact for continuous t |

times a factor, linear in t, which is 1 for all standard schedules and carries those that break the identity.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from ivmix.solvers import grids
from ivmix.solvers.checks import check_number, check_plain, plain_numbers, whole, within

Path = Literal["vp", "ve", "flow"]
Spacing = Literal["trailing", "leading", "linspace", "karras", "uniform-lam", "shifted-flow"]


@dataclass(frozen=True, eq=False)
class Schedule:
    """Training levels `timesteps`, `alpha`, `sigma_vp`: three float64 CPU tensors (T,), T >= 2, of rising noise.

    The last alpha may be 0 (sigma = inf there); all other levels are finite and above 0. What float32's rounding moved
    out of the range of the levels, or of the times, is its end.

    >>> schedule = Schedule.scaled_linear()
    >>> round(schedule.sigma_min, 6), round(schedule.sigma_max, 6)
    (0.029167, 14.614641)
    >>> schedule.t(schedule.sigma(500))
    tensor(500., dtype=torch.float64)
    >>> schedule.grid(4)
    tensor([14.6146,  4.0817,  1.6129,  0.6932,  0.0000], dtype=torch.float64)
    """

    timesteps: Tensor
    alpha: Tensor
    sigma_vp: Tensor
    path: Path = "vp"
    config: Mapping[str, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.path, str) or self.path not in _PATHS:
            raise ValueError(f"path: got {self.path!r}, expected one of {', '.join(map(repr, _PATHS))}")
        for name in ("timesteps", "alpha", "sigma_vp"):
            values = plain_numbers(name, getattr(self, name))
            if values.ndim != 1 or len(values) < 2 or not bool(values.isfinite().all()):
                raise ValueError(f"{name}: got shape {tuple(values.shape)}, expected (T,) finite numbers, T >= 2")
            object.__setattr__(self, name, values)
        if not len(self.timesteps) == len(self.alpha) == len(self.sigma_vp):
            sizes = len(self.timesteps), len(self.alpha), len(self.sigma_vp)
            raise ValueError(f"timesteps, alpha, sigma_vp: got lengths {sizes}, expected one length")
        if not bool((self.timesteps.diff() > 0).all()):
            raise ValueError("timesteps: expected strictly increasing times")
        if not (bool((self.alpha[:-1] > 0).all()) and self.alpha[-1] >= 0):
            raise ValueError("alpha: expected values > 0, of which the last may be 0")
        if not (self.sigmas[0] > 0 and bool((self.sigmas.diff() > 0).all())):
            raise ValueError("sigma_vp / alpha: expected strictly increasing levels above 0")

    # Constructors -----------------------------------------------------------------------------------------------------

    @classmethod
    def from_alpha_bar(cls, alpha_bar: Tensor, *, config: Mapping[str, Any] | None = None) -> "Schedule":
        """Variance-preserving, from the cumulative products of 1 - beta (T,): alpha = sqrt(alpha_bar), t = 0, ..., T-1.

        A float32 table is taken as it is (its levels then differ from a float64 recomputation by up to 1e-6).
        """
        table = plain_numbers("alpha_bar", alpha_bar)
        if table.ndim != 1 or not bool(((table >= 0) & (table < 1)).all()):
            raise ValueError(f"alpha_bar: got shape {tuple(table.shape)}, expected (T,) numbers in [0, 1), decreasing")
        config = config or {"kind": "alpha_bar", "alpha_bar": table.tolist()}
        return cls(torch.arange(len(table), dtype=torch.float64), table.sqrt(), (1 - table).sqrt(), config=config)

    @classmethod
    def scaled_linear(cls, beta_start: float = 0.00085, beta_end: float = 0.012, n: int = 1000) -> "Schedule":
        """Betas linear in their square root: Stable Diffusion's schedule (arXiv 2112.10752)."""
        _check_betas(beta_start, beta_end)
        betas = torch.linspace(beta_start**0.5, beta_end**0.5, n, dtype=torch.float64) ** 2
        config = {"kind": "scaled_linear", "beta_start": beta_start, "beta_end": beta_end, "timesteps": n}
        return cls.from_alpha_bar((1 - betas).cumprod(0), config=config)

    @classmethod
    def linear(cls, beta_start: float = 0.0001, beta_end: float = 0.02, n: int = 1000) -> "Schedule":
        """Linear betas (DDPM, arXiv 2006.11239; AnimateDiff with 0.00085, 0.012)."""
        _check_betas(beta_start, beta_end)
        betas = torch.linspace(beta_start, beta_end, n, dtype=torch.float64)
        config = {"kind": "linear", "beta_start": beta_start, "beta_end": beta_end, "timesteps": n}
        return cls.from_alpha_bar((1 - betas).cumprod(0), config=config)

    @classmethod
    def cosine(cls, s: float = 0.008, n: int = 1000, beta_max: float = 0.999) -> "Schedule":
        """alpha_bar = cos²((k/n + s)/(1 + s)·pi/2), with betas capped at `beta_max` (arXiv 2102.09672, eq. 17)."""
        if not 0 <= s < math.inf:
            raise ValueError(f"s: got {s}, expected a finite number >= 0")
        if not 0 < beta_max < 1:
            raise ValueError(f"beta_max: got {beta_max}, expected 0 < beta_max < 1")
        curve = torch.cos((torch.arange(n + 1, dtype=torch.float64) / n + s) / (1 + s) * math.pi / 2) ** 2
        betas = (1 - curve[1:] / curve[:-1]).clamp(max=beta_max)
        config = {"kind": "cosine", "s": s, "timesteps": n, "beta_max": beta_max}
        return cls.from_alpha_bar((1 - betas).cumprod(0), config=config)

    @classmethod
    def rectified_flow(cls, n: int = 1000, t_max: float = 1.0) -> "Schedule":
        """z = (1 - s)·x0 + s·eps with s = t / t_max (arXiv 2209.03003); the maps are exact for every t, n lists levels.

        Levels are s = 1/n, ..., 1; at the last one alpha = 0 and sigma = inf. `t_max` is 1000 for networks that are
        told 1000·s.
        """
        s = torch.arange(1, n + 1, dtype=torch.float64) / n
        config = {"kind": "rectified_flow", "timesteps": n, "t_max": t_max}
        return cls(t_max * s, 1 - s, s, "flow", config)

    @classmethod
    def ve(cls, sigma_min: float, sigma_max: float, n: int = 1000) -> "Schedule":
        """alpha = 1, sigma = sigma_min·(sigma_max/sigma_min)^t with t in [0, 1] (arXiv 2011.13456, section 3.4)."""
        sigmas = grids.uniform_lam(sigma_max, sigma_min, n).flip(0)
        config = {"kind": "ve", "sigma_min": sigma_min, "sigma_max": sigma_max, "timesteps": n}
        return cls(torch.linspace(0, 1, n, dtype=torch.float64), torch.ones_like(sigmas), sigmas, "ve", config)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Schedule":
        """The schedule that `to_config` wrote: a `kind` and that constructor's arguments, `n` being called `timesteps`.

        >>> Schedule.from_config({"kind": "linear", "timesteps": 100}).to_config()
        {'kind': 'linear', 'beta_start': 0.0001, 'beta_end': 0.02, 'timesteps': 100}
        """
        if not isinstance(config, Mapping):
            raise ValueError(f'schedule: got {config!r}, expected a mapping such as {{"kind": "linear"}}')
        options = dict(config)
        kind = options.pop("kind", None)
        if not isinstance(kind, str) or kind not in _KINDS:
            raise ValueError(f"kind: got {kind!r}, expected one of {', '.join(map(repr, _KINDS))}")
        unknown = sorted(options.keys() - _KINDS[kind])
        if unknown:
            raise ValueError(f"{kind}: got unknown keys {unknown}, expected some of {sorted(_KINDS[kind])}")
        if lacking := sorted(_NEEDED.get(kind, set()) - options.keys()):
            raise ValueError(f"{kind}: got no {', '.join(lacking)}, expected all of {sorted(_NEEDED[kind])}")
        for name, value in options.items():
            if name in _NUMBERS:
                check_number(name, value, "a finite number")
                options[name] = float(value)
            elif name == "levels" or (name == "timesteps" and kind != "table"):
                options[name] = whole(name, value, 2, _MOST)
            elif name not in ("of", "path"):
                values = value if isinstance(value, list) else [value]
                for one in values:
                    check_number(name, one, "a list of finite numbers")
                options[name] = [float(one) for one in values]
        if kind == "zero_terminal_snr":
            return cls.from_config(options["of"]).zero_terminal_snr()
        if kind == "fading":
            return cls.from_config(options.pop("of")).fading(**options)
        if kind == "table":
            return cls(**options)
        if kind == "alpha_bar":
            return cls.from_alpha_bar(**options)
        if "timesteps" in options:
            options["n"] = options.pop("timesteps")
        schedule: Schedule = getattr(cls, kind)(**options)
        return schedule

    def to_config(self) -> dict[str, Any]:
        """Plain numbers and lists, ready for json; `from_config` gives the same tables back, bit for bit."""
        if self.config is not None:
            return dict(self.config)
        tables = {name: getattr(self, name).tolist() for name in ("timesteps", "alpha", "sigma_vp")}
        return {"kind": "table", **tables, "path": self.path}

    def zero_terminal_snr(self) -> "Schedule":
        """This schedule with its last alpha moved to 0 and its first kept (arXiv 2305.08891, Algorithm 1).

        alpha' = (alpha - alpha_T)·alpha_1/(alpha_1 - alpha_T); sigma = inf at the last level, where only networks that
        predict x0, v or flow can start. For variance-preserving schedules; one whose last alpha is 0 stays as it is.

        >>> Schedule.scaled_linear().zero_terminal_snr().grid(4)
        tensor([   inf, 5.3987, 1.7681, 0.7271, 0.0000], dtype=torch.float64)
        """
        if self.path != "vp" or not bool(((self.alpha**2 + self.sigma_vp**2 - 1).abs() < 1e-12).all()):
            raise ValueError("zero_terminal_snr is for variance-preserving schedules, alpha² + sigma_vp² = 1")
        first, last = self.alpha[0], self.alpha[-1]
        alpha = (self.alpha - last) * (first / (first - last))
        alpha[0] = first
        config = {"kind": "zero_terminal_snr", "of": self.to_config()}
        return Schedule(self.timesteps, alpha, (1 - alpha**2).sqrt(), "vp", config)

    def fading(self, end: float = 0.7, levels: int = 400) -> "Schedule":
        """This schedule with alpha multiplied by a factor that falls from 1 to `end` over the first `levels` levels.

        VideoCrafter2 was trained so (its `use_scale`): x0 fades while the noise stays, z = factor·alpha·x0 +
        sigma_vp·eps, and alpha² + sigma_vp² < 1.

        >>> schedule = Schedule.scaled_linear()
        >>> round(float(schedule.fading().sigmas[999] / schedule.sigmas[999]), 6)  # 1 / 0.7
        1.428571
        """
        if not 0 < end <= 1:
            raise ValueError(f"end: got {end}, expected a factor in (0, 1]")
        if not 2 <= levels <= len(self.timesteps):
            raise ValueError(f"levels: got {levels}, expected from 2 to the {len(self.timesteps)} training levels")
        factor = torch.full_like(self.alpha, end)
        factor[:levels] = torch.linspace(1, end, levels, dtype=torch.float64)
        config = {"kind": "fading", "of": self.to_config(), "end": end, "levels": levels}
        return Schedule(self.timesteps, factor * self.alpha, self.sigma_vp, self.path, config)

    # Maps -------------------------------------------------------------------------------------------------------------

    @cached_property
    def sigmas(self) -> Tensor:
        """sigma of every training level, (T,), increasing."""
        return self.sigma_vp / self.alpha

    @cached_property
    def sigma_min(self) -> float:
        return float(self.sigmas[0])

    @cached_property
    def sigma_max(self) -> float:
        """The level of the noisiest training step; inf where its alpha is 0."""
        return float(self.sigmas[-1])

    def sigma(self, t: float | Tensor) -> Tensor:
        """Level of the network time `t`, of any shape; a training level exactly, ValueError out of range."""
        return _each(self._sigma, t, "t")

    def t(self, sigma: float | Tensor) -> Tensor:
        """Network time of the level `sigma`, of any shape; fractional between levels, ValueError out of range and at 0,
        of which no network knows the time."""
        return _each(self._t, sigma, "sigma")

    def alpha_at(self, sigma: float | Tensor) -> Tensor:
        """alpha at the level `sigma`, of any shape: z = alpha·x; ValueError out of range.

        0, the level of a clean clip, is in range: alpha is 1 there, times the factor of the first training level.
        """
        return _each(self._alpha, sigma, "sigma")

    def at(self, sigma: Tensor) -> tuple[Tensor, float]:
        """t and alpha at the level `sigma` (0-d), as `t` and `alpha_at` give them; remembered for the last levels."""
        check_plain("sigma", sigma)
        value = sigma.item()
        if value not in self._known:
            if len(self._known) >= 1024:
                self._known.clear()
            self._known[value] = torch.tensor(self._t(value), dtype=torch.float64), self._alpha(value)
        return self._known[value]

    def nearest(self, t: Tensor) -> Tensor:
        """The training time nearest to `t` (0-d), for networks whose time embedding is a table."""
        return self.timesteps[(self.timesteps - t).abs().argmin()]

    def start(self, z: Tensor, sigma: float | Tensor) -> Tensor:
        """Where a run begins: x = z / alpha(sigma) for z of any shape, N(0, 1) at the noisiest level and a clean clip
        at 0; z itself at sigma = inf."""
        alpha = self.alpha_at(sigma)
        return z if alpha == 0 else z / alpha

    def grid(
        self,
        n: int,
        spacing: Spacing = "trailing",
        *,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        rho: float | None = None,
        offset: int | None = None,
        shift: float | None = None,
    ) -> Tensor:
        """The (n + 1,) float64 levels of a run of n steps, decreasing and ending in 0.

        "trailing", "leading" (with `offset`, default 1) and "linspace" visit training levels; "karras" (with `rho`,
        default 7) and "uniform-lam" run from `sigma_max` to `sigma_min`, by default the ends of the schedule.
        "shifted-flow" (with `shift`, default 1: even times) is for rectified flows and begins at inf.
        """
        n = whole("n", n, 1)
        options = {"sigma_min": sigma_min, "sigma_max": sigma_max, "rho": rho, "offset": offset, "shift": shift}
        if spacing not in _GRIDS:
            raise ValueError(f"spacing: got {spacing!r}, expected one of {', '.join(map(repr, _GRIDS))}")
        given = {name: value for name, value in options.items() if value is not None}
        if given.keys() - _GRIDS[spacing]:
            raise ValueError(f"spacing={spacing!r} does not take {', '.join(sorted(given.keys() - _GRIDS[spacing]))}")
        if spacing in ("karras", "uniform-lam"):
            if sigma_max is None and math.isinf(self.sigma_max):
                raise ValueError(
                    f"spacing={spacing!r} has no level to begin at where the schedule's last is infinite: expected "
                    "'trailing', 'leading', 'linspace', or a finite sigma_max"
                )
            ends = given.pop("sigma_max", self.sigma_max), given.pop("sigma_min", self.sigma_min)
            levels = grids.karras(*ends, n, **given) if spacing == "karras" else grids.uniform_lam(*ends, n)
        elif spacing == "shifted-flow":
            levels = self._shifted(n, **given)
        else:
            if n > len(self.timesteps):
                raise ValueError(f"n: got {n} steps, expected at most the {len(self.timesteps)} training levels")
            pick = {"trailing": grids.trailing, "leading": grids.leading, "linspace": grids.linspace}[spacing]
            levels = self.sigmas[pick(len(self.timesteps), n, **given)]
        return torch.cat([levels, levels.new_zeros(1)])

    def _shifted(self, n: int, shift: float = 1.0) -> Tensor:
        if self.path != "flow":
            raise ValueError(f"spacing='shifted-flow' is for rectified flows, got a schedule of path {self.path!r}")
        levels = grids.shifted_flow(n, shift)
        if not self.sigma_min <= levels[-1]:
            raise ValueError(
                f"n, shift: got {n}, {shift:g}, whose last level {float(levels[-1]):g} is below the schedule's lowest, "
                f"{self.sigma_min:g}"
            )
        return levels

    # Internals: the maps on single floats, in double precision --------------------------------------------------------

    def _sigma(self, t: float) -> float:
        k, share = self._locate(t, self._times, self._times, "t")
        if share in (0, 1):
            return self._levels[k + int(share)]
        return _PATHS[self.path].unwarp(_between(self._warped, k, share))

    def _t(self, sigma: float) -> float:
        k, share = self._locate(sigma, self._levels, self._warped, "sigma", _PATHS[self.path].warp)
        return _between(self._times, k, share)

    def _alpha(self, sigma: float) -> float:
        if sigma == 0:
            return self._factor[0] * _PATHS[self.path].alpha(0.0)
        k, share = self._locate(sigma, self._levels, self._warped, "sigma", _PATHS[self.path].warp)
        if share in (0, 1):
            return self._alphas[k + int(share)]
        return _between(self._factor, k, share) * _PATHS[self.path].alpha(sigma)

    def _locate(
        self,
        value: float,
        table: list[float],
        warped: list[float],
        name: str,
        warp: Callable[[float], float] = lambda value: value,
    ) -> tuple[int, float]:
        """Segment k and share of `value` between levels k and k + 1 as `warped`; exactly 0 or 1 on a level, and on
        what the slack allows outside the range."""
        if not within(value, table[0], table[-1]):
            clean = ", a clean clip, which no network was trained on" if name == "sigma" and value == 0 else ""
            raise ValueError(
                f"{name}: got {value:g}{clean}, expected a value in [{table[0]:g}, {table[-1]:g}], the schedule's range"
            )
        value = min(max(value, table[0]), table[-1])
        k = min(bisect_right(table, value), len(table) - 1) - 1
        if value in (table[k], table[k + 1]):
            return k, float(value == table[k + 1])
        if math.isinf(self._warped[k + 1]):
            if within(value, table[0], table[k]):
                return k, 0.0
            raise ValueError(
                f"{name}: got {value:g}, between the last two training levels, the last of which is infinite"
            )
        return k, (warp(value) - warped[k]) / (warped[k + 1] - warped[k])

    @cached_property
    def _known(self) -> dict[float, tuple[Tensor, float]]:
        return {}

    @cached_property
    def _times(self) -> list[float]:
        times: list[float] = self.timesteps.tolist()
        return times

    @cached_property
    def _levels(self) -> list[float]:
        levels: list[float] = self.sigmas.tolist()
        return levels

    @cached_property
    def _alphas(self) -> list[float]:
        alphas: list[float] = self.alpha.tolist()
        return alphas

    @cached_property
    def _warped(self) -> list[float]:
        return [_PATHS[self.path].warp(sigma) for sigma in self._levels]

    @cached_property
    def _factor(self) -> list[float]:
        return [_PATHS[self.path].factor(*pair) for pair in zip(self._alphas, self.sigma_vp.tolist(), strict=True)]


def _each(function: Callable[[float], float], values: float | Tensor, name: str) -> Tensor:
    """`function` of every entry, as a float64 CPU tensor of the same shape."""
    given = plain_numbers(name, values)
    return torch.tensor([function(value) for value in given.flatten().tolist()], dtype=torch.float64).reshape(
        given.shape
    )


def _between(table: list[float], k: int, share: float) -> float:
    """Linear interpolation, exact at both ends."""
    return (1 - share) * table[k] + share * table[k + 1] if 0 < share < 1 else table[k + int(share)]


def _check_betas(beta_start: float, beta_end: float) -> None:
    if not 0 < beta_start <= beta_end < 1:
        raise ValueError(f"beta_start, beta_end: got {beta_start}, {beta_end}, expected 0 < beta_start <= beta_end < 1")


class _VP:
    """t is linear in log sigma, and alpha² + sigma_vp² = 1 up to a factor."""

    @staticmethod
    def warp(sigma: float) -> float:
        return math.log(sigma)

    @staticmethod
    def unwarp(warped: float) -> float:
        return math.exp(warped)

    @staticmethod
    def alpha(sigma: float) -> float:
        return 1 / math.sqrt(1 + sigma**2)

    @staticmethod
    def factor(alpha: float, sigma_vp: float) -> float:
        return math.hypot(alpha, sigma_vp)


class _VE(_VP):
    """t is linear in log sigma, and alpha = 1 up to a factor."""

    @staticmethod
    def alpha(sigma: float) -> float:
        return 1.0

    @staticmethod
    def factor(alpha: float, sigma_vp: float) -> float:
        return alpha


class _Flow(_VP):
    """t is linear in sigma / (1 + sigma), written so that inf gives 1, and alpha + sigma_vp = 1 up to a factor."""

    @staticmethod
    def warp(sigma: float) -> float:
        return 1 / (1 + 1 / sigma)

    @staticmethod
    def unwarp(warped: float) -> float:
        return warped / (1 - warped)

    @staticmethod
    def alpha(sigma: float) -> float:
        return 1 / (1 + sigma)

    @staticmethod
    def factor(alpha: float, sigma_vp: float) -> float:
        return alpha + sigma_vp


_PATHS: dict[str, type[_VP]] = {"vp": _VP, "ve": _VE, "flow": _Flow}

_KINDS = {
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
_NEEDED = {
    "ve": {"sigma_min", "sigma_max"},
    "alpha_bar": {"alpha_bar"},
    "zero_terminal_snr": {"of"},
    "fading": {"of"},
    "table": {"timesteps", "alpha", "sigma_vp"},
}
_MOST = 100_000  # training levels; what is met has a thousand
_NUMBERS = {"beta_start", "beta_end", "s", "beta_max", "t_max", "sigma_min", "sigma_max", "end"}

_GRIDS: dict[str, set[str]] = {
    "trailing": set(),
    "leading": {"offset"},
    "linspace": set(),
    "karras": {"sigma_min", "sigma_max", "rho"},
    "uniform-lam": {"sigma_min", "sigma_max"},
    "shifted-flow": {"shift"},
}
