"""THEORY 2.6 and 2.8: what the margin means and costs, and rankings."""

import itertools

import sympy as sp

from derivations.checks import Argued, Differs, Equal, Positive, Step
from derivations.claims import claim
from derivations.objectives import dpo, dpo_pl, maxent, maxent_pl, pair_loss, simpo, simpo_pl
from derivations.preferences import bradley_terry, plackett_luce, rao_kupper, rao_kupper_tie
from derivations.proofs.tools import (
    beta,
    gamma,
    len_l,
    len_w,
    logp_l,
    logp_w,
    positives,
    r_l,
    r_w,
    ref_l,
    ref_w,
    sigmoid,
    trace,
    u,
    v,
)

theta = sp.exp(gamma)
WIN = trace(rao_kupper, sp.log(u), sp.log(v), gamma=gamma)  # log-probabilities with e^{r_w} = u, e^{r_l} = v
LOSS = trace(rao_kupper, sp.log(v), sp.log(u), gamma=gamma)
TIE = trace(rao_kupper_tie, sp.log(u), sp.log(v), gamma=gamma)


@claim(
    "margin-rao-kupper",
    "The margin gamma is the tie threshold of the Rao-Kupper model: win, loss and tie probabilities sum to 1.",
    latex=r"P(w \succ l) = \sigma(d-\gamma),\ P(l \succ w) = \sigma(-d-\gamma),\ "
    r"P(\text{tie}) = \frac{(\theta^2-1)uv}{(u+\theta v)(\theta u+v)}",
    source="THEORY 2.6; Rao and Kupper 1967",
    scope="any pair of responses",
)
def margin_rao_kupper() -> list[Step]:
    return [
        Equal("P(w > l) = u / (u + theta v)", sp.exp(WIN), u / (u + theta * v)),
        Equal("P(l > w) = v / (v + theta u)", sp.exp(LOSS), v / (v + theta * u)),
        Equal(
            "P(w > l) = sigma(d - gamma)", sp.exp(trace(rao_kupper, r_w, r_l, gamma=gamma)), sigmoid(r_w - r_l - gamma)
        ),
        Equal(
            "P(tie) as Rao and Kupper write it",
            sp.exp(TIE),
            (theta**2 - 1) * u * v / ((u + theta * v) * (theta * u + v)),
        ),
        Equal("the three sum to 1", sp.exp(WIN) + sp.exp(LOSS) + sp.exp(TIE), sp.S.One),
        Equal(
            "gamma = 0 is Bradley-Terry", trace(bradley_terry, r_w, r_l), trace(rao_kupper, r_w, r_l, gamma=sp.S.Zero)
        ),
        Equal("Bradley-Terry is sigma(r_w - r_l)", sp.exp(trace(bradley_terry, r_w, r_l)), sigmoid(r_w - r_l)),
    ]


@claim(
    "margin-discarded-ties",
    "A margin loss on data whose ties were discarded is the likelihood of the decisive comparisons.",
    latex=r"P(w \succ l \mid \text{decisive}) = \frac{\theta u^2 + uv}{\theta u^2 + 2uv + \theta v^2} \ne \sigma(d-\gamma)",
    source="THEORY 2.6; SimPO's margin read as a likelihood",
    scope="any pair of responses",
    depends_on=("margin-rao-kupper",),
    expected="refuted",
    condition="only if gamma = 0; for gamma > 0 the population fit overstates |d| whenever d is not 0",
)
def margin_discarded_ties() -> list[Step]:
    decisive = sp.exp(WIN) / (sp.exp(WIN) + sp.exp(LOSS))
    closed = (theta * u**2 + u * v) / (theta * u**2 + 2 * u * v + theta * v**2)
    d, f = sp.symbols("d f", real=True)
    win_rate = closed.subs({u: sp.exp(d), v: sp.S.One})
    zero = sp.S.Zero
    # SimPO's population loss at the score difference f when decisive pairs come with this win rate
    loss = win_rate * trace(pair_loss, f, zero, gamma=gamma) + (1 - win_rate) * trace(pair_loss, zero, f, gamma=gamma)
    x = sp.exp(f)
    slope = sp.diff(loss, f)
    one = {d: sp.S.One, gamma: sp.S.One}
    t, w = sp.symbols("tau omega", positive=True)  # theta = 1 + tau, u = 1 + omega: gamma > 0 and d > 0
    gap = u * (theta**2 - 1) * (u**2 - 1) / (theta * u**2 + 2 * u + theta)
    return [
        Equal("P(w > l | decisive) in closed form", decisive, closed),
        Differs("counterexample gamma = 1, d = 1: 0.807 against sigma(0) = 0.5", win_rate, sigmoid(d - gamma), one),
        Equal("gamma = 0: it is sigma(d)", win_rate.subs(gamma, 0), sigmoid(d)),
        Equal(
            "slope of the population loss, times a positive factor, with x = e^f",
            slope * (1 + theta * x) * (x + theta) / theta,
            (1 - win_rate) * x * (x + theta) - win_rate * (1 + theta * x),
        ),
        Equal(
            "at f = d minus that slope is u (theta^2 - 1)(u^2 - 1) / (theta u^2 + 2 u + theta), u = e^d",
            (win_rate * (1 + theta * x) - (1 - win_rate) * x * (x + theta)).subs(f, d),
            gap.subs(u, sp.exp(d)),
        ),
        Positive(
            "which is positive for gamma > 0, d > 0: the loss still falls at f = d", gap.subs({theta: 1 + t, u: 1 + w})
        ),
        Argued(
            "the loss is convex in f (a mixture of -log sigma), so its minimizer lies beyond d; for d < 0 by symmetry, d = 0 gives 0"
        ),
        Positive("gamma = d = 1: the loss falls at f = 2.21", -slope.subs(one).subs(f, sp.Rational(221, 100))),
        Positive(
            "and rises at f = 2.22: SimPO fits 2.21 where the truth is 1",
            slope.subs(one).subs(f, sp.Rational(222, 100)),
        ),
    ]


@claim(
    "plackett-luce-normalized",
    "Plackett-Luce probabilities of all rankings sum to 1.",
    latex=r"\sum_\rho \prod_k \frac{e^{s_{\rho_k}}}{\sum_{j\ge k} e^{s_{\rho_j}}} = 1",
    source="THEORY 2.8",
    scope="any number of responses by the recursion step; 2, 3, 4 responses enumerated",
)
def plackett_luce_normalized() -> list[Step]:
    steps: list[Step] = []
    for m in (2, 3, 4):
        weights = positives("w", m)
        total = sum(sp.exp(_pl(order)) for order in itertools.permutations(weights))
        steps.append(Equal(f"m = {m}, all {len(list(itertools.permutations(weights)))} rankings", total, sp.S.One))
    first, rest = positives("w", 2)
    return [
        *steps,
        Equal("recursion: the first place takes w/(w + rest)", sp.exp(_pl((first, rest))), first / (first + rest)),
        Argued(
            "given the first place, the rest is Plackett-Luce on m - 1 responses and sums to 1 by induction; "
            "the first-place probabilities w_i / W sum to 1"
        ),
    ]


def _pl(weights: tuple[sp.Expr, ...], top: int | None = None) -> sp.Expr:
    """Traced log-probability of this order, in weights e^s (so that claims become rational functions)."""
    return trace(lambda s: plackett_luce(s, top=top), [sp.log(w) for w in weights])


@claim(
    "plackett-luce-bradley-terry",
    "Two responses give Bradley-Terry, and pairwise marginals of a ranking are Bradley-Terry.",
    latex=r"P(a \succ b) = \frac{w_a}{w_a + w_b}",
    source="THEORY 2.8",
    scope="2 responses: exact; marginals: 3 and 4 responses enumerated",
)
def plackett_luce_bradley_terry() -> list[Step]:
    steps: list[Step] = [Equal("two responses", trace(plackett_luce, [r_w, r_l]), trace(bradley_terry, r_w, r_l))]
    for m in (3, 4):
        weights = positives("w", m)
        ahead = [o for o in itertools.permutations(weights) if o.index(weights[0]) < o.index(weights[1])]
        marginal = sum(sp.exp(_pl(order)) for order in ahead)
        steps.append(Equal(f"marginal of {m} responses", marginal, weights[0] / (weights[0] + weights[1])))
    return steps


@claim(
    "plackett-luce-top-k",
    "A ranking of which only the first k places were seen has the first k factors as its probability.",
    latex=r"P(\rho_1 \dots \rho_k) = \prod_{i \le k} \frac{w_{\rho_i}}{\sum_{j \ge i} w_{\rho_j}}",
    source="THEORY 2.8",
    scope="3 and 4 responses enumerated",
    depends_on=("plackett-luce-normalized",),
)
def plackett_luce_top_k() -> list[Step]:
    steps: list[Step] = []
    for m, top in ((3, 1), (4, 1), (4, 2)):
        weights = positives("w", m)
        completions = itertools.permutations(weights[top:])
        total = sum(sp.exp(_pl(weights[:top] + rest)) for rest in completions)
        steps.append(Equal(f"m = {m}, top {top}", sp.exp(_pl(weights, top=top)), total))
    return steps


@claim(
    "listwise-objectives",
    "The listwise losses are Plackett-Luce on implicit rewards, and with two responses they are the pairwise ones.",
    latex=r"\ell_{\mathrm{PL}} = -\sum_k \Big[s_k - \log\sum_{j\ge k} e^{s_j}\Big]",
    source="THEORY 2.8, SimPO-PL and DPO-PL",
    scope="2 and 3 responses",
    depends_on=("plackett-luce-bradley-terry", "multiplier-cancels"),
)
def listwise_objectives() -> list[Step]:
    pair, references, lengths = [logp_w, logp_l], [ref_w, ref_l], [len_w, len_l]
    s = [sp.Symbol(f"logp_{i}", real=True) for i in range(3)]
    refs, lens = [sp.Symbol(f"ref_{i}", real=True) for i in range(3)], positives("len", 3)

    def by_hand(x: sp.Expr, y: sp.Expr, z: sp.Expr) -> sp.Expr:
        return sp.log(1 + sp.exp(y - x) + sp.exp(z - x)) + sp.log(1 + sp.exp(z - y))

    against_reference = by_hand(*(beta * (logp - ref) for logp, ref in zip(s, refs, strict=True)))
    per_token = by_hand(*(beta * logp / n for logp, n in zip(s, lens, strict=True)))
    return [
        Equal("maxent", trace(maxent_pl, pair, alpha=beta), trace(maxent, logp_w, logp_l, alpha=beta)),
        Equal(
            "dpo",
            trace(dpo_pl, pair, ref_logp=references, beta=beta),
            trace(dpo, logp_w, logp_l, ref_chosen_logp=ref_w, ref_rejected_logp=ref_l, beta=beta),
        ),
        Equal(
            "simpo",
            trace(simpo_pl, pair, length=lengths, beta=beta),
            trace(simpo, logp_w, logp_l, chosen_length=len_w, rejected_length=len_l, beta=beta),
        ),
        Equal("maxent, three responses by hand", trace(maxent_pl, s, alpha=beta), by_hand(*(beta * x for x in s))),
        Equal("dpo, three responses by hand", trace(dpo_pl, s, ref_logp=refs, beta=beta), against_reference),
        Equal("simpo, three responses by hand", trace(simpo_pl, s, length=lens, beta=beta), per_token),
    ]
