"""The only loop: it plays legs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.func import debug_unwrap

from ivmix.solvers.algebra.affine import Affine, Output, combine, count_rows, predict, value_at
from ivmix.solvers.algebra.denoiser import Denoiser, Noise, Recalling, cast, level, like
from ivmix.solvers.algebra.field import Composite, Field
from ivmix.solvers.algebra.filters import Linear
from ivmix.solvers.algebra.guidance import guide
from ivmix.solvers.algebra.mixing import HERE, Mix
from ivmix.solvers.algebra.noise import RecordedNoise, draw
from ivmix.solvers.checks import check_legs
from ivmix.solvers.plans.editing import noised
from ivmix.solvers.plans.legs import Leg
from ivmix.solvers.schedules.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One evaluation of a leg's field, as `integrate` shows it to `watch`; all tensors detached.

    `leg`: the leg's number in the plan, from 0. `x0` is what the field made of the state `x` at the level `told`, both
    as the leg's view has them. `outputs`: of an `Affine` (and of a `Guided` or `Composite`, which become one), what
    each atom predicted and with which weight, in the order of evaluation; of other denoisers, which do not say, none.
    """

    leg: int
    told: float
    x: Tensor = field(repr=False)
    x0: Tensor = field(repr=False)
    outputs: tuple[Output, ...] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Record:
    """One leg as it was played: its number in the plan, from 0, the levels its network was told, rows per network, the
    detached state after it, and the detached x0 that it evaluated first, None if it evaluated none."""

    leg: Leg
    number: int
    told: tuple[float, ...]
    forwards: Mapping[str, int]
    x: Tensor = field(repr=False)
    x0: Tensor | None = field(repr=False)


@dataclass(frozen=True)
class Run:
    """What `integrate` returns, and what it shows to its callback.

    `x`: the state, at the level `at`: the target of the last leg played. `nfe`: guided evaluations per network.
    `forwards`: rows per network, cond and uncond counted one by one (a batch of any size is one row). `trace`: one
    `Record` per leg, if asked for. `cancelled`: whether the callback ended it early. `leg`: the number of the last leg
    played, from 0. `x0`: a preview without a further evaluation, detached and of x's shape: what the last leg that
    evaluated a network found first; None before any, and in a run with neither callback nor trace, which keeps none.
    """

    x: Tensor = field(repr=False)
    at: float
    nfe: Mapping[str, int]
    forwards: Mapping[str, int]
    trace: tuple[Record, ...] | None = field(default=None, repr=False)
    cancelled: bool = False
    leg: int = 0
    x0: Tensor | None = field(default=None, repr=False)


Callback = Callable[[int, int, Run], Any]
Watch = Callable[[Evaluation], Any]


class NotFiniteError(ValueError):
    """A state became NaN or infinite; `step` is the number of the outer step that did it, None for the initial
    state. `networks` are those whose very first prediction, of a finite state, was not finite: look at their weights.
    """

    def __init__(self, message: str, step: int | None, networks: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.step, self.networks = step, networks


def integrate(
    fields: Field | Mapping[str, Field],
    legs: Sequence[Leg],
    x: Tensor,
    *,
    noise: Noise | RecordedNoise | None = None,
    schedule: Schedule | None = None,
    callback: Callback | None = None,
    trace: bool = False,
    watch: Watch | None = None,
) -> Run:
    """Plays `legs`, from the state `x` at the first leg's source.

    `fields`: one field for every leg, or one for each network that the legs name. A field is a `Guided`, or one of
    adaptive guidance such as `APG`, under the scale of its leg; a denoiser, whose legs have guidance None; or a
    `Composite`, whose churn must be its solver's (0 for all deterministic ones). `noise(sigma, sigma_next)` gives unit
    normals of x's shape to R legs and stochastic solvers (see `normal_noise`, and `RecordedNoise` for what several
    plans share). `schedule` relates x to z for legs that act on z or begin a run again (see `Leg`) and is not needed
    otherwise. `callback(step, total, run)` follows every outer step, `step` counting from 1; returning False cancels.
    `watch(evaluation)` follows every evaluation of a field, with what each network of an `Affine` predicted; nothing of
    it is kept here.

    x `b c f h w` is computed on in at least float32. Nothing waits for the device (adaptive solvers do, once an
    attempt): whether a state was finite is kept there and read once, at the end, when a NaN or inf raises
    `NotFiniteError` naming its step, and the networks that began with one. Autograd is left as the caller set it, and
    torch.func's transforms pass through, but vmap over adaptive solvers, which read their errors, is torch's
    RuntimeError. Memory, of multistep solvers and of fields that have one, is kept per (label, network).
    """
    play = _Player(fields, noise, schedule, watch, keep=trace or callback is not None)
    _check(legs, play, x)
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    play.start = x, legs[0].source
    steps = [(step, list(group)) for step, group in groupby(legs, key=lambda leg: leg.step)]
    records: list[Record] | None = [] if trace else None
    finite = [_total(x)]
    at, cancelled = legs[0].source, False
    for count, (_, group) in enumerate(steps, 1):
        for leg in group:
            x, told, forwards = play(leg, x, at)
            at = leg.target
            if records is not None:
                records.append(Record(leg, play.leg, told, forwards, x.detach(), play.x0 if told else None))
        finite.append(_total(x))
        if callback is not None and callback(count, len(steps), play.run(x, at, records)) is False:
            cancelled = count < len(steps)
            break
    _check_finite(finite, steps, play.first)
    return play.run(x, at, records, cancelled)


class _Player:
    """Plays single legs and keeps what a run accumulates: counts and multistep memory."""

    def __init__(
        self,
        fields: Field | Mapping[str, Field],
        noise: Noise | RecordedNoise | None,
        schedule: Schedule | None,
        watch: Watch | None,
        keep: bool,
    ) -> None:
        self.fields, self.noise, self.schedule = fields, noise, schedule
        self.watch, self.keep = watch, keep
        self.leg = -1  # the number of the leg being played
        self.x0: Tensor | None = None  # what the last leg with a network evaluated first, if `keep`
        self.noises: dict[tuple[int, str], Noise] = {}  # of recorded legs
        self.nfe: dict[str, int] = {}
        self.forwards: dict[str, int] = {}
        self.memory: dict[tuple[str, str | None], Any] = {}
        self.recalled: dict[tuple[str, str | None], Any] = {}  # memory of fields
        self.denoisers: dict[tuple[str, float | None], Denoiser] = {}
        self.kept: dict[str, Tensor] = {}  # states that legs are to mix
        self.first: dict[tuple[str, ...], Tensor] = {}  # sums of a first evaluation's state and x0, by its networks
        self.start: tuple[Tensor, float]

    def __call__(self, leg: Leg, x: Tensor, at: float) -> tuple[Tensor, tuple[float, ...], dict[str, int]]:
        """The state after `leg`, the levels that were told and the rows that were spent."""
        self.leg += 1
        if leg.source != at:
            x = self._reread(x, at, leg.source)
        if leg.network is None:
            return (self._renoise(leg, x) if leg.mix is None else self._mixed(leg.mix, x)), (), {}
        told: list[float] = []
        forwards: dict[str, int] = {}
        denoise = self._counted(leg, told, forwards)
        lane = leg.label, leg.network
        y, self.memory[lane] = leg.solver.step(
            denoise, leg.view.enter(x) if leg.view else x, leg.source, leg.target, self.memory.get(lane), self._of(leg)
        )
        if leg.view:
            y = leg.view.leave(y, x)
            if self.x0 is not None and told:
                self.x0 = leg.view.leave(self.x0, x.detach())
        return y, tuple(told), forwards

    def field(self, leg: Leg) -> Field:
        if not isinstance(self.fields, Mapping):
            return self.fields
        field = self.fields.get(str(leg.network))
        if field is None:
            raise ValueError(f"fields: got {sorted(self.fields)}, but the legs also need {leg.network!r}")
        return field

    def denoiser(self, leg: Leg) -> Denoiser:
        """The leg's field under the leg's guidance; built once per network and scale."""
        key = str(leg.network), leg.guidance
        if key not in self.denoisers:
            field = self.field(leg)
            if hasattr(field, "predict") and hasattr(field, "reach"):  # a Model
                raise TypeError(f"fields: got a {type(field).__name__}; give it a condition: network(condition)")
            field = field.denoise if isinstance(field, Composite) else field
            self.denoisers[key] = guide(field, leg.guidance, f"leg {leg.label!r} of {leg.network!r}")
        return self.denoisers[key]

    def run(self, x: Tensor, at: float, records: list[Record] | None, cancelled: bool = False) -> Run:
        trace = None if records is None else tuple(records)
        return Run(x, at, dict(self.nfe), dict(self.forwards), trace, cancelled, self.leg, self.x0)

    def _of(self, leg: Leg) -> Noise | None:
        """The noise for `leg`, which a recording gives by step and leg."""
        if not isinstance(self.noise, RecordedNoise):
            return self.noise
        return self.noises.setdefault((leg.step, leg.label), self.noise.of(leg.step, leg.label))

    def _counted(self, leg: Leg, told: list[float], forwards: dict[str, int]) -> Denoiser:
        """The leg's denoiser; counts its evaluations and tells the network the leg's level."""
        denoise, lane = self.denoiser(leg), (leg.label, leg.network)
        memory = self.recalled.get(lane)

        def counted(x: Tensor, sigma: Tensor) -> Tensor:
            heard = sigma if leg.told == leg.source or sigma != leg.source else level(leg.told)
            y = x if heard is sigma else self._reread(x, leg.source, leg.told)
            outputs: list[Output] = []
            if isinstance(denoise, Affine):
                batches = denoise.batches(heard)
                cost, outputs = count_rows(batches), predict(batches, y, heard)
                x0 = combine(outputs, y)
            elif isinstance(denoise, Recalling):
                cost = denoise.cost(heard)
                x0, left = denoise.recall(y, heard, memory)
                if not told:  # of a leg's evaluations the first is on the trajectory
                    self.recalled[lane] = left
            elif hasattr(denoise, "run"):  # as a Nested
                run = denoise.run(y, heard)
                x0, cost = run.x, run.forwards
                for name, number in run.nfe.items():
                    self.nfe[name] = self.nfe.get(name, 0) + number - 1
            else:
                cost = denoise.cost(heard) if hasattr(denoise, "cost") else {str(leg.network): 1}  # as a Rescaled
                x0 = denoise(y, heard)
            x0 = cast(like(y, x0, f"fields[{leg.network!r}]"), x.dtype)
            told.append(heard.item())
            for name, rows in cost.items():
                self.nfe[name] = self.nfe.get(name, 0) + 1
                self.forwards[name] = self.forwards.get(name, 0) + rows
                forwards[name] = forwards.get(name, 0) + rows
            if self.watch is not None:
                shown = tuple(output._replace(x0=output.x0.detach()) for output in outputs)
                self.watch(Evaluation(self.leg, told[-1], y.detach(), x0.detach(), shown))
            if heard is not sigma:
                x0 = x.sub(y - x0, alpha=leg.source / leg.told)
            if self.keep and len(told) == 1:
                self.x0 = x0.detach()
            if (networks := tuple(cost)) not in self.first:
                self.first[networks] = torch.stack([_total(x), _total(x0)])
            return x0

        return counted

    def _renoise(self, leg: Leg, x: Tensor) -> Tensor:
        noise = self._of(leg)
        assert noise is not None  # _check
        xi = draw(noise, x, level(leg.source), level(leg.target))
        if leg.keep is not None:
            return self._mixed_with_fresh(leg, leg.keep, x, xi)
        return xi if math.isinf(leg.target) else x.add(xi, alpha=math.sqrt(leg.target**2 - leg.source**2))

    def _mixed(self, mix: Mix, x: Tensor) -> Tensor:
        y = mix(x, self.kept)
        if mix.name is not None:
            self.kept[mix.name] = y
        return y

    def _mixed_with_fresh(self, leg: Leg, keep: Linear, state: Tensor, xi: Tensor) -> Tensor:
        """What `keep` passes of `state`, one at 0 under the run's first noise, and what it stops, or `fill` passes, of
        a start from fresh noise."""
        assert self.schedule is not None  # _check
        self.memory.clear()
        self.recalled.clear()
        x, sigma = self.start
        old = state if leg.source else noised(state, leg.target, self._scale(sigma) * x)
        new = self.schedule.start(xi, leg.target)
        return new + keep(old - new) if leg.fill is None else keep(old) + leg.fill(new)

    def _reread(self, x: Tensor, at: float, source: float) -> Tensor:
        """The same z, read at another level."""
        return x * (self._scale(at) / self._scale(source))

    def _scale(self, sigma: float) -> float:
        """z in units of the state: alpha, or 1 at inf, where the state is z."""
        assert self.schedule is not None  # _check
        return 1.0 if math.isinf(sigma) else self.schedule.alpha_at(sigma).item()


def _total(x: Tensor) -> Tensor:
    """NaN or infinite if any value is: one pass, no temporary. All values, whatever function transform carries them."""
    return debug_unwrap(x).detach().sum()


def _check(legs: Sequence[Leg], play: _Player, x: Tensor) -> None:
    """Everything that can be known to be wrong before the first evaluation."""
    check_legs(legs)
    if not legs:
        raise ValueError("legs: got none, expected at least one")
    if not (play.noise is None or isinstance(play.noise, RecordedNoise) or callable(play.noise)):
        raise TypeError(f"noise: got a {type(play.noise).__name__}, expected a function, as normal_noise makes it")
    if not x.is_floating_point():
        raise ValueError(f"x: got dtype {x.dtype}, expected floating point")
    at, kept = legs[0].source, dict[str, float]()
    for leg, source in zip(legs, torch.tensor([leg.source for leg in legs], dtype=torch.float64), strict=True):
        if leg.source != at or leg.told != leg.source:
            _check_z(leg, at, play)
        if leg.keep is not None and (play.schedule is None or not (leg.source or legs[0].source > at == 0)):
            what = "mixes z with fresh noise" if leg.source else "begins a run again"
            raise ValueError(
                f"{_name(leg)} {what}: it needs schedule=..., and from 0 a run from above 0 to 0, got "
                f"{legs[0].source:g} -> {at:g}"
            )
        at = leg.target
        if leg.mix is not None:
            _check_mix(leg, leg.mix, kept)
            continue
        if leg.network is None:
            if play.noise is None:
                raise ValueError(f"{_name(leg)} adds fresh noise: pass noise=normal_noise(seeds, shape)")
            if not leg.target >= leg.source < math.inf:
                raise ValueError(f"{_name(leg)}: fresh noise goes up, got {leg.source:g} -> {leg.target:g}")
            continue
        play.denoiser(leg)
        if leg.target == 0 or leg.source in (0, math.inf):  # nothing is drawn at the ends
            continue
        churn = leg.solver.churn_at(source)
        if churn > 0 and play.noise is None:
            raise ValueError(
                f"{_name(leg)}: {type(leg.solver).__name__} draws noise: pass noise=normal_noise(seeds, shape)"
            )
        field = play.field(leg)
        if isinstance(field, Composite):
            wanted = float(value_at(field.churn, source))
            if not math.isclose(wanted, churn, abs_tol=1e-12):
                raise ValueError(
                    f"{_name(leg)}: the composite has churn {wanted:g} (its R legs), but {type(leg.solver).__name__} "
                    f"has {churn:g}; use SDEDPMSolverPP2M(composite.churn)"
                )


def _check_z(leg: Leg, at: float, play: _Player) -> None:
    """A leg that acts on z, with the state at the level `at`."""
    if play.schedule is None:
        raise ValueError(
            f"{_name(leg)}: source {leg.source:g}, told {leg.told:g}, but the state is at {at:g}; "
            "legs that act on z need schedule=..."
        )
    if leg.told != leg.source and not 0 < leg.told < math.inf:
        raise ValueError(f"{_name(leg)}: got told {leg.told:g}, expected its source or a level between 0 and inf")


def _check_mix(leg: Leg, mix: Mix, kept: dict[str, float]) -> None:
    """A leg that mixes states, of which `kept` are known, with their levels."""
    try:
        mix.check({HERE: leg.source, **kept}, leg.target)
    except ValueError as error:
        raise ValueError(f"{_name(leg)} {error}") from None
    if mix.name is not None:
        kept[mix.name] = leg.target


def _name(leg: Leg) -> str:
    return f"leg {leg.label!r} of step {leg.step}"


def _check_finite(
    sums: list[Tensor], steps: list[tuple[int, list[Leg]]], firsts: Mapping[tuple[str, ...], Tensor]
) -> None:
    finite = torch.stack(sums).isfinite().tolist()  # the one read from the device
    if all(finite):
        return
    first = finite.index(False)
    if first == 0:
        raise NotFiniteError("x: the initial state has NaN or infinite values", None)
    step, legs = steps[first - 1]
    names = ", ".join(dict.fromkeys(str(leg.network or "noise") for leg in legs))
    move = f"from sigma {legs[-1].source:.4g} to {legs[-1].target:.4g}"
    began = [networks for networks, values in firsts.items() if values.isfinite().tolist() == [True, False]]
    networks = tuple(dict.fromkeys(name for names in began for name in names))
    why = "does the network overflow in its dtype, or is the guidance too large?"
    if networks:
        why = f"so did the very first evaluation of {' and '.join(networks)}: are the weights finite? If so, {why}"
    raise NotFiniteError(
        f"step {step} (number {first} of {len(steps)}, {move}; {names}) gave NaN or infinite values; {why}",
        step, networks,
    )  # fmt: skip
