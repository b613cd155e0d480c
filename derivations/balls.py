"""The second opinion: rigorous ball arithmetic at random exact points.

Shares no code with `derivations.fields`: expressions are evaluated directly with python-flint's `arb`,
which returns a midpoint and a radius that is guaranteed to hold the true value. A ball that excludes 0
*proves* that the expression is not identically zero; a tiny ball around 0 at many points agrees with a
proof that it is.
"""

import random
from collections.abc import Mapping

import sympy as sp
from flint import arb, ctx, fmpq

# An exact place to evaluate at: symbol -> rational.
Point = Mapping[sp.Symbol, sp.Rational]
BITS = 200  # about 60 decimal digits
TINY = arb(10) ** -40


def evaluate(expr: sp.Expr, point: Point, *, bits: int = BITS) -> arb:
    """Enclosure of the expression at an exact rational point. Raises TypeError for functions it does not know."""
    before = ctx.prec
    ctx.prec = bits
    try:
        return _walk(expr, point, {})
    finally:
        ctx.prec = before


def _walk(expr: sp.Expr, point: Point, memo: dict[sp.Expr, arb]) -> arb:
    if expr in memo:
        return memo[expr]
    if expr.is_Symbol:
        value = point[expr]
        ball = arb(fmpq(int(value.p), int(value.q)))
    elif expr.is_Rational:
        ball = arb(fmpq(int(expr.p), int(expr.q)))
    elif expr is sp.E:
        ball = arb(1).exp()
    else:
        values = [_walk(arg, point, memo) for arg in expr.args]
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
        elif expr.is_Pow:
            ball = (
                _integer_power(values[0], values[1]) if _is_integer(values[1]) else (values[1] * values[0].log()).exp()
            )
        else:
            raise TypeError(f"balls cannot evaluate {type(expr).__name__}")
    memo[expr] = ball
    return ball


def _is_integer(ball: arb) -> bool:
    """True for an exact whole number of moderate size."""
    return bool(ball.is_exact()) and bool(ball.is_integer()) and bool(abs(ball) < 10**6)


def _integer_power(base: arb, exponent: arb) -> arb:
    """By squaring: defined for negative bases and for balls around 0, where a logarithm is not."""
    count = int(exponent.unique_fmpz())
    power, square = arb(1), base
    left = abs(count)
    while left:
        if left % 2:
            power = power * square
        square, left = square * square, left // 2
    return power if count >= 0 else 1 / power


def random_point(symbols: set[sp.Symbol], rng: random.Random, *, unit: frozenset[sp.Symbol] = frozenset()) -> Point:
    """Random rationals inside the symbols' assumptions; `unit` symbols are probabilities in (0, 1)."""
    point = {}
    for symbol in sorted(symbols, key=str):
        if symbol in unit:
            value = sp.Rational(rng.randint(1, 30), 31)
        elif symbol.is_integer:
            value = sp.Integer(rng.randint(1 if symbol.is_positive else 0 if symbol.is_nonnegative else -9, 9))
        elif symbol.is_nonnegative or symbol.is_nonpositive:  # positive and negative ones are among them
            value = sp.Rational(rng.randint(1, 60), rng.randint(7, 13)) * (1 if symbol.is_nonnegative else -1)
        else:
            value = sp.Rational(rng.randint(-40, 40), rng.randint(7, 13))
        point[symbol] = value
    return point


def excludes_zero(ball: arb) -> bool:
    """True if the true value is certainly not 0."""
    return bool(ball.is_finite()) and not ball.contains(0)


def is_tiny(ball: arb) -> bool:
    """True if the value is 0 to 40 digits."""
    return bool(abs(ball) < TINY)
