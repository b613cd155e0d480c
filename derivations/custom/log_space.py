"""Evaluating a formula of p and q on arrays of log p and log q.

A sequence has probability e^-1000 or less, which no float holds. So p becomes e^logp and q e^ref_logp,
products of exponentials become one exponential, and a sum of exponentials is only ever touched through
its logarithm: log(e^a + e^b), and powers of such a sum inside a product.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import sympy as sp
from array_api_compat import is_array_api_obj

from derivations.arrays import is_exact, log_sigmoid
from derivations.proofs.symbols import p, q

LOGP, REF_LOGP = sp.symbols("logp ref_logp", real=True)


def in_logs(formula: sp.Expr) -> sp.Expr:
    """The formula of p and q as one of LOGP and REF_LOGP, exponentials gathered."""
    return sp.powsimp(sp.expand_log(formula.subs({p: sp.exp(LOGP), q: sp.exp(REF_LOGP)})), combine="exp", deep=True)


def is_finite_in_logs(formula: sp.Expr) -> bool:
    """Whether floats can hold the formula's value where p and q underflow and their ratio is moderate."""
    places = {LOGP: np.array([-1000.0, -2001.0, -5.0]), REF_LOGP: np.array([-999.0, -2000.0, -6.0])}
    others = dict.fromkeys(formula.free_symbols - {p, q}, 0.5)
    with np.errstate(all="ignore"):
        return bool(np.isfinite(evaluate_in_logs(in_logs(formula), places | others, np)).all())


def evaluate_in_logs(expr: sp.Expr, values: Mapping[sp.Symbol, Any], xp: Any) -> Any:
    """Value of a formula `in_logs` with arrays (or numbers) for its symbols; xp is the arrays' namespace."""
    if expr.is_Symbol:
        return values[expr]
    if expr.is_number:
        return expr if is_exact(xp) else float(expr)
    if isinstance(expr, sp.log):
        exponents = _exponents(expr.args[0])
        return _log_sum(exponents, values, xp) if exponents else xp.log(evaluate_in_logs(expr.args[0], values, xp))
    if expr.is_Add:
        parts = [evaluate_in_logs(arg, values, xp) for arg in expr.args]
        return sum(parts[1:], start=parts[0])
    return _product(expr, values, xp)


def _product(expr: sp.Expr, values: Mapping[sp.Symbol, Any], xp: Any) -> Any:
    """A product, power or exponential: what has a known logarithm is added up there, and exponentiated once."""
    logs, factors = [], []
    for factor in sp.Mul.make_args(expr):
        base, exponent = (factor.args[0], sp.S.One) if isinstance(factor, sp.exp) else factor.as_base_exp()
        if isinstance(factor, sp.exp):
            logs.append(evaluate_in_logs(base, values, xp))
        elif exponents := _exponents(base):
            logs.append(evaluate_in_logs(exponent, values, xp) * _log_sum(exponents, values, xp))
        elif exponent == 1:
            factors.append(evaluate_in_logs(base, values, xp))
        else:
            factors.append(evaluate_in_logs(base, values, xp) ** evaluate_in_logs(exponent, values, xp))
    if logs:
        factors.append(xp.exp(sum(logs[1:], start=logs[0])))
    product = factors[0]
    for factor in factors[1:]:
        product = product * factor
    return product


def _log_sum(exponents: list[sp.Expr], values: Mapping[sp.Symbol, Any], xp: Any) -> Any:
    """log(e^z_1 + e^z_2 + ...), by log(e^a + e^b) = a - log sigmoid(a - b)."""
    total, *others = [evaluate_in_logs(exponent, values, xp) for exponent in exponents]
    for other in others:
        gap = total - other
        total = total - log_sigmoid(
            gap if is_array_api_obj(gap) else xp.asarray(gap)
        )  # numbers alone, as strengths are
    return total


def _exponents(expr: sp.Expr) -> list[sp.Expr]:
    """[z_1, z_2, ...] if the expression is e^z_1 + e^z_2 + ..., one that varies first; empty if it is anything else."""
    exponents = []
    for term in sp.Add.make_args(expr):
        coefficient, factor = term.as_coeff_Mul()
        if coefficient <= 0 or not (factor == 1 or isinstance(factor, sp.exp)):
            return []
        exponents.append(sp.log(coefficient) + (factor.args[0] if isinstance(factor, sp.exp) else 0))
    exponents.sort(key=lambda exponent: exponent.is_number)
    return exponents if not exponents[0].is_number else []
