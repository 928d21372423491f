"""Noise schedules: what a network was trained on, and the maps between its time t and sigma.

A training level is z = alpha·x0 + sigma_vp·eps; sigma = sigma_vp / alpha is the library's only time-like variable and
t, the network's own index, never leaves its adapter. Schedules of three paths differ in how they join their training
levels (see `paths`): "vp" of DDPM-like networks, "ve" of variance-exploding ones, and "flow" of rectified flows, whose
maps are exact for continuous t.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ivmix.solvers.checks import check_plain, plain_numbers, whole
from ivmix.solvers.schedules import betas, grids
from ivmix.solvers.schedules.configs import read_config
from ivmix.solvers.schedules.paths import PATHS, Maps, Path, each
from ivmix.solvers.schedules.spacings import SPACINGS, Spacing


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
        if not isinstance(self.path, str) or self.path not in PATHS:
            raise ValueError(f"path: got {self.path!r}, expected one of {', '.join(map(repr, PATHS))}")
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
        config = {"kind": "scaled_linear", "beta_start": beta_start, "beta_end": beta_end, "timesteps": n}
        return cls.from_alpha_bar(betas.scaled_linear(beta_start, beta_end, n), config=config)

    @classmethod
    def linear(cls, beta_start: float = 0.0001, beta_end: float = 0.02, n: int = 1000) -> "Schedule":
        """Linear betas (DDPM, arXiv 2006.11239; AnimateDiff with 0.00085, 0.012)."""
        config = {"kind": "linear", "beta_start": beta_start, "beta_end": beta_end, "timesteps": n}
        return cls.from_alpha_bar(betas.linear(beta_start, beta_end, n), config=config)

    @classmethod
    def cosine(cls, s: float = 0.008, n: int = 1000, beta_max: float = 0.999) -> "Schedule":
        """alpha_bar = cos²((k/n + s)/(1 + s)·pi/2), with betas capped at `beta_max` (arXiv 2102.09672, eq. 17)."""
        config = {"kind": "cosine", "s": s, "timesteps": n, "beta_max": beta_max}
        return cls.from_alpha_bar(betas.cosine(s, n, beta_max), config=config)

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

        diffusers' scheduler_config.json, or a scheduler's `config`, is read too, as far as it is about training;
        ValueError for a schedule that none here is.

        >>> Schedule.from_config({"kind": "linear", "timesteps": 100}).to_config()
        {'kind': 'linear', 'beta_start': 0.0001, 'beta_end': 0.02, 'timesteps': 100}
        >>> Schedule.from_config({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}).to_config()
        {'kind': 'rectified_flow', 'timesteps': 1000, 't_max': 1000.0}
        """
        kind, options = read_config(config)
        match kind:
            case "zero_terminal_snr":
                return cls.from_config(options["of"]).zero_terminal_snr()
            case "fading":
                return cls.from_config(options.pop("of")).fading(**options)
            case "table":
                return cls(**options)
        schedule: Schedule = getattr(cls, "from_alpha_bar" if kind == "alpha_bar" else kind)(**options)
        return schedule

    def __repr__(self) -> str:
        return f"Schedule({self.path}, {len(self.timesteps)} levels, sigma {self.sigma_min:g} to {self.sigma_max:g})"

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
        return each(self._maps.sigma, t, "t")

    def t(self, sigma: float | Tensor) -> Tensor:
        """Network time of the level `sigma`, of any shape; fractional between levels, ValueError out of range and at 0,
        of which no network knows the time."""
        return each(self._maps.t, sigma, "sigma")

    def alpha_at(self, sigma: float | Tensor) -> Tensor:
        """alpha at the level `sigma`, of any shape: z = alpha·x; ValueError out of range.

        0, the level of a clean clip, is in range: alpha is 1 there, times the factor of the first training level.
        """
        return each(self._maps.alpha, sigma, "sigma")

    def at(self, sigma: Tensor) -> tuple[Tensor, float]:
        """t and alpha at the level `sigma` (0-d), as `t` and `alpha_at` give them; remembered for the last levels."""
        if sigma.requires_grad:
            check_plain("sigma", sigma)
        value = sigma.item()
        if value not in self._known:
            if len(self._known) >= 1024:
                self._known.clear()
            self._known[value] = torch.tensor(self._maps.t(value), dtype=torch.float64), self._maps.alpha(value)
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

        `spacings` says what each spacing is. "leading" and "dpm-leading" take `offset` (default 1), "karras",
        "uniform-lam" and "exponential" the levels they run between, `sigma_max` and `sigma_min` (by default the ends of
        the schedule), "karras" also `rho` (7), and "shifted-flow", for rectified flows, `shift` (1: even times).
        ValueError for other options, and for a number of steps that a spacing does not have.
        """
        n = whole("n", n, 1)
        if not isinstance(spacing, str) or spacing not in SPACINGS:
            raise ValueError(f"spacing: got {spacing!r}, expected one of {', '.join(map(repr, SPACINGS))}")
        options = {"sigma_min": sigma_min, "sigma_max": sigma_max, "rho": rho, "offset": offset, "shift": shift}
        given = {name: value for name, value in options.items() if value is not None}
        levels_of, taken = SPACINGS[spacing]
        if given.keys() - taken:
            raise ValueError(f"spacing={spacing!r} does not take {', '.join(sorted(given.keys() - taken))}")
        levels = levels_of(self, n, **given)
        return torch.cat([levels, levels.new_zeros(1)])

    # Internals --------------------------------------------------------------------------------------------------------

    @cached_property
    def _maps(self) -> Maps:
        return Maps.of(self.path, self.timesteps.tolist(), self.alpha.tolist(), self.sigma_vp.tolist())

    @cached_property
    def _known(self) -> dict[float, tuple[Tensor, float]]:
        return {}
