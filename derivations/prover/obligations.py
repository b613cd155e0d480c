"""Definedness: every logarithm, root, quotient and power of an expression must be shown to exist.

An identity says nothing where one of its sides is not defined, so each step carries the obligation to be defined
wherever its symbols obey their assumptions. It is decided from the tree: what stands in a logarithm, in a
denominator or under an exponent that is not a whole number must visibly have a sign.
"""

import sympy as sp

from derivations.prover.domains import Unit, visibly_nonnegative, visibly_positive


def undefined(expr: sp.Expr, unit: Unit = frozenset(), *, smooth: bool = False) -> str | None:
    """The first place where the expression is not shown to be defined, in words; None if it is defined throughout.

    smooth: roots of 0, which exist but have no slope, are not let pass either.
    """
    if expr.has(sp.zoo, sp.nan, sp.I, sp.oo, -sp.oo):
        return f"{expr} is not a real number"
    seen: set[sp.Expr] = set()
    for node in sp.preorder_traversal(expr):
        if node in seen:
            continue
        seen.add(node)
        reason = _at(node, unit, smooth)
        if reason:
            return reason
    return None


def _at(node: sp.Expr, unit: Unit, smooth: bool) -> str | None:
    if isinstance(node, sp.log):
        inside = node.args[0]
        return None if visibly_positive(inside, unit) else f"log({inside}): {inside} > 0 is not shown"
    if not node.is_Pow or isinstance(node, sp.exp):
        return None
    base, exponent = node.args
    return power_undefined(base, exponent, unit, smooth=smooth)


def power_undefined(base: sp.Expr, exponent: sp.Expr, unit: Unit = frozenset(), *, smooth: bool = False) -> str | None:
    """Why base^exponent may not exist; None if it is shown to. smooth: as in `undefined`."""
    if exponent.is_Integer and exponent > 0:
        return None
    if exponent.is_integer:
        if exponent.is_nonnegative or visibly_positive(base, unit) or visibly_positive(-base, unit):
            return None
        return f"division by {base}: {base} != 0 is not shown"
    if visibly_positive(base, unit) or (not smooth and exponent.is_positive and visibly_nonnegative(base, unit)):
        return None
    return f"({base})^({exponent}): {base} >{'=' * bool(exponent.is_positive and not smooth)} 0 is not shown"
