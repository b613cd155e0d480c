"""A second opinion on every derivative that a proof takes: power series of balls.

`watching` notes each call of `sympy.diff` and of the method `diff` inside its block. `wrong_derivatives` then holds
every answer against the coefficient of `flint.arb_series` at random points, which knows the rules of calculus from
another library.
"""

import contextlib
import random
import sys
import zlib
from collections.abc import Iterator
from math import factorial
from typing import Any, NamedTuple

import sympy as sp
from flint import arb, arb_series, ctx, fmpq

from derivations.prover import balls
from derivations.prover.domains import Unit
from derivations.prover.sampling import Point, random_point

POINTS, BITS = 3, 400


class Derivative(NamedTuple):
    """SymPy's answer to d^order expr / d symbol^order."""

    expr: sp.Expr
    symbol: sp.Symbol
    order: int
    answer: sp.Expr


@contextlib.contextmanager
def watching() -> Iterator[list[Derivative]]:
    """Collect the derivatives that SymPy takes for code outside of it inside the block, one variable at a time."""
    found: list[Derivative] = []
    function, method = sp.diff, sp.Expr.diff
    inside: list[sp.Symbol] = []

    def noted(original: Any, expr: Any, variables: tuple[Any, ...], options: dict[str, Any]) -> Any:
        for symbol, order in _orders(variables):
            inside.append(symbol)  # `sympy.diff` asks the method: one derivative, whose answer is the outer
            answer = original(expr, symbol, order, **options)
            inside.pop()
            found.append(Derivative(sp.sympify(expr), symbol, order, answer))
            expr = answer
        return expr

    def diff(expr: Any, *variables: Any, **options: Any) -> Any:
        return noted(function, expr, variables, options)

    def diff_method(self: Any, *variables: Any, **options: Any) -> Any:
        caller = sys._getframe(1)
        by_sympy = str(caller.f_globals.get("__name__", "")).startswith("sympy")
        if inside or (by_sympy and caller.f_code.co_name != "diff"):  # imported before, `diff` calls the method
            return method(self, *variables, **options)
        return noted(method, self, variables, options)

    sp.diff, sp.Expr.diff = diff, diff_method
    try:
        yield found
    finally:
        sp.diff, sp.Expr.diff = function, method


def _orders(variables: tuple[Any, ...]) -> Iterator[tuple[sp.Symbol, int]]:
    """(x, 2, y) as SymPy reads it: twice by x, once by y."""
    for place, variable in enumerate(variables):
        if isinstance(variable, sp.Symbol):
            following = variables[place + 1] if place + 1 < len(variables) else 1
            yield variable, 1 if isinstance(following, sp.Symbol) else int(following)


def wrong_derivatives(taken: list[Derivative], unit: Unit = frozenset()) -> list[str]:
    """The derivatives that the power series contradicts or cannot confirm, in words."""
    return [reason for item in dict.fromkeys(taken) if (reason := _contradiction(item, unit))]


def _contradiction(item: Derivative, unit: Unit) -> str | None:
    rng = random.Random(zlib.crc32(str(item.symbol).encode()))  # noqa: S311 (points, not secrets)
    symbols = item.expr.free_symbols | item.answer.free_symbols | {item.symbol}
    confirmed = 0
    for _ in range(4 * POINTS):
        point = random_point(symbols, rng, unit=unit)
        agree = _agrees(item, point)
        if agree is False:
            return f"d/d{item.symbol} of {item.expr} is not {item.answer}: the power series differs at {dict(point)}"
        confirmed += agree is True
        if confirmed == POINTS:
            return None
    return f"d/d{item.symbol} of {item.expr}: no power series confirms it"


def _agrees(item: Derivative, point: Point) -> bool | None:
    """Whether the series' coefficient is the answer at a point; None where either is not finite."""
    before = ctx.prec, ctx.cap
    ctx.prec, ctx.cap = BITS, item.order + 1
    try:
        leaves: dict[sp.Symbol, Any] = {s: arb(fmpq(int(v.p), int(v.q))) for s, v in point.items()}
        said = balls.walk(item.answer, leaves)
        leaves[item.symbol] = arb_series([leaves[item.symbol], 1], prec=item.order + 1)
        series = balls.walk(item.expr, leaves)
        found = series[item.order] * factorial(item.order) if isinstance(series, arb_series) else arb(0)
    except ValueError:  # a quotient by a series that begins with 0
        return None
    finally:
        ctx.prec, ctx.cap = before
    if not (said.is_finite() and found.is_finite()):
        return None
    if not said.overlaps(found):
        return False
    return True if abs(said - found) < balls.TINY * max(abs(said).mid(), arb(1)) else None
