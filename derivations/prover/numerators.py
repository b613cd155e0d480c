"""The numerator of a rational expression over one common denominator, without cancelling anything.

Whether a rational function is zero is decided by any of its numerators, so the greatest common divisors that a
reduced fraction needs after every addition are left out. Denominators are kept as powers of polynomials: sums then
take the least common multiple of what they were built from.
"""

from collections import Counter
from typing import Any

import sympy as sp
from sympy.polys.rings import PolyElement, ring

Ratio = tuple[PolyElement, Counter[PolyElement]]  # a numerator, and which polynomials it is divided by, how often


def numerator(expr: sp.Expr) -> PolyElement:
    """A polynomial over Q that is 0 if and only if the rational expression is, wherever that is defined.

    Raises ZeroDivisionError where a divisor is 0 itself, and ValueError for what is no rational expression.
    """
    symbols = sorted(expr.free_symbols, key=str) or [sp.Symbol("unused")]
    polynomials, *generators = ring(symbols, sp.QQ)
    return _ratio(expr, polynomials, dict(zip(symbols, generators, strict=True)))[0]


def _ratio(expr: sp.Expr, polynomials: Any, generators: dict[sp.Symbol, PolyElement]) -> Ratio:
    if expr.is_Rational:
        return polynomials(sp.QQ.from_sympy(expr)), Counter()
    if expr.is_Symbol:
        return generators[expr], Counter()
    if expr.is_Pow and expr.exp.is_Integer:
        return _power(_ratio(expr.base, polynomials, generators), int(expr.exp), polynomials)
    if expr.is_Add or expr.is_Mul:
        parts = [_ratio(part, polynomials, generators) for part in expr.args]
        return _sum(parts, polynomials) if expr.is_Add else _product(parts, polynomials)
    raise ValueError(f"{expr} is no rational expression")


def _sum(parts: list[Ratio], polynomials: Any) -> Ratio:
    common: Counter[PolyElement] = Counter()
    for _, divisors in parts:
        common |= divisors
    total = polynomials.zero
    for top, divisors in parts:
        total += top * _multiplied(common - divisors, polynomials)
    return total, common


def _product(parts: list[Ratio], polynomials: Any) -> Ratio:
    top, divisors = polynomials.one, Counter[PolyElement]()
    for factor, below in parts:
        top, divisors = top * factor, divisors + below
    return top, divisors


def _power(base: Ratio, exponent: int, polynomials: Any) -> Ratio:
    top, divisors = base
    if exponent > 0:
        return top**exponent, Counter({divisor: times * exponent for divisor, times in divisors.items()})
    if top == 0:
        raise ZeroDivisionError("a divisor is identically zero")
    leading, monic = top.LC, top.monic()
    above = _multiplied(divisors, polynomials) ** -exponent * polynomials(leading**exponent)
    return above, Counter({monic: -exponent} if monic != 1 else {})


def _multiplied(divisors: Counter[PolyElement], polynomials: Any) -> PolyElement:
    result = polynomials.one
    for divisor, times in divisors.items():
        result *= divisor**times
    return result
