"""The second opinion: rigorous ball arithmetic at random exact points.

No arithmetic of SymPy or of `derivations.prover.zero_test` is used: the tree of an expression is evaluated
directly with python-flint's `arb`, which returns a midpoint and a radius that is guaranteed to hold the true
value. A ball that excludes 0 *proves* that the expression is not identically zero; a tiny ball around 0 at many
points agrees with a proof that it is.
"""

from collections.abc import Mapping
from typing import Any

import sympy as sp
from flint import arb, ctx, fmpq

BITS = 200  # about 60 decimal digits
TINY = arb("1e-40")


def evaluate(expr: sp.Expr, point: Mapping[sp.Symbol, Any], *, bits: int = BITS) -> arb:
    """Enclosure of the expression where every symbol has a rational or a ball. TypeError for functions it lacks."""
    before = ctx.prec
    ctx.prec = bits
    try:
        return _walk(expr, {symbol: _leaf(value) for symbol, value in point.items()}, {})
    finally:
        ctx.prec = before


def walk(expr: sp.Expr, leaves: Mapping[sp.Symbol, Any]) -> Any:
    """The same at the precision that is set, with balls or power series (`flint.arb_series`) for the symbols."""
    return _walk(expr, leaves, {})


def _leaf(value: Any) -> arb:
    if isinstance(value, arb):
        return value
    exact = sp.Rational(value)
    return arb(fmpq(int(exact.p), int(exact.q)))


def _walk(expr: sp.Expr, leaves: Mapping[sp.Symbol, Any], memo: dict[sp.Expr, Any]) -> Any:
    if expr in memo:
        return memo[expr]
    if expr.is_Symbol:
        ball = leaves[expr]
    elif expr.is_Rational:
        ball = arb(fmpq(int(expr.p), int(expr.q)))
    elif expr is sp.E:
        ball = arb(1).exp()
    else:
        values = [_walk(arg, leaves, memo) for arg in expr.args]
        if expr.is_Add:
            ball = sum(values[1:], start=values[0])
        elif expr.is_Mul:
            ball = values[0]
            for value in values[1:]:
                ball = ball * value
        elif isinstance(expr, sp.exp):
            ball = values[0].exp()
        elif isinstance(expr, sp.log):
            ball = values[0].log()
        elif isinstance(expr, sp.Abs):
            ball = abs(values[0])
        elif expr.is_Pow:
            ball = (
                _integer_power(values[0], values[1]) if _is_integer(values[1]) else (values[1] * values[0].log()).exp()
            )
        else:
            raise TypeError(f"balls cannot evaluate {type(expr).__name__}")
    memo[expr] = ball
    return ball


def _is_integer(ball: Any) -> bool:
    """True for an exact whole number of moderate size."""
    return isinstance(ball, arb) and bool(ball.is_exact()) and bool(ball.is_integer()) and bool(abs(ball) < 10**6)


def _integer_power(base: Any, exponent: arb) -> Any:
    """By squaring: defined for negative bases and for balls around 0, where a logarithm is not."""
    count = int(exponent.unique_fmpz())
    power, square = arb(1), base
    left = abs(count)
    while left:
        if left % 2:
            power = power * square
        square, left = square * square, left // 2
    return power if count >= 0 else 1 / power


def excludes_zero(ball: arb) -> bool:
    """True if the true value is certainly not 0."""
    return bool(ball.is_finite()) and not ball.contains(0)


def is_tiny(ball: arb) -> bool:
    """True if the value is 0 to 40 digits."""
    return bool(abs(ball) < TINY)


def compare(lhs: sp.Expr, rhs: sp.Expr, point: Mapping[sp.Symbol, Any]) -> bool | None:
    """Two sides, each evaluated by itself: True if they agree to 40 digits, False if certainly not, None if not finite.

    Where too many digits cancel, more bits are taken. Also None where none of that settles it.
    """
    for bits in (BITS, 10 * BITS, 60 * BITS):
        left, right = evaluate(lhs, point, bits=bits), evaluate(rhs, point, bits=bits)
        if not (left.is_finite() and right.is_finite()):
            continue
        if not left.overlaps(right):
            return False
        size = max(abs(left).mid(), abs(right).mid(), arb(1))
        if abs(left - right) < TINY * size:
            return True
    return None


def sign(expr: sp.Expr, point: Mapping[sp.Symbol, Any]) -> int | None:
    """+1 or -1 where the ball says so for certain, 0 for an exact zero, None if it is not finite or not settled."""
    for bits in (BITS, 10 * BITS, 60 * BITS):
        value = evaluate(expr, point, bits=bits)
        if value > 0 or value < 0:
            return 1 if value > 0 else -1
        if value.is_exact() and value == 0:
            return 0
    return None
