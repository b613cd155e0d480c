"""The function on trial: which arguments it gets, and what comes back.

A `Subject` calls it with the arrays and options that its signature asks for by name, translating the option
conventions of other codes, and gives value and gradient. What the user has to mend before any law can be
tried is an InputError with the contract in it.
"""

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from derivations.cli.errors import InputError, input_errors, suggest
from derivations.conformance.backends import SINGLE, STEP, WIDE
from derivations.conformance.batches import Batch, examples, moved_apart
from derivations.conformance.calls import CallError, OutOfTime, guarded, loss_of, time_limit
from derivations.conformance.contracts import EACH, Target, family_of, options_of, required_of
from derivations.conformance.conventions import CONVENTIONS
from derivations.conformance.derived import Arrays
from derivations.conformance.expected import expected
from derivations.conformance.further import HOW, OFF

GUARD = 1e-5  # an `eps` up to here keeps from dividing by zero; above, it is a clip
DEFAULTS = {"gamma": 0.0, "label_smoothing": 0.0}


@dataclass(frozen=True)
class Result:
    """What a call gave: the value as returned (float64, [] or [B]), its mean, and the gradient of the mean."""

    value: np.ndarray
    gradient: dict[str, np.ndarray]
    exact: bool  # returned in float64, so that tolerances of float64 apply
    rough: bool = False  # the gradient is differences of values in float32, good to 1e-4

    @property
    def mean(self) -> float:
        return float(np.mean(self.value))


@dataclass(frozen=True)
class Subject:
    """A function with everything needed to call it. names: parameter -> canonical array; takes: parameter -> option."""

    function: Callable[..., Any]
    target: Target
    backend: Any
    names: dict[str, str]
    takes: dict[str, str]
    extras: dict[str, Any] = field(default_factory=dict)
    timeout: float = 0.0  # seconds a call; 0: no limit
    read: str = ""  # how its parameters and results were read, where their names are not the contract's
    part: str = ""  # where in what it returns the loss is, as code: `[0]`
    identity: Any = None  # what it was found to compute, if that was asked already

    def option_values(self, target: Target) -> dict[str, Any]:
        """The options under the function's own names, in its own conventions."""
        options = DEFAULTS | {name: value for name, value in target.options.items() if value is not None}
        if target.name in OFF and "epsilon" in options:
            options.setdefault("epsilon_high", options["epsilon"])
        given: dict[str, Any] = {}
        for parameter, ours in self.takes.items():
            if ours in CONVENTIONS and CONVENTIONS[ours][0] in options:
                given[parameter] = CONVENTIONS[ours][2](options)
            elif ours in options:
                given[parameter] = options[ours]
        return given

    def raw(self, arrays: Arrays, target: Target | None = None) -> Any:
        """What one call of the function returns; `arrays` are canonical arrays of the backend. Raises CallError."""
        target = target or self.target
        named = target.family.derive(arrays)
        if missing := [ours for ours in self.names.values() if ours not in named]:
            raise CallError(f"it asks for {', '.join(missing)}, which these inputs of {target.name} do not have")
        arguments = {parameter: named[ours] for parameter, ours in self.names.items()}
        given = self.option_values(target) | self.extras
        try:
            with time_limit(self.timeout):
                return guarded(lambda: self.function(**arguments, **given), "it raised")
        except OutOfTime as error:
            words = f"the function did not come back within {self.timeout:g} s (--timeout)"
            raise InputError(words, below=contract(self.target.name)) from error

    def call(self, arrays: Arrays, target: Target | None = None) -> Any:
        """The loss that one call returns, a scalar or one value an example. Raises CallError."""
        result, _ = loss_of(self.raw(arrays, target))
        shape = getattr(result, "shape", () if isinstance(result, int | float) else None)
        size = len(next(iter(arrays.values())))
        if shape == () and size > 1 and self.target.name in EACH:
            raise CallError(f"it returned a scalar; {self.target.name} is one value a sample, [{size}]")
        if shape is None or tuple(shape) not in {(), (size,)}:
            got = type(result).__name__ if shape is None else f"an array of shape {tuple(shape)}"
            raise CallError(f"it returned {got}; expected a scalar or one value an example, [{size}]")
        if _kind(result) not in "biuf":
            raise CallError(
                f"it returned values of type {getattr(result, 'dtype', type(result))}; expected real numbers"
            )
        return result

    def run(self, batch: Batch, *, gradient: bool = True, dtype: str = "", target: Target | None = None) -> Result:
        """Value and gradient of the function on a batch; dtype: not that in which it is tried."""
        leaves = self.target.family.leaves if gradient else ()
        call = functools.partial(self.call, target=target)
        value, slopes = self.backend.gradient(call, batch, leaves, dtype or self.backend.dtype)
        exact = "float64" in str(getattr(value, "dtype", "float64")) and not self.coarse
        return Result(self.backend.numpy(value), slopes, exact, self.rough)

    def expect(self, batch: Batch, *, gradient: bool = True, target: Target | None = None) -> Result:
        """Value and gradient of the objective it is held against, in float64."""
        value, slopes = expected(self.backend, target or self.target, batch, gradient=gradient)
        return Result(value, slopes, not self.coarse, self.rough)

    def numbers(self, function: Callable[[Arrays], Any], batch: Batch, *, value: bool = True) -> np.ndarray:
        """Gradients of a function of one example in one row, behind its losses or without them (value=False)."""
        losses, slopes = self.backend.gradient(function, batch, self.target.family.leaves)
        found = [np.atleast_1d(self.backend.numpy(losses)).ravel()] if value else []
        return np.concatenate([*found, *(slope.ravel() for slope in slopes.values())])

    @functools.cached_property
    def coarse(self) -> bool:
        """Whether it computes in float32 inside, whatever it takes and returns: 1e-9 does not move it, 1e-2 does."""
        batch, moving = self.examples[1], self.target.family.leaves or ("rewards",)
        tried = [moved_apart(batch, moving, step) for step in (0, 1e-9, 1e-2)]
        here, near, far = (self.backend.numpy(self.backend.value(self.call, inputs)) for inputs in tried)
        return np.array_equal(here, near) and not np.array_equal(here, far)

    @property
    def rough(self) -> bool:
        """Whether its gradients are differences of float32 values."""
        return bool(getattr(self.backend, "step", STEP) == WIDE)

    @property
    def single(self) -> bool:
        """Whether it computes in float32, so that its numbers are good to 1e-7 of their size."""
        return self.rough or self.backend.dtype == SINGLE or self.coarse

    @property
    def examples(self) -> list[Batch]:
        """Examples of the family that the options allow (a ranking of two has no second place)."""
        return examples(self.target.family, top=self.target.options.get("top"))

    def with_target(self, target: Target) -> "Subject":
        """The same function, held against another target."""
        return replace(self, target=target, identity=None)

    @property
    def per_token(self) -> bool:
        """Whether it sees tokens and masks; a function of sums has its masking done by the kit."""
        return any(ours in self.target.family.token_axis for ours in self.names.values())


def _kind(result: Any) -> str:
    """NumPy's letter for the kind of number a result holds; torch has no objects or words."""
    if hasattr(result, "is_complex"):
        return "c" if result.is_complex() else "f"
    return str(np.asarray(result).dtype.kind)


def make_subject(
    function: Callable[..., Any],
    objective: str,
    backend: Any,
    *,
    options: dict[str, Any] | None = None,
    mapping: dict[str, str] | None = None,
    timeout: float = 0.0,
    reading: dict[str, str] | None = None,
) -> Subject:
    """Match a function's signature to an objective's contract. InputError, with the contract, where it does not fit.

    reading: names of other codes for our arrays, beside those of `mapping` (`conformance.field_names.readings`).
    """
    options, mapping = dict(options or {}), dict(mapping or {})
    with input_errors():
        family = family_of(objective)
    parameters, known = parameters_of(function), options_of(objective)
    arrays = family.derive({name: backend.array(array) for name, array in examples(family)[0].items()})
    _check_mapping(mapping, parameters, [*arrays, *known, *CONVENTIONS])
    names, takes, extras = {}, {}, {}
    for parameter, default in parameters.items():
        ours = mapping.get(parameter) or (reading or {}).get(parameter, parameter)
        if ours in arrays:
            names[parameter] = ours
        elif ours not in HOW and (CONVENTIONS[ours][0] if ours in CONVENTIONS else ours) in known:
            if ours == "eps" and _is_number(default) and default <= GUARD:
                continue
            takes[parameter] = ours
            if parameter in options:
                options[ours] = options.pop(parameter)
            elif ours not in options and not _given(ours, options) and _is_number(default):
                options[ours] = default
        elif parameter in options:
            extras[parameter] = options.pop(parameter)
        elif default is inspect.Parameter.empty:
            raise InputError(
                f"the function's parameter {parameter!r} is not in the contract of {objective}; rename it with "
                f"--map {parameter}=OURS, give it a value with --option {parameter}=VALUE, or write a small adapter",
                below=contract(objective),
            )
    if not names and _takes_anything(function):
        raise InputError(
            "the function takes **kwargs or *args, so its signature does not say which arrays it asks for; name "
            "them in a small adapter",
            below=contract(objective),
        )
    if not names:
        raise InputError(f"the function takes none of the arrays of {objective}", below=contract(objective))
    if options.get("top") not in (None, 1, 2):
        raise InputError(f"--option top={options['top']}: rankings of three are tried, so top can be 1 or 2 here")
    given = _ours(options, known)
    for name in required_of(objective):
        if name not in given:
            raise InputError(
                f"{objective} needs {name}, and the function has no default for it; give --option {name}=NUMBER",
                below=contract(objective),
            )
    with input_errors():
        target = Target(objective, given)
    return Subject(function, target, backend, names, takes, extras, timeout)


def _check_mapping(mapping: dict[str, str], parameters: dict[str, Any], ours: list[str]) -> None:
    for parameter, name in mapping.items():
        if parameter not in parameters:
            raise InputError(f"--map {parameter}={name}: the function's parameters are {', '.join(parameters)}")
        if name not in ours:
            raise InputError(f"--map {parameter}={name}: unknown name {name!r}{suggest(name, ours)}")


def _given(name: str, options: dict[str, Any]) -> bool:
    """Whether an option is among the given ones, under its own name or under another code's."""
    canonical = CONVENTIONS[name][0] if name in CONVENTIONS else name
    return any(canonical == (CONVENTIONS[other][0] if other in CONVENTIONS else other) for other in options)


def _ours(options: dict[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    """Options in our names: conventions of other codes converted. InputError for one that nobody takes."""
    for name, value in options.items():
        if (
            name not in ("divergence", "reduction", "scale")
            and (name in known or name in CONVENTIONS)
            and not (value is None or _is_finite(value))
        ):
            raise InputError(f"--option {name}={value}: {name} has to be a number")
    found = {name: value for name, value in options.items() if name in known}
    for name, value in options.items():
        if name in found:
            continue
        if name not in CONVENTIONS or CONVENTIONS[name][0] not in known:
            raise InputError(
                f"--option {name}: neither the objective nor the function takes it{suggest(name, list(known))}"
            )
        ours, convert, _ = CONVENTIONS[name]
        if ours in found:
            raise InputError(f"--option {name} and {ours} say the same thing; give one of them")
        if name == "gamma_beta_ratio" and "beta" not in found:
            raise InputError(f"--option {name}: gamma is {name} x beta, so beta is needed; give --option beta=NUMBER")
        found[ours] = convert(value, found)
    return found


def parameters_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Its parameters with their defaults. InputError where it cannot be called by name."""
    try:
        signature = inspect.signature(getattr(function, "forward", function))  # a torch module's own call takes *args
    except (TypeError, ValueError) as error:
        raise InputError(f"the signature of {function!r} cannot be read; wrap it in a small adapter") from error
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    positional = [p.name for p in signature.parameters.values() if p.kind is inspect.Parameter.POSITIONAL_ONLY]
    if positional:
        raise InputError(
            f"parameter {positional[0]!r} is positional-only; arguments are passed by name, write an adapter"
        )
    return {p.name: p.default for p in signature.parameters.values() if p.kind in kinds}


def _takes_anything(function: Callable[..., Any]) -> bool:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    signature = inspect.signature(getattr(function, "forward", function))
    return any(p.kind in kinds for p in signature.parameters.values())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value)


def contract(objective: str) -> str:
    """What a function held against this objective may take and must return, in a few lines."""
    family, known = family_of(objective), options_of(objective)
    options = f"\n  options: {', '.join(known)}" if known else ""
    return f"contract ({family.name}; arguments by name, those you need):\n  {family.contract}{options}"
