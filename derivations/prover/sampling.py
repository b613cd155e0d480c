"""Exact points at which balls look at a statement: near 1, far out, and on both sides of every threshold in it.

Every point obeys the assumptions of its symbols. Lengths go up to 10^4, positive numbers from 10^-4 to 10^4 on a
logarithmic scale, probabilities come as close to 0 and 1 as 10^-6.
"""

import random
from collections.abc import Iterable, Iterator, Mapping

import sympy as sp

from derivations.prover.domains import Unit, families, is_probability

# An exact place to evaluate at: symbol -> rational.
Point = Mapping[sp.Symbol, sp.Rational]
LONGEST, FAR = 10**4, 4  # tokens; decades to either side of 1
MOST_THRESHOLDS = 6


def random_point(
    symbols: Iterable[sp.Symbol], rng: random.Random, *, unit: Unit = frozenset(), far: bool = False
) -> Point:
    """Random rationals inside the symbols' assumptions; far: on a logarithmic scale over the whole range."""
    point = {symbol: (_far if far else _near)(symbol, rng, unit) for symbol in sorted(symbols, key=str)}
    for family in families(point):
        total = sum(point[symbol] for symbol in family) + sp.Rational(1, rng.randint(2, 9))
        point |= {symbol: point[symbol] / total for symbol in family}
    return point


def points(
    exprs: Iterable[sp.Expr], symbols: Iterable[sp.Symbol], rng: random.Random, count: int, *, unit: Unit = frozenset()
) -> Iterator[tuple[Point, bool]]:
    """`count` points and more for thresholds of exprs, each with whether it is far out, where values may overflow."""
    symbols = sorted(symbols, key=str)
    for k in range(count):
        yield random_point(symbols, rng, unit=unit, far=k % 3 == 2), k % 3 == 2
    for symbol, value in thresholds(exprs, unit)[:MOST_THRESHOLDS]:
        if symbol in symbols:
            yield {**random_point(symbols, rng, unit=unit), symbol: value}, True


def thresholds(exprs: Iterable[sp.Expr], unit: Unit = frozenset()) -> list[tuple[sp.Symbol, sp.Rational]]:
    """Values on both sides of where a linear part c + k x of an expression changes its sign, inside x's assumptions."""
    found: dict[tuple[sp.Symbol, sp.Rational], None] = {}
    for expr in exprs:
        for node in sp.preorder_traversal(expr):
            if not node.is_Add or len(node.args) != 2 or not node.args[0].is_Rational:
                continue
            constant, (slope, symbol) = node.args[0], node.args[1].as_coeff_Mul()
            if not symbol.is_Symbol or is_probability(symbol, unit):
                continue
            root = -constant / slope
            step = 1 if symbol.is_integer else sp.Rational(1, 7) * max(1, abs(root))
            near = (sp.floor(root), sp.floor(root) + 1) if symbol.is_integer else (root - step, root + step)
            for value in near:
                if not (symbol.is_positive and value <= 0) and not (symbol.is_nonnegative and value < 0):
                    found[symbol, sp.Rational(value)] = None
    return list(found)


def _near(symbol: sp.Symbol, rng: random.Random, unit: Unit) -> sp.Rational:
    if is_probability(symbol, unit):
        return sp.Rational(rng.randint(1, 30), 31)
    if symbol.is_integer:
        return sp.Integer(rng.randint(1 if symbol.is_positive else 0 if symbol.is_nonnegative else -9, 9))
    if symbol.is_nonnegative or symbol.is_nonpositive:  # positive and negative ones are among them
        return sp.Rational(rng.randint(1, 60), rng.randint(7, 13)) * (1 if symbol.is_nonnegative else -1)
    return sp.Rational(rng.randint(-40, 40), rng.randint(7, 13))


def _far(symbol: sp.Symbol, rng: random.Random, unit: Unit) -> sp.Rational:
    size = _short(10 ** rng.uniform(-FAR, FAR))
    if is_probability(symbol, unit):
        tail = _short(10 ** rng.uniform(-6, -0.5))
        return tail if rng.random() < 0.5 else 1 - tail
    if symbol.is_integer:
        whole = sp.Integer(round(LONGEST ** rng.random()))
        return whole if symbol.is_nonnegative or rng.random() < 0.5 else -whole
    if symbol.is_nonnegative or symbol.is_nonpositive:
        return size if symbol.is_nonnegative else -size
    return (1 if rng.random() < 0.5 else -1) * min(size, 50 + size / 10**3)


def _short(value: float) -> sp.Rational:
    """A fraction near the value, of few digits."""
    return sp.Rational(round(value * 10**7), 10**7)
