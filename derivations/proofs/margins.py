"""THEORY 2.6: gamma is Rao and Kupper's tie threshold; what it means, and what it costs where ties were thrown away."""

import sympy as sp

from derivations.objectives import pair_loss
from derivations.preferences import bradley_terry, rao_kupper, rao_kupper_tie
from derivations.proofs.symbols import any_gamma, gamma, r_l, r_w, sigmoid, u, v
from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, Differs, Equal, Iff, Positive, Step
from derivations.prover.tracing import trace

theta = sp.exp(gamma)
tau, omega = sp.symbols("tau omega", positive=True)  # theta = 1 + tau, u = 1 + omega: gamma > 0 and d > 0


def win() -> sp.Expr:
    """log P(w > l) with e^{r_w} = u, e^{r_l} = v."""
    return trace(rao_kupper, sp.log(u), sp.log(v), gamma=gamma)


def loss() -> sp.Expr:
    """log P(l > w)."""
    return trace(rao_kupper, sp.log(v), sp.log(u), gamma=gamma)


def decisive_win() -> sp.Expr:
    """P(w > l | no tie), in closed form (decided in `margin-discarded-ties`)."""
    return (theta * u**2 + u * v) / (theta * u**2 + 2 * u * v + theta * v**2)


@claim(
    "margin-rao-kupper",
    "Read as the tie threshold of Rao and Kupper, the margin gamma gives win, loss and tie probabilities that sum to 1.",
    latex=r"P(w \succ l) = \sigma(d-\gamma),\ P(l \succ w) = \sigma(-d-\gamma),\ "
    r"P(\text{tie}) = \frac{(\theta^2-1)uv}{(u+\theta v)(\theta u+v)}",
    hypotheses="theta = e^gamma, u = e^(r_w), v = e^(r_l), d = r_w - r_l",
    source="THEORY 2.6; Rao and Kupper 1967",
    scope="any pair of responses",
)
def margin_rao_kupper() -> list[Step]:
    tie = trace(rao_kupper_tie, sp.log(u), sp.log(v), gamma=gamma)
    one = {gamma: sp.S.One, u: sp.E, v: sp.S.One}
    return [
        Equal("P(w > l) = u / (u + theta v)", sp.exp(win()), u / (u + theta * v)),
        Equal("P(l > w) = v / (v + theta u)", sp.exp(loss()), v / (v + theta * u)),
        Equal(
            "P(w > l) = sigma(d - gamma)", sp.exp(trace(rao_kupper, r_w, r_l, gamma=gamma)), sigmoid(r_w - r_l - gamma)
        ),
        Equal(
            "P(tie) as Rao and Kupper write it",
            sp.exp(tie),
            (theta**2 - 1) * u * v / ((u + theta * v) * (theta * u + v)),
        ),
        Equal("the three sum to 1", sp.exp(win()) + sp.exp(loss()) + sp.exp(tie), sp.S.One),
        Equal(
            "gamma = 0 is Bradley-Terry", trace(bradley_terry, r_w, r_l), trace(rao_kupper, r_w, r_l, gamma=sp.S.Zero)
        ),
        Equal("Bradley-Terry is sigma(r_w - r_l)", sp.exp(trace(bradley_terry, r_w, r_l)), sigmoid(r_w - r_l)),
        Positive("gamma = d = 1: P(tie) > 0.375", sp.exp(tie).subs(one) - sp.Rational(375, 1000)),
        Positive("and < 0.385", sp.Rational(385, 1000) - sp.exp(tie).subs(one)),
    ]


@claim(
    "margin-discarded-ties",
    "A margin loss on data whose ties were discarded is the likelihood of the decisive comparisons.",
    latex=r"P(w \succ l \mid \text{decisive}) = \frac{\theta u^2 + uv}{\theta u^2 + 2uv + \theta v^2} \ne \sigma(d-\gamma)",
    hypotheses="theta = e^gamma, u = e^(r_w), v = e^(r_l), d = r_w - r_l",
    source="THEORY 2.6; SimPO's margin read as a likelihood",
    scope="any pair of responses",
    depends_on=("margin-rao-kupper",),
    expected="refuted",
)
def margin_discarded_ties() -> list[Step]:
    decisive = sp.exp(win()) / (sp.exp(win()) + sp.exp(loss()))
    margin = sp.exp(-trace(pair_loss, sp.log(u), sp.log(v), gamma=gamma))
    one = {gamma: sp.S.One, u: sp.E, v: sp.S.One}
    shared = u**2 * v / ((theta * u**2 + 2 * u * v + theta * v**2) * (u + theta * v))
    gap = (theta**2 - 1) * shared
    return [
        Equal("P(w > l | decisive) in closed form", decisive, decisive_win()),
        Differs(
            "counterexample theta = 2, u = 2, v = 1: the true probability against the margin loss's",
            decisive_win().subs(theta, 2),
            margin.subs(theta, 2),
            {u: sp.Integer(2), v: sp.S.One},
        ),
        Positive(
            "gamma = d = 1: P(w > l | decisive) > 0.8065, where sigma(0) = 1/2",
            decisive_win().subs(one) - sp.Rational(8065, 10000),
        ),
        Positive("and < 0.8075", sp.Rational(8075, 10000) - decisive_win().subs(one)),
        Equal("the exact difference to sigma(d - gamma)", decisive - margin, gap),
        Iff(
            "the likelihood of the decisive comparisons is the margin loss",
            decisive_win().subs(gamma, any_gamma),
            margin.subs(gamma, any_gamma),
            ((theta + 1) * shared).subs(gamma, any_gamma),
            (sp.exp(any_gamma) - 1,),
            {any_gamma: 1, u: 2, v: 1},
        ),
    ]


@claim(
    "margin-overstates",
    "Fitted to data whose ties were discarded, a margin loss overstates every reward difference that is not 0.",
    latex=r"d \ne 0,\ \gamma > 0 \ \Rightarrow\ |\hat d| > |d|,\qquad \gamma = d = 1:\ 2.21 < \hat d < 2.22",
    hypotheses="gamma > 0; decisive pairs follow the Rao-Kupper model; population fit of one score difference f",
    source="THEORY 2.6, the cost",
    scope="any pair of responses",
    depends_on=("margin-discarded-ties",),
)
def margin_overstates() -> list[Step]:
    d, f = sp.symbols("d f", real=True)
    win_rate = decisive_win().subs({u: sp.exp(d), v: sp.S.One})
    zero = sp.S.Zero
    # the population loss at score difference f when decisive pairs come with this win rate
    population = win_rate * trace(pair_loss, f, zero, gamma=gamma) + (1 - win_rate) * trace(
        pair_loss, zero, f, gamma=gamma
    )
    x = sp.exp(f)
    slope = sp.diff(population, f)
    one = {d: sp.S.One, gamma: sp.S.One}
    gap = u * (theta**2 - 1) * (u**2 - 1) / (theta * u**2 + 2 * u + theta)
    return [
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
            "which is positive for gamma > 0, d > 0: the loss still falls at f = d",
            gap.subs({theta: 1 + tau, u: 1 + omega}),
        ),
        Positive("-log sigma(f - gamma) is convex", sp.diff(trace(pair_loss, f, zero, gamma=gamma), f, 2)),
        Argued(
            "the loss is convex in f (a mixture of -log sigma), so its minimizer lies beyond d; for d < 0 by symmetry, "
            "d = 0 gives 0",
            by="convex slope",
            uses=("-log sigma(f", "at f = d", "which is positive for gamma"),
        ),
        Positive("gamma = d = 1: the loss falls at f = 2.21", -slope.subs(one).subs(f, sp.Rational(221, 100))),
        Positive(
            "and rises at f = 2.22: a fit of 2.21 where the truth is 1",
            slope.subs(one).subs(f, sp.Rational(222, 100)),
        ),
    ]
