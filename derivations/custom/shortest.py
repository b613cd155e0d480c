"""The implicit reward without its constant, in the shortest form that a person would write and floats can hold."""

import sympy as sp

from derivations.custom.log_space import is_finite_in_logs
from derivations.proofs.symbols import length, p, q
from derivations.prover.zero_test import Undecided, is_zero


def without_constant(s: sp.Expr) -> sp.Expr:
    """s without the terms that are the same for all responses, in the shortest form that floats can hold.

    `simplify` and `factor` find forms; whether one is the same is decided, not believed.
    """
    varying = _varying(sp.expand(s))
    whole = (_varying(s), _varying(sp.expand(s, log=False)))  # log(p/q) stays one logarithm
    found = [*whole, *map(sp.factor_terms, whole), sp.factor(varying), sp.simplify(varying)]
    forms = [
        varying,
        *(form for form in found if _same(_varying(sp.expand(form)), varying) and not _powers_in_logs(form)),
    ]
    forms.sort(key=sp.count_ops)
    return next(filter(is_finite_in_logs, forms), varying)


def _varying(s: sp.Expr) -> sp.Expr:
    """The terms that are not the same for all responses."""
    return sp.Add(*[term for term in sp.Add.make_args(s) if term.has(p, q, length)])


def _powers_in_logs(form: sp.Expr) -> bool:
    """Whether it has e log(x) written as log(x^e), which nobody does."""
    return any(part.is_Pow and part.exp != -1 for log in form.atoms(sp.log) for part in sp.Mul.make_args(log.args[0]))


def _same(form: sp.Expr, other: sp.Expr) -> bool:
    try:
        return is_zero(form - other)
    except Undecided:
        return False
