"""Wrong versions of an expression, made systematically from its tree.

Every node yields variants: a flipped sign, a dropped term or factor, a doubled term, a changed
exponent, an inverted exp, a swapped pair of symbols (chosen for rejected).
"""

from collections.abc import Iterator

import sympy as sp

PER_SIDE = 6


def variants(expr: sp.Expr, *, limit: int = PER_SIDE) -> list[sp.Expr]:
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
