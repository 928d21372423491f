"""Options as a command line, a JSON file or a call gives them, read into a sampler: `sampling(defaults, given)`.

An option that a sampler does not have is an error rather than ignored.
"""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any

from ivmix.models.quoting import printable
from ivmix.samplers.base import Sampling, one_of
from ivmix.samplers.elsewhere import ELSEWHERE, SOLVERS_ELSEWHERE
from ivmix.samplers.options import OPTIONS
from ivmix.samplers.samplers import SAMPLERS
from ivmix.samplers.solver_names import SOLVERS
from ivmix.solvers import GuidanceRamp, Solver
from ivmix.typed import check_keys, meant, short


def sampling(defaults: Mapping[str, Any], given: Mapping[str, Any], beside: Iterable[str] = ()) -> Sampling:
    """A pair's defaults ({"sampler": name, name: {option: value}}) with what was given (None: not given) on top.

    Texts such as "4:2" and "0:0.5" are read. Raises ValueError naming the option: unknown (`beside` are other names
    that the caller takes), without meaning for the sampler, missing, or out of range.
    """
    options = {name: value for name, value in given.items() if value is not None}
    name = options.pop("sampler", defaults["sampler"])
    _check_not_a_solver(name)
    one_of("sampler", name, SAMPLERS)
    kind = SAMPLERS[name]
    for option in options:
        if option not in OPTIONS:
            known = (*beside, "sampler", *OPTIONS)
            hint = f"it is {ELSEWHERE[option]} here" if option in ELSEWHERE else meant(option, known)
            raise ValueError(f"option {short(option)} is not known: {hint}")
        if option not in names(kind):
            takers = ", ".join(n for n, k in SAMPLERS.items() if option in names(k))
            raise ValueError(f"{option} has no meaning for sampler {name!r}: it belongs to {takers}")
    own = dict(defaults.get(name, {}))
    if isinstance(options.get("solver"), Solver):
        own.pop("end", None)  # an instance says how it ends
    options = {**own, **options}
    if ours := _ours(options.get("solver")):
        raise ValueError(f"solver {options['solver']!r} is not known: it is {ours} here")
    needed = {f.name for f in fields(kind) if f.default is MISSING}
    check_keys(options, dict.fromkeys(names(kind)), needed, f"sampler {name!r}")
    return kind(**{option: _read(option, value) for option, value in options.items()})


def completed(defaults: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Every option of every sampler that a pair's defaults know, as it is when none is given, in the help's order.

    Of a sampler that the defaults leave wanting, what they have: the rest has to be given with a run.
    """
    found = {}
    for name in [name for name in SAMPLERS if name in defaults]:
        try:
            said = sampling(defaults, {"sampler": name}).to_dict()
        except ValueError:
            said = defaults[name]
        found[name] = {option: said[option] for option in OPTIONS if option in said}
    return found


def written(value: Any) -> str:
    """An option of a record or of `completed` as a flag takes it.

    >>> written([0.5, 1.0]), written(20)
    ('0.5:1', '20')
    """
    return ":".join(f"{part:g}" for part in value) if isinstance(value, list) else f"{value}"


def names(kind: type[Sampling]) -> list[str]:
    """The options of a sampler."""
    return [field.name for field in fields(kind)]


def _ours(solver: Any) -> str | None:
    """What a solver that others name so is called here."""
    return SOLVERS_ELSEWHERE.get(solver) if isinstance(solver, str) else None


def _check_not_a_solver(name: Any) -> None:
    """Raises ValueError for a solver, which others call a sampler, in a sampler's place."""
    solver = name if isinstance(name, str) and name in SOLVERS else _ours(name)
    if solver and name not in SAMPLERS:
        raise ValueError(
            f"sampler {name!r}: expected one of {', '.join(SAMPLERS)}; that is sampler ddim with solver {solver}"
        )


def _read(name: str, value: Any) -> Any:
    """Texts and lists, as a command line or a JSON file gives them, and NumPy's numbers, as the dataclasses hold
    them."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    kind = OPTIONS[name].kind
    if kind == "ramp" and not isinstance(value, GuidanceRamp):
        try:
            return GuidanceRamp.parse(str(value))
        except ValueError as error:
            raise ValueError(f"{name}={printable(value, 60)}: {printable(error, 200)}") from None
    if kind == "part":
        try:
            begin, end = (float(part) for part in (value.split(":") if isinstance(value, str) else value))
        except (TypeError, ValueError):
            raise ValueError(f"{name}={printable(value, 60)}: expected A:B, such as 0:0.5") from None
        return begin, end
    return value
