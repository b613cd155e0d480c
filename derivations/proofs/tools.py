"""Symbols with their assumptions, and short ways to trace a ground-floor function."""

from collections.abc import Callable, Sequence
from typing import Any

import sympy as sp

from derivations.symbolic import SymArray

alpha, beta, gamma = sp.symbols("alpha beta gamma", positive=True)
p, q = sp.symbols("p q", positive=True)  # probabilities of one response under the policy and the reference
shift = sp.Symbol("lambda", real=True)  # the per-prompt multiplier, or any other shift
Z = sp.Symbol("Z", positive=True)
logp_w, logp_l, ref_w, ref_l = sp.symbols("logp_w logp_l ref_w ref_l", real=True)
len_w, len_l, length = sp.symbols("len_w len_l len", positive=True, integer=True)
r_w, r_l, r = sp.symbols("r_w r_l r", real=True)
u, v = sp.symbols("u v", positive=True)  # e^{r_w}, e^{r_l}


def positives(name: str, count: int) -> tuple[sp.Symbol, ...]:
    """name_1, ..., name_count > 0: unnormalized probabilities, for instance."""
    return tuple(sp.Symbol(f"{name}_{i + 1}", positive=True) for i in range(count))


def reals(name: str, count: int) -> tuple[sp.Symbol, ...]:
    """name_1, ..., name_count, real."""
    return tuple(sp.Symbol(f"{name}_{i + 1}", real=True) for i in range(count))


def trace(function: Callable[..., Any], *arguments: Any, **options: Any) -> sp.Expr:
    """Call a ground-floor function on symbols and return its formula; sequences become the last axis."""
    answer = function(*map(_wrap, arguments), **{name: _wrap(value) for name, value in options.items()})
    return answer.item()


def _wrap(value: Any) -> Any:
    return SymArray(value) if isinstance(value, sp.Expr | Sequence) else value


def sigmoid(x: sp.Expr) -> sp.Expr:
    """1 / (1 + e^-x), written out here so that a slip in the traced code cannot hide."""
    return 1 / (1 + sp.exp(-x))
