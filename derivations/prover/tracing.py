"""Tracing: calling a ground-floor function on symbols, and remembering that it was called.

A proof about `objectives.simpo` must be about the code itself. So proofs call it through `trace`, which
returns its formula; while a claim is checked, `recording` collects which functions were traced and
where they are defined, and the book links to those lines.
"""

import contextlib
import functools
import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np
import sympy as sp

from derivations.prover.symbolic import SymArray


class Traced(NamedTuple):
    """A traced function: module of `derivations`, first line of its definition, qualified name."""

    module: str
    line: int
    name: str


class Call(NamedTuple):
    """A call of a traced function: what each parameter was given, as formulas, and which it left to their defaults."""

    function: Traced
    arguments: tuple[tuple[str, tuple[sp.Expr, ...]], ...]
    left_out: tuple[str, ...] = ()

    def given(self, pattern: re.Pattern[str]) -> list[sp.Expr]:
        """The formulas of all parameters whose name the pattern matches."""
        return [value for name, values in self.arguments if pattern.fullmatch(name) for value in values]


_CALLS: ContextVar[list[Call] | None] = ContextVar("calls of traced functions", default=None)
_RECORD: ContextVar[set[Traced] | None] = ContextVar("traced functions", default=None)
_CHANGED: ContextVar[tuple[Traced, bool] | None] = ContextVar("a function whose formulas are changed", default=None)


@contextlib.contextmanager
def recording() -> Iterator[set[Traced]]:
    """Collect what is traced inside the block."""
    found: set[Traced] = set()
    token = _RECORD.set(found)
    try:
        yield found
    finally:
        _RECORD.reset(token)


@contextlib.contextmanager
def recording_calls() -> Iterator[list[Call]]:
    """Collect the calls that are traced inside the block, with their arguments."""
    found: list[Call] = []
    token = _CALLS.set(found)
    try:
        yield found
    finally:
        _CALLS.reset(token)


@contextlib.contextmanager
def changed(function: Traced, *, constant: bool = False) -> Iterator[None]:
    """Inside the block one function of the code computes something else, for whoever calls it: see `_wrong`.

    constant: only a constant is added to what it computes.
    """
    owner: Any = importlib.import_module(f"derivations.{function.module}")
    *path, name = function.name.split(".")
    for part in path:
        owner = getattr(owner, part)
    original = vars(owner)[name]

    @functools.wraps(original)
    def wrong(*arguments: Any, **options: Any) -> Any:
        return _wrong(original(*arguments, **options), [] if constant else [*arguments, *options.values()])

    setattr(owner, name, wrong)
    token = _CHANGED.set((function, constant))
    try:
        yield
    finally:
        _CHANGED.reset(token)
        setattr(owner, name, original)


def trace(function: Callable[..., Any], *arguments: Any, **options: Any) -> sp.Expr:
    """Formula of a function whose answer is one number; sequences become the last axis."""
    return traced_array(function, *arguments, **options).item()


def traced_array(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What the function returns on symbols: an array of formulas, or a dict of them."""
    record = _RECORD.get()
    if record is not None:
        record |= _definitions(function)
    calls = _CALLS.get()
    if calls is not None:
        calls += [_call(found, function, arguments, options) for found in sorted(_definitions(function))[:1]]
    places, named = [_wrap(value) for value in arguments], {name: _wrap(value) for name, value in options.items()}
    result = function(*places, **named)
    now, constant = _CHANGED.get() or (None, False)
    if now not in _definitions(function):
        return result
    return _wrong(result, [] if constant else [*places, *named.values()])


def _wrong(result: Any, arguments: list[Any]) -> Any:
    """The result plus a form of second degree in all arguments, a constant if there are none, another in each entry."""
    if isinstance(result, dict):
        return {name: _wrong(value, arguments) for name, value in result.items()}
    if isinstance(result, tuple):
        return tuple(_wrong(value, arguments) for value in result)
    if not isinstance(result, SymArray):
        return result
    entries = [entry for value in arguments if isinstance(value, SymArray) for entry in value.values.flat]
    added = sp.Rational(1, 97) + sum(sp.prime(i + 5) * entry / 97 for i, entry in enumerate(entries))
    factors = np.arange(1, result.values.size + 1, dtype=object).reshape(result.values.shape)
    return result + SymArray((added + added**2) * factors)


def _definitions(function: Callable[..., Any]) -> set[Traced]:
    """The function itself, if it is one of ours and not a helper written inside a proof."""
    if isinstance(function, functools.partial):
        function = function.func
    plain = inspect.unwrap(getattr(function, "__func__", function))
    module = getattr(plain, "__module__", "")
    if not module.startswith("derivations.") or module.startswith("derivations.proofs") or "<lambda>" in str(plain):
        return set()
    found = {Traced(module.removeprefix("derivations."), plain.__code__.co_firstlineno, plain.__qualname__)}
    if plain.__name__ == "phi_prime":  # the formula itself is in the regularizer's own `implicit_reward`
        found |= _definitions(function.__self__.implicit_reward)  # type: ignore[attr-defined]
    return found


def _call(found: Traced, function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Call:
    signature = inspect.signature(function)
    bound = signature.bind(*arguments, **options).arguments
    given = ((name, _wrap(value)) for name, value in bound.items())
    formulas = tuple((name, tuple(v.values.flat)) for name, v in given if isinstance(v, SymArray))
    left = (name for name, item in signature.parameters.items() if item.default is not item.empty)
    return Call(found, formulas, tuple(name for name in left if name not in bound))


def _wrap(value: Any) -> Any:
    return SymArray(value) if isinstance(value, sp.Expr | Sequence) and not isinstance(value, str) else value
