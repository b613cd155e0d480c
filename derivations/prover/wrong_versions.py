"""Wrong versions of an expression, made systematically from its tree.

Every node yields variants: a flipped sign, a dropped term or factor, a doubled term, a changed
exponent, an inverted exp, a swapped pair of symbols (chosen for rejected).
"""

from collections.abc import Callable, Iterator
from functools import partial

import sympy as sp

# Where in the tree (which argument of which argument ...), and how to make what goes there.
Site = tuple[tuple[int, ...], Callable[[], sp.Expr]]


def variants(expr: sp.Expr, *, limit: int) -> list[sp.Expr]:
    """At most `limit` different wrong versions of an expression, spread evenly over its tree."""
    sites = list(_sites(expr))
    spread = [i * len(sites) // limit for i in range(limit)] if len(sites) > limit else []
    found: dict[sp.Expr, None] = {}
    for index in [*spread, *range(len(sites))]:  # the others stand by for sites that give nothing new
        if len(found) == limit:
            break
        path, make = sites[index]
        wrong = _replaced(expr, path, make())
        if wrong != expr:
            found[wrong] = None
    return list(found)


def _replaced(expr: sp.Expr, path: tuple[int, ...], new: sp.Expr) -> sp.Expr:
    """The expression with another node at `path`."""
    if not path:
        return new
    index, *deeper = path
    args = list(expr.args)
    args[index] = _replaced(args[index], tuple(deeper), new)
    return expr.func(*args)


def _sites(expr: sp.Expr, path: tuple[int, ...] = ()) -> Iterator[Site]:
    """What can be done wrong at each node in turn, from the root down."""
    for make in _at_root(expr):
        yield path, make
    for index, child in enumerate(expr.args):
        yield from _sites(child, (*path, index))


def _at_root(expr: sp.Expr) -> Iterator[Callable[[], sp.Expr]]:
    if expr.is_Add:
        for term in expr.args:
            yield partial(sp.Add, expr, -2 * term)  # sign
            yield partial(sp.Add, expr, -term)  # dropped
            yield partial(sp.Add, expr, term)  # doubled
    elif expr.is_Mul:
        yield lambda: -expr
        for factor in expr.args:
            if factor != -1:
                yield partial(sp.Mul, expr, 1 / factor)
    elif isinstance(expr, sp.exp):
        yield lambda: sp.exp(-expr.args[0])
    elif isinstance(expr, sp.log):
        yield lambda: sp.log(2 * expr.args[0])
    elif expr.is_Pow and expr.exp.is_Integer:
        yield lambda: expr.base ** (expr.exp + 1)
    elif expr.is_Symbol:
        yield lambda: 2 * expr
        partner = PARTNERS.get(expr.name)
        if partner:
            yield lambda: sp.Symbol(partner, **expr.assumptions0)
    elif expr.is_Integer and expr not in (0, -1):
        yield lambda: expr + 1


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
