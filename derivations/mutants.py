"""The checker on trial: wrong versions of what it proves, made systematically from the expression itself.

Every node of a traced expression yields mutants: a flipped sign, a dropped term or factor, a doubled
term, a changed exponent, an inverted exp, a swapped pair of symbols (chosen for rejected).
A check that proves the original must refute each mutant that is not equal to it; a mutant
counts as equivalent only if the deciding procedure itself proves that.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import sympy as sp

from derivations.checks import Equal, Step

PER_STEP = 10


@dataclass
class Tally:
    """How the mutants of one claim fared."""

    made: int = 0
    refuted: int = 0
    equivalent: list[str] = field(default_factory=list)
    survived: list[str] = field(default_factory=list)


def try_mutants(steps: list[Step]) -> Tally:
    """Mutate the left side of every identity among the steps and count what the check says."""
    tally = Tally()
    for step in steps:
        if not isinstance(step, Equal):
            continue
        for wrong in mutants(step.lhs):
            verdict = step.refutes(wrong)
            tally.made += 1
            if verdict == "refuted":
                tally.refuted += 1
            else:
                getattr(tally, verdict).append(f"{step.statement}: {wrong}")
    return tally


def mutants(expr: sp.Expr, *, limit: int = PER_STEP) -> list[sp.Expr]:
    """At most `limit` different wrong versions of an expression, spread evenly over its tree."""
    found = list(dict.fromkeys(wrong for wrong in _everywhere(expr) if wrong != expr))
    if len(found) <= limit:
        return found
    return [found[i * len(found) // limit] for i in range(limit)]


def _everywhere(expr: sp.Expr) -> Iterator[sp.Expr]:
    """Mutate each node in turn, from the root down."""
    yield from _at_root(expr)
    for index, child in enumerate(expr.args):
        for wrong in _everywhere(child):
            yield expr.func(*expr.args[:index], wrong, *expr.args[index + 1 :])


def _at_root(expr: sp.Expr) -> Iterator[sp.Expr]:
    if expr.is_Add:
        for term in expr.args:
            yield expr - 2 * term  # sign
            yield expr - term  # dropped
            yield expr + term  # doubled
    elif expr.is_Mul:
        yield -expr
        for factor in expr.args:
            if factor != -1:
                yield expr / factor
    elif isinstance(expr, sp.exp):
        yield sp.exp(-expr.args[0])
    elif isinstance(expr, sp.log):
        yield sp.log(2 * expr.args[0])
    elif expr.is_Pow and expr.exp.is_Integer:
        yield expr.base ** (expr.exp + 1)
    elif expr.is_Symbol:
        yield 2 * expr
        partner = PARTNERS.get(expr.name)
        if partner:
            yield sp.Symbol(partner, **expr.assumptions0)
    elif expr.is_Integer and expr not in (0, -1):
        yield expr + 1


# Mistaking one for the other is the classic slip.
PARTNERS = {
    "logp_w": "logp_l",
    "logp_l": "logp_w",
    "ref_w": "ref_l",
    "ref_l": "ref_w",
    "len_w": "len_l",
    "len_l": "len_w",
    "r_w": "r_l",
    "r_l": "r_w",
    "u": "v",
    "v": "u",
}
