"""Tracing: calling a ground-floor function on symbols, and remembering that it was called.

A proof about `objectives.simpo` must be about the code itself. So proofs call it through `trace`, which
returns its formula; while a claim is checked, `recording` collects which functions were traced and
where they are defined, and the book links to those lines.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import sympy as sp

from derivations.symbolic import SymArray


class Traced(NamedTuple):
    """A traced function: module of `derivations`, first line of its definition, qualified name."""

    module: str
    line: int
    name: str


_RECORD: ContextVar[set[Traced] | None] = ContextVar("traced functions", default=None)


@contextlib.contextmanager
def recording() -> Iterator[set[Traced]]:
    """Collect what is traced inside the block."""
    found: set[Traced] = set()
    token = _RECORD.set(found)
    try:
        yield found
    finally:
        _RECORD.reset(token)


def trace(function: Callable[..., Any], *arguments: Any, **options: Any) -> sp.Expr:
    """Formula of a function whose answer is one number; sequences become the last axis."""
    return traced_array(function, *arguments, **options).item()


def traced_array(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What the function returns on symbols: an array of formulas, or a dict of them."""
    record = _RECORD.get()
    if record is not None:
        record |= _definitions(function)
    return function(*map(_wrap, arguments), **{name: _wrap(value) for name, value in options.items()})


def _definitions(function: Callable[..., Any]) -> set[Traced]:
    """The function itself, if it is one of ours and not a helper written inside a proof."""
    if isinstance(function, functools.partial):
        function = function.func
    plain = inspect.unwrap(getattr(function, "__func__", function))
    module = getattr(plain, "__module__", "")
    if not module.startswith("derivations.") or module.startswith("derivations.proofs") or "<lambda>" in str(plain):
        return set()
    found = {Traced(module.removeprefix("derivations."), plain.__code__.co_firstlineno, plain.__qualname__)}
    if plain.__name__ == "implicit_reward":  # the formula itself is in the regularizer's own `score`
        found |= _definitions(function.__self__.score)  # type: ignore[attr-defined]
    return found


def _wrap(value: Any) -> Any:
    return SymArray(value) if isinstance(value, sp.Expr | Sequence) and not isinstance(value, str) else value
