"""The calls that programs make: whole batches, defaults, sums of regularizers, and the branches for floating point."""

from collections.abc import Callable, Iterator
from typing import Any

import mpmath
import numpy as np
import sympy as sp
from flint import arb, ctx

from derivations import arrays
from derivations.objectives import (
    dpo,
    ipo_loss,
    kl_estimate,
    maxent,
    pair_loss,
    preference_metrics,
    ranking_loss,
    rloo_advantage,
    shaped_reward,
    simpo,
)
from derivations.preferences import bradley_terry, plackett_luce, rao_kupper, rao_kupper_tie
from derivations.proofs.names import SMOOTHING, Response, batch, column, implicit, require_rows
from derivations.proofs.symbols import alpha, beta, gamma, order, reals
from derivations.prover.claims import claim
from derivations.prover.kinds import Enumerated, Equal, Step
from derivations.prover.tracing import traced_array
from derivations.regularizers import (
    KL,
    NONE,
    REGULARIZERS,
    AlphaDivergence,
    Entropy,
    ForwardKL,
    JensenShannon,
    LengthNormalized,
    LengthNormalizedShannon,
    Regularizer,
    Sum,
)

ROWS = 2
UNIT = frozenset({order})
FINE, LEAST = 1e-13, 1e-300  # a few roundings in float64, and where it runs out of exponents


def rows_equal(name: str, found: Any, by_hand: list[sp.Expr], **options: Any) -> list[Step]:
    """One equation for each row of what a call on a batch returned; any other shape breaks the proof off."""
    values = found.values.reshape(len(by_hand))
    return [Equal(f"{name}, row {i + 1}", values[i], right, **options) for i, right in enumerate(by_hand)]


@claim(
    "losses-on-batches",
    "On a batch of pairs every loss and preference model computes each pair by itself.",
    latex=r"\ell_i = \ell(w_i, l_i)",
    source="docstrings of derivations.objectives and derivations.preferences",
    scope="batches of two pairs, defaults and options",
    depends_on=("multiplier-cancels",),
)
def losses_on_batches() -> list[Step]:
    rows = batch(2)
    (logp_w, logp_l), (n_w, n_l), (ref_w, ref_l) = (
        [[row[k] for row in column(rows, which)] for k in (0, 1)] for which in range(3)
    )

    def loss(margin: sp.Expr) -> sp.Expr:
        return sp.log(1 + sp.exp(-margin))

    def over(formula: Callable[..., sp.Expr]) -> list[sp.Expr]:
        return [formula(*(part for response in row for part in response)) for row in rows]

    def tie(a: sp.Expr, n: Any, q: Any, b: sp.Expr, *_: Any) -> sp.Expr:
        return sp.log(sp.exp(2 * gamma) - 1) - sp.log(1 + sp.exp(gamma + b - a)) - sp.log(1 + sp.exp(gamma + a - b))

    per_token = {"chosen_length": n_w, "rejected_length": n_l, "beta": beta}
    smooth = {"gamma": gamma, "label_smoothing": SMOOTHING}
    return [
        *rows_equal("bradley_terry", traced_array(bradley_terry, logp_w, logp_l), over(lambda a, n, q, b, *_: -loss(a - b))),
        *rows_equal("rao_kupper", traced_array(rao_kupper, logp_w, logp_l, gamma=gamma), over(lambda a, n, q, b, *_: -loss(a - b - gamma))),
        *rows_equal("rao_kupper_tie", traced_array(rao_kupper_tie, logp_w, logp_l, gamma=gamma), over(tie)),
        *rows_equal("pair_loss, defaults", traced_array(pair_loss, logp_w, logp_l), over(lambda a, n, q, b, *_: loss(a - b))),
        *rows_equal("pair_loss, margin and smoothing", traced_array(pair_loss, logp_w, logp_l, **smooth),
                    over(lambda a, n, q, b, *_: (1 - SMOOTHING) * loss(a - b - gamma) + SMOOTHING * loss(b - a + gamma))),
        *rows_equal("ipo_loss", traced_array(ipo_loss, logp_w, logp_l, beta=beta), over(lambda a, n, q, b, *_: ((a - b) / beta - 1 / (2 * beta)) ** 2)),
        *rows_equal("maxent", traced_array(maxent, logp_w, logp_l, alpha=alpha), over(lambda a, n, q, b, *_: loss(alpha * a - alpha * b))),
        *rows_equal("dpo", traced_array(dpo, logp_w, logp_l, ref_chosen_logp=ref_w, ref_rejected_logp=ref_l, beta=beta),
                    over(lambda a, n, q, b, m, r: loss(beta * (a - q) - beta * (b - r)))),
        *rows_equal("simpo, default margin", traced_array(simpo, logp_w, logp_l, **per_token), over(lambda a, n, q, b, m, r: loss(beta * a / n - beta * b / m))),
        *rows_equal("simpo", traced_array(simpo, logp_w, logp_l, **per_token, gamma=gamma), over(lambda a, n, q, b, m, r: loss(beta * a / n - beta * b / m - gamma))),
    ]  # fmt: skip


@claim(
    "rankings-on-batches",
    "On a batch of rankings Plackett-Luce computes every example by itself, all places or the first ones.",
    latex=r"\log P(\rho_i)",
    source="docstrings of derivations.preferences",
    scope="batches of two rankings of 3, 4 and 5 responses; top not given, and 1 to m - 1 for m = 4",
)
def rankings_on_batches() -> list[Step]:
    steps: list[Step] = []
    for m, top in ((3, None), (4, None), (4, 1), (4, 2), (4, 3), (5, None)):
        table = [list(reals(f"s_{row}", m)) for row in range(ROWS)]
        for sign, function in ((1, plackett_luce), (-1, ranking_loss)):
            right = [
                -sign * sum(sp.log(sum(sp.exp(s[j] - s[k]) for j in range(k, m))) for k in range(top or m - 1))
                for s in table
            ]
            steps += rows_equal(
                f"{function.__name__}, m = {m}, top {top}", traced_array(function, table, top=top), right
            )
    return steps


def regularizers() -> dict[str, tuple[Regularizer, list[tuple[str, sp.Expr]]]]:
    """Every regularizer and sums of them, with symbolic strengths, and which kinds they are by hand."""
    again = sp.Symbol("beta_2", positive=True)
    three = Entropy(alpha) + (KL(beta) + LengthNormalized(gamma))
    return {
        "entropy": (Entropy(alpha), [("entropy", alpha)]),
        "kl": (KL(beta), [("kl", beta)]),
        "length-normalized": (LengthNormalized(beta), [("length-normalized", beta)]),
        "length-normalized-shannon": (LengthNormalizedShannon(beta), [("length-normalized-shannon", beta)]),
        "forward-kl": (ForwardKL(beta), [("forward-kl", beta)]),
        "jensen-shannon": (JensenShannon(beta), [("jensen-shannon", beta)]),
        "alpha-divergence": (AlphaDivergence(beta, order), [("alpha-divergence", beta)]),
        "entropy + kl": (Entropy(alpha) + KL(beta), [("entropy", alpha), ("kl", beta)]),
        "entropy + (kl + length-normalized)": (three, [("entropy", alpha), ("kl", beta), ("length-normalized", gamma)]),
        "(entropy + kl) + kl": (
            Entropy(alpha) + KL(beta) + KL(again), [("entropy", alpha), ("kl", beta), ("kl", again)],
        ),
        "a sum in a sum": (Sum((Sum((KL(beta),)), Entropy(alpha))), [("kl", beta), ("entropy", alpha)]),
        "none": (NONE, []),
    }  # fmt: skip


# s - score: what the score leaves out
CONSTANTS = {"entropy": 1, "kl": 1}


def phi_by_hand(kind: str, strength: sp.Expr, response: Response) -> sp.Expr:
    """phi of one response, from its log-probability."""
    logp, n, ref = response
    p, q, log_u = sp.exp(logp), sp.exp(ref), logp - ref
    return (
        strength
        * {
            "entropy": p * logp,
            "kl": p * log_u,
            "length-normalized": (p * logp - p) / n,
            "length-normalized-shannon": p * logp / n,
            "forward-kl": -q * log_u,
            "jensen-shannon": p * log_u - (p + q) * sp.log((1 + sp.exp(log_u)) / 2),
            "alpha-divergence": ((1 - order) * p - sp.exp((1 - order) * logp + order * ref) + order * q)
            / (order * (1 - order)),
        }[kind]
    )


@claim(
    "regularizers-on-batches",
    "On a batch of policies phi, the implicit reward and the shaped reward are those of each response, for sums as well.",
    latex=r"s_{ij} = \phi_j'(\pi_i(y_j))",
    source="docstrings of derivations.regularizers",
    scope="batches of two prompts with two responses, every regularizer, sums by + and by Sum, and none",
)
def regularizers_on_batches() -> list[Step]:
    rows = batch(2)
    given = {"length": column(rows, 1), "ref_logp": column(rows, 2)}
    rewards = [[sp.Symbol(f"r_{i}{k}", real=True) for k in range(2)] for i in range(ROWS)]
    require_rows(REGULARIZERS, regularizers(), "regularizers() of derivations/proofs/calls.py")
    steps: list[Step] = []
    for name, (regularizer, parts) in regularizers().items():
        phi = traced_array(regularizer.phi, column(rows, 0), **given).values.reshape(ROWS, 2)
        s = traced_array(regularizer.phi_prime, column(rows, 0), **given).values.reshape(ROWS, 2)
        shaped = traced_array(shaped_reward, rewards, column(rows, 0), regularizer=regularizer, **given).values
        for i, k in ((0, 1), (1, 0)):
            score = sum((implicit(kind, c, rows[i][k], order) for kind, c in parts), start=sp.S.Zero)
            left_out = sum((c * CONSTANTS.get(kind, 0) for kind, c in parts), start=sp.S.Zero)
            steps += [
                Equal(f"{name}: phi, row {i + 1}", phi[i, k], sum((phi_by_hand(kind, c, rows[i][k]) for kind, c in parts), start=sp.S.Zero), unit=UNIT),
                Equal(f"{name}: s, row {i + 1}", s[i, k], score + left_out, unit=UNIT),
                Equal(f"{name}: shaped, row {i + 1}", shaped.reshape(ROWS, 2)[i, k], rewards[i][k] - score, unit=UNIT),
            ]  # fmt: skip
    return steps


@claim(
    "estimators-on-batches",
    "On a batch the advantages, KL estimates and metrics are those of each prompt and each sample.",
    latex=r"A_{ij} = r_{ij} - \frac1{k-1}\sum_{m \ne j} r_{im}",
    source="docstrings of derivations.objectives",
    scope="batches of two prompts; 2 and 3 samples each",
)
def estimators_on_batches() -> list[Step]:
    steps: list[Step] = []
    for k in (2, 3):
        table = [list(reals(f"r_{row}", k)) for row in range(ROWS)]
        advantage = traced_array(rloo_advantage, table).values.reshape(ROWS, k)
        for i, row in enumerate(table):
            steps += [
                Equal(f"rloo, k = {k}, row {i + 1}, sample {j + 1}", advantage[i, j], row[j] - sum(row[:j] + row[j + 1 :]) / (k - 1))
                for j in range(k)
            ]  # fmt: skip
    x, y = ([list(reals(f"{name}_{row}", 2)) for row in range(ROWS)] for name in ("logp", "ref"))
    for role, formula in (
        ("metric", lambda a, b: sp.exp(b - a) - 1 - (b - a)),
        ("reward", lambda a, b: a - b),
        ("loss", lambda a, b: (a - b) ** 2 / 2),
    ):
        found = traced_array(kl_estimate, x, y, role=role).values.reshape(ROWS, 2)
        steps += [
            Equal(f"kl_estimate, {role}, row {i + 1}", found[i, 1], formula(x[i][1], y[i][1])) for i in range(ROWS)
        ]
    lead = [sp.Symbol(f"lead_{row}", positive=True) for row in range(ROWS)]
    rejected, logps = list(reals("s", ROWS)), [list(reals(name, ROWS)) for name in ("logp_w", "logp_l")]
    found = traced_array(preference_metrics, [s + g for s, g in zip(rejected, lead, strict=True)], rejected, *logps)
    for name, right in (
        ("rewards/chosen", [s + g for s, g in zip(rejected, lead, strict=True)]),
        ("rewards/rejected", rejected),
        ("rewards/margins", lead),
        ("rewards/accuracies", [sp.S.One] * ROWS),
        ("logps/chosen", logps[0]),
        ("logps/rejected", logps[1]),
    ):
        steps += rows_equal(name, found[name], right)
    return steps


GRID = (-1e4, -745.0, -104.0, -30.0, -1.0, -1e-6, 0.0, 1e-6, 0.5, 1.0, 30.0, 104.0, 745.0, 1e4)
Case = tuple[str, tuple[float, ...], float]


def numeric_values() -> Iterator[Case]:
    """What the three functions with branches for floating point return in float64, at the places of a grid."""
    table = np.array([[a, b, c] for a in GRID for b in GRID[::3] for c in (-3.0, 2.0)])
    masks = np.array([[True, i % 2 == 0, i % 3 == 0] for i in range(len(table))])
    hidden = np.where(masks, table, np.where(np.arange(3) == 1, np.nan, np.inf))
    for value in arrays.logsumexp(np.full((1, 3), -1e35)):  # where a library masks by a large number
        yield "logsumexp", (-1e35,) * 3, float(value)
    for x, value in zip(GRID, arrays.log_sigmoid(np.array(GRID)), strict=True):
        yield "log_sigmoid", (x,), float(value)
    for row, value in zip(table, arrays.logsumexp(table), strict=True):
        yield "logsumexp", tuple(row), float(value)
    for row, value in zip(table.T[:, :5].T, arrays.logsumexp(table[:5].T, axis=0), strict=True):
        yield "logsumexp", tuple(row), float(value)
    sums = [*arrays.masked_sum(hidden, masks), *arrays.masked_sum(hidden[:5].T, masks[:5].T, axis=0)]
    for row, mask, value in zip((*table, *table[:5]), (*masks, *masks[:5]), sums, strict=True):
        yield "masked_sum", tuple(np.where(mask, row, 0.0)), float(value)


def near_balls(case: Case) -> bool:
    name, x, value = case
    before, ctx.prec = ctx.prec, 400
    try:
        balls = [arb(v) for v in x]
        exact = -(-balls[0]).exp().log1p() if name == "log_sigmoid" else sum(b.exp() for b in balls).log()
        exact = sum(balls[1:], start=balls[0]) if name == "masked_sum" else exact
        size = sum(map(abs, balls)) if name == "masked_sum" else abs(exact)
        return bool(abs(arb(value) - exact) <= FINE * size + LEAST)
    finally:
        ctx.prec = before


def near_mpmath(case: Case) -> bool:
    name, x, value = case
    with mpmath.workdps(120):
        terms = [mpmath.mpf(v) for v in x]
        if name == "masked_sum":
            exact, size = mpmath.fsum(terms), mpmath.fsum(map(abs, terms))
        elif name == "log_sigmoid":
            exact = size = -mpmath.log1p(mpmath.exp(-terms[0]))
        else:
            exact = size = mpmath.log(mpmath.fsum(map(mpmath.exp, terms)))
        return bool(abs(value - exact) <= FINE * abs(size) + LEAST)


def mirrored(case: Case) -> bool:
    return near_balls((case[0], tuple(-x for x in case[1]), case[2]))


def largest(case: Case) -> bool:
    return case[2] == max(case[1]) or case[0] != "logsumexp"


@claim(
    "numeric-branches",
    "On a grid of float64 numbers the three functions that branch have their textbook values, masked entries unread.",
    latex=r"\log\sigma(x),\quad \log\sum_j e^{x_j},\quad \sum_{j: m_j} x_j",
    hypotheses="float64, relative error 10^-13",
    source="docstring of derivations.arrays",
    scope="a grid from -10^4 to 10^4; gradients and float32 are in the tests",
)
def numeric_branches() -> list[Step]:
    wrong = {"log sigmoid of -x": mirrored, "the largest for the sum": largest}
    return [Enumerated("the values at the grid", numeric_values, near_balls, near_mpmath, wrong)]
