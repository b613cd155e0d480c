"""Symbols with their assumptions, and softmax policies on which expectations and gradients are exact.

A policy over Y is written with positive weights, pi_y = w_y / W and w_y = exp(logit_y), so that claims
become rational functions and a derivative by a logit is w d/dw. `rest` stands for the summed weight of
all responses that are not written out: an identity with it holds for any number of responses.
"""

from collections.abc import Sequence

import sympy as sp

alpha, beta, gamma = sp.symbols("alpha beta gamma", positive=True)
order = sp.Symbol("a", positive=True)  # of the alpha-divergence, in (0, 1)
p, q = sp.symbols("p q", positive=True)  # probabilities of one response under policy and reference: in (0, 1]
shift = sp.Symbol("lambda", real=True)  # the per-prompt multiplier, or any other shift
Z = sp.Symbol("Z", positive=True)
logp_w, logp_l, ref_w, ref_l = sp.symbols("logp_w logp_l ref_w ref_l", real=True)
len_w, len_l, length = sp.symbols("len_w len_l len", positive=True, integer=True)
r_w, r_l, r = sp.symbols("r_w r_l r", real=True)
u, v = sp.symbols("u v", positive=True)  # e^{r_w}, e^{r_l}
rest = sp.Symbol("rest", positive=True)
time = sp.Symbol("t", positive=True)
moment = sp.Symbol("t", nonnegative=True)  # the same with the start among it
any_gamma = sp.Symbol("gamma", nonnegative=True)  # a margin that may be 0
epsilon_odds = sp.Symbol("k", positive=True)  # (1 - eps) / eps, so eps = 1 / (1 + k)


def positives(name: str, count: int) -> tuple[sp.Symbol, ...]:
    """name_1, ..., name_count > 0: unnormalized probabilities, for instance."""
    return tuple(sp.Symbol(f"{name}_{i + 1}", positive=True) for i in range(count))


def reals(name: str, count: int) -> tuple[sp.Symbol, ...]:
    """name_1, ..., name_count, real."""
    return tuple(sp.Symbol(f"{name}_{i + 1}", real=True) for i in range(count))


def sigmoid(x: sp.Expr) -> sp.Expr:
    """1 / (1 + e^-x), written out here so that a slip in the traced code cannot hide."""
    return 1 / (1 + sp.exp(-x))


def normalized(weights: Sequence[sp.Expr]) -> list[sp.Expr]:
    """Probabilities from weights."""
    total = sum(weights)
    return [weight / total for weight in weights]


def mean(policy: Sequence[sp.Expr], values: Sequence[sp.Expr]) -> sp.Expr:
    """E_pi[values]."""
    return sum(pi * value for pi, value in zip(policy, values, strict=True))


def covariance(policy: Sequence[sp.Expr], first: Sequence[sp.Expr], second: Sequence[sp.Expr]) -> sp.Expr:
    """Cov_pi(first, second)."""
    product = [a * b for a, b in zip(first, second, strict=True)]
    return mean(policy, product) - mean(policy, first) * mean(policy, second)


def by_logit(expr: sp.Expr, weight: sp.Symbol) -> sp.Expr:
    """d/d logit = w d/dw."""
    return weight * sp.diff(expr, weight)
