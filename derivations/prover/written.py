"""Obligations of what is written down, and gone before a step is made: e^(log a) becomes a, and a/a becomes 1.

SymPy rewrites as it builds. So while a claim makes its steps, `writing` notes the argument of each `sympy.log` and
`sympy.sqrt` and every divisor, and `not_allowed` asks the same of them as of what stands in a step.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import sympy as sp

from derivations.prover.domains import Unit, visibly_nonnegative, visibly_positive

# (log, root or divisor; the expression) -> nothing: a set that keeps the order
Written = dict[tuple[str, sp.Expr], None]


class _Recorder(type):
    """A stand-in for `sympy.log` that notes what it is called with."""

    written: Written
    original: Any

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        _note(cls.written, "log", arguments[0])
        return cls.original(*arguments, **options)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.original)


@contextlib.contextmanager
def writing() -> Iterator[Written]:
    """Collect the arguments of logarithms and roots, and divisors, that code outside of SymPy writes in the block."""
    written: Written = {}
    log, root, over, under = sp.log, sp.sqrt, sp.Expr.__truediv__, sp.Expr.__rtruediv__

    def sqrt(argument: Any, *options: Any, **named: Any) -> Any:
        _note(written, "root", argument)
        return root(argument, *options, **named)

    def divide(self: Any, other: Any) -> Any:
        if not _inside_sympy():
            _note(written, "divisor", other)
        return over(self, other)

    def divided(self: Any, other: Any) -> Any:
        if not _inside_sympy():
            _note(written, "divisor", self)
        return under(self, other)

    sp.log = _Recorder("log", (), {"written": written, "original": log})
    sp.sqrt, sp.Expr.__truediv__, sp.Expr.__rtruediv__ = sqrt, divide, divided
    try:
        yield written
    finally:
        sp.log, sp.sqrt, sp.Expr.__truediv__, sp.Expr.__rtruediv__ = log, root, over, under


def not_allowed(written: Written, unit: Unit = frozenset()) -> list[str]:
    """What was written and is not shown to be defined, in words."""
    tests: dict[str, tuple[str, Callable[[sp.Expr], bool]]] = {
        "log": ("log({0}): {0} > 0 is not shown", lambda expr: visibly_positive(expr, unit)),
        "root": ("root of {0}: {0} >= 0 is not shown", lambda expr: visibly_nonnegative(expr, unit)),
        "divisor": (
            "division by {0}: {0} != 0 is not shown",
            lambda expr: visibly_positive(expr, unit) or visibly_positive(-expr, unit),
        ),
    }
    return [
        f"it was written, and not shown to be defined: {tests[kind][0].format(expr)}"
        for kind, expr in written
        if not tests[kind][1](expr)
    ]


def _note(written: Written, kind: str, value: Any) -> None:
    if isinstance(value, sp.Expr) and not value.is_Rational:
        written[kind, value] = None


def _inside_sympy() -> bool:
    return str(sys._getframe(2).f_globals.get("__name__", "")).startswith("sympy")
