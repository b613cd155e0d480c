"""Signs of sums of c p^a log(p)^k on 0 < p < 1, which positive coefficients cannot show: by balls on all of it.

Near 0 each term with a > 0 is at most what it is at the end of a short interval, where p^a |log p|^k still grows; the
rest of (0, 1) is cut into pieces until the ball of the sum over each piece is positive.
"""

from collections.abc import Iterator

import sympy as sp
from flint import arb, fmpq

from derivations.proofs.symbols import p
from derivations.prover import balls
from derivations.prover.domains import Unit, visibly_positive

Term = tuple[sp.Rational, sp.Rational, int]  # c, a, k of c p^a log(p)^k
SHORT = 60  # the piece next to 0 ends at 2^-SHORT at the latest
PIECES = 4000  # how many pieces are looked at before it is given up


def positive_on_unit_interval(expr: sp.Expr, unit: Unit = frozenset()) -> bool:
    """True if it is proved that expr > 0 for 0 < p < 1 and all values of its other symbols; False proves nothing.

    The expression is a sum of visibly positive factors without p times such sums in p; each of them must be positive.
    """
    groups: dict[sp.Expr, list[Term]] = {}
    for term in sp.Add.make_args(sp.expand(expr)):
        factor, varying = term.as_independent(p, as_Add=False)
        number, symbols = factor.as_coeff_Mul()
        parts = _parts(varying)
        if parts is None or not number.is_Rational:
            return False
        groups.setdefault(symbols, []).append((number, *parts))
    return all(visibly_positive(symbols, unit) and _positive(terms) for symbols, terms in groups.items())


def _parts(varying: sp.Expr) -> tuple[sp.Rational, int] | None:
    """a and k of p^a log(p)^k."""
    power, logs = sp.S.Zero, 0
    for factor in sp.Mul.make_args(varying):
        base, exponent = factor.as_base_exp()
        if base == p and exponent.is_Rational:
            power += exponent
        elif base == sp.log(p) and exponent.is_Integer and exponent > 0:
            logs += int(exponent)
        elif factor != 1:
            return None
    return power, logs


def _positive(terms: list[Term]) -> bool:
    """The sum divided by its lowest power of p, near 0 and then piece by piece."""
    lowest = min(a for _, a, _ in terms)
    shifted = [(c, a - lowest, k) for c, a, k in terms]
    for short in range(2, SHORT + 1, 2):
        if _lower_bound(shifted, short) > 0:
            return all(_shown(shifted, start, end) for start, end in _octaves(short))
    return False


def _lower_bound(terms: list[Term], short: int) -> arb:
    """Of the sum on (0, 2^-short]: terms without p, and minus what the others are at most there."""
    end = arb(fmpq(1, 2**short))
    minus_log = -end.log()
    total = arb(0)
    for c, a, k in terms:
        number = balls.evaluate(c, {})
        if a == 0 and k == 0:
            total += number
        elif a == 0:  # c log(p)^k is at least what it is at the end, if it rises towards 0
            if c * (-1) ** k < 0:
                return arb(-1)
            total += abs(number) * minus_log**k
        elif minus_log * balls.evaluate(a, {}) < k + 1:  # p^a |log p|^k need not grow on the whole piece
            return arb(-1)
        else:
            total -= abs(number) * (balls.evaluate(a, {}) * end.log()).exp() * minus_log**k
    return total


def _octaves(short: int) -> Iterator[tuple[sp.Rational, sp.Rational]]:
    for k in range(short):
        yield sp.Rational(1, 2 ** (k + 1)), sp.Rational(1, 2**k)


def _shown(terms: list[Term], start: sp.Rational, end: sp.Rational) -> bool:
    """Whether the balls over the pieces of [start, end] are all positive, cut in halves where they are not."""
    todo, looked = [(start, end)], 0
    while todo:
        low, high = todo.pop()
        looked += 1
        if looked > PIECES:
            return False
        middle, half = (low + high) / 2, (high - low) / 2
        place = arb(balls.evaluate(middle, {}), balls.evaluate(half, {}))
        value = sum((balls.evaluate(c * p**a * sp.log(p) ** k, {p: place}) for c, a, k in terms), arb(0))
        if not value > 0:
            todo += [(low, middle), (middle, high)]
    return True
