"""Which named regularizer a formula is, and which named objective it gives: decided by the zero test, not by spelling.

A formula is a named one if its slope s is c times that one's, plus a constant that is the same for all responses of
a prompt, where c is a positive strength: only differences of s within a prompt matter (claim `multiplier-cancels`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import sympy as sp

from derivations.names import DIVERGENCES, OBJECTIVES
from derivations.proofs.symbols import length, order, p, q
from derivations.prover.domains import visibly_positive
from derivations.prover.symbolic import SymArray
from derivations.prover.tracing import trace
from derivations.prover.zero_test import Undecided, is_zero
from derivations.regularizers import REGULARIZERS, AlphaDivergence, Term

UNIT = frozenset({p, q, order})
PLACE = {p: sp.Rational(1, 2), q: sp.Rational(1, 2), length: sp.Integer(1)}
OTHER = {p: sp.Symbol("p'", positive=True), q: sp.Symbol("q'", positive=True)}
OTHER |= {length: sp.Symbol("len'", positive=True, integer=True)}


@dataclass(frozen=True)
class Named:
    """A named regularizer with its strength, and the named objective it gives (None if no name has it).

    order: of the alpha-divergence; None for the others.
    """

    regularizer: str
    strength: sp.Expr
    order: sp.Expr | None
    objective: str | None
    options: dict[str, str]


def recognize(s: sp.Expr, preference: str) -> Named | None:
    """The named regularizer whose slope is s up to strength and constant, and its objective; None if there is none."""
    for name, a, regularizer in _candidates(s):
        theirs = trace(regularizer.phi_prime, sp.log(p), length=length, ref_logp=sp.log(q))
        strength = _strength(s, theirs)
        if strength is not None:
            objective, options = _objective(name, a, preference)
            return Named(name, strength, a, objective, options)
    return None


def _candidates(s: sp.Expr) -> Iterator[tuple[str, sp.Expr | None, Term]]:
    one = SymArray(sp.S.One)
    for name, make in REGULARIZERS.items():
        if make is not AlphaDivergence:
            yield name, None, make(one)
    a = _order(s)
    if a is not None:
        yield AlphaDivergence.name, a, AlphaDivergence(one, SymArray(a))


def _order(s: sp.Expr) -> sp.Expr | None:
    """a, if p ds/dp is proportional to p^-a with a number or the order for a (not 0 or 1, which have other names)."""
    slope = p * sp.diff(s, p)
    falling = -p * sp.diff(slope, p)
    guess = (falling / slope).subs(PLACE).subs(dict.fromkeys((falling / slope).free_symbols, sp.Rational(1, 3)))
    number = [sp.Rational(Fraction(float(guess)).limit_denominator(64))] if guess.is_finite else []
    for a in (*number, order, 1 - order):
        if a not in (0, 1) and _zero(falling - a * slope):
            return a
    return None


def _strength(s: sp.Expr, theirs: sp.Expr) -> sp.Expr | None:
    """c > 0 with s - c theirs the same for all responses; None if there is none."""
    rises = sp.diff(theirs, p).subs(PLACE)
    if rises == 0:
        return None
    c = sp.factor(sp.diff(s, p).subs(PLACE) / rises)
    rest = s - c * theirs
    if c.has(p, q, length) or not visibly_positive(c, UNIT):
        return None
    return c if _zero(sp.diff(rest, p)) and _zero(rest - rest.subs(OTHER)) else None


def _zero(expr: sp.Expr) -> bool:
    try:
        return is_zero(expr)
    except Undecided:
        return False


def _objective(name: str, a: sp.Expr | None, preference: str) -> tuple[str | None, dict[str, str]]:
    """The name of the objective with this regularizer under a preference model, and the options that choose it."""
    if a is not None and not (visibly_positive(a, UNIT) and visibly_positive(1 - a, UNIT)):
        return None, {}  # names have orders in (0, 1)
    wanted = REGULARIZERS[name]
    for objective, recipe in OBJECTIVES.items():
        if recipe.listwise != (preference == "plackett-luce") or recipe.least_squares:
            continue
        if preference == "rao-kupper" and "gamma" not in recipe.options:
            continue
        if recipe.regularizer is wanted:
            return objective, {}
        if recipe.regularizer is None and name in DIVERGENCES:
            found = {"divergence": name}
            return objective, found | ({} if a is None else {"order": str(a.subs(order, sp.Symbol("order")))})
    return None, {}
