"""What the pair losses fit on endless data: the true reward difference without a margin, an inflated one with it."""

import itertools

import sympy as sp

from derivations.objectives import dpo, pair_loss, ranking_loss, simpo
from derivations.proofs.symbols import (
    beta,
    gamma,
    len_l,
    len_w,
    logp_l,
    logp_w,
    positives,
    reals,
    ref_l,
    ref_w,
    sigmoid,
)
from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, Equal, Iff, Positive, Step, TendsTo
from derivations.prover.tracing import trace

d, f = sp.symbols("d f", real=True)  # true and fitted difference of rewards
t, theta = sp.symbols("t theta", positive=True)  # fitted odds e^f, and e^gamma


def two_coins(first: sp.Expr, second: sp.Expr) -> sp.Expr:
    """KL between two comparisons with log odds `first` and `second`."""
    win, loss = sigmoid(first), sigmoid(-first)
    return win * sp.log(win / sigmoid(second)) + loss * sp.log(loss / sigmoid(-second))


@claim(
    "consistent-on-bradley-terry",
    "On Bradley-Terry data the population losses of SimPO (gamma = 0) and of DPO exceed their minimum by the KL divergence of "
    "two coins, that of the true difference d of the rewards and that of the implicit one, f; the slope in f is 0 if and only if f = d.",
    latex=r"E[\ell] - \min = \mathrm{KL}\big(\mathrm{Ber}\,\sigma(d) \,\|\, \mathrm{Ber}\,\sigma(f)\big),\quad f = s_w - s_l",
    hypotheses="w beats l with probability sigma(d), d the true reward difference",
    source="THEORY 1, offline reading; the converse of repair-generalized",
    scope="one pair, any lengths and any reference",
    expected="iff",
    depends_on=("repair-generalized", "dpo-objective", "kl-nonnegative"),
)
def consistent_on_bradley_terry() -> list[Step]:
    forwards = {"chosen_length": len_w, "rejected_length": len_l, "beta": beta}
    backwards = {"chosen_length": len_l, "rejected_length": len_w, "beta": beta}
    per_token = sigmoid(d) * trace(simpo, logp_w, logp_l, **forwards)
    per_token += sigmoid(-d) * trace(simpo, logp_l, logp_w, **backwards)
    against = sigmoid(d) * trace(dpo, logp_w, logp_l, ref_chosen_logp=ref_w, ref_rejected_logp=ref_l, beta=beta)
    against += sigmoid(-d) * trace(dpo, logp_l, logp_w, ref_chosen_logp=ref_l, ref_rejected_logp=ref_w, beta=beta)
    entropy = -sigmoid(d) * sp.log(sigmoid(d)) - sigmoid(-d) * sp.log(sigmoid(-d))
    population = sigmoid(d) * trace(pair_loss, f, sp.S.Zero) + sigmoid(-d) * trace(pair_loss, sp.S.Zero, f)
    margin = beta * logp_w / len_w - beta * logp_l / len_l
    ratios = beta * (logp_w - ref_w) - beta * (logp_l - ref_l)
    return [
        Equal("SimPO's excess over the entropy of the labels", per_token - entropy, two_coins(d, margin)),
        Equal("DPO's excess", against - entropy, two_coins(d, ratios)),
        Equal("the excess is 0 at f = d", two_coins(d, f), sp.S.Zero, {f: d}),
        Positive("the population loss is strictly convex in f", sp.diff(population, f, 2)),
        Iff(
            "the slope of the population loss in f is 0",
            sp.diff(population, f),
            sp.S.Zero,
            1 / ((1 + sp.exp(f)) * (1 + sp.exp(d))),
            (sp.exp(f) - sp.exp(d),),
            {d: 1, f: 2},
        ),
        Argued(
            "so the loss lies above its tangent at f = d, which is flat, and touches it nowhere else",
            by="tangent",
            uses=("the population loss is strictly convex", "the slope of", "the excess is 0"),
        ),
    ]


@claim(
    "consistent-on-plackett-luce",
    "On Plackett-Luce rankings of three responses the true rewards are stationary for the population ranking loss, and "
    "nothing but a common shift leaves its value.",
    latex=r"\sum_\rho P_r(\rho)\,\nabla_s \ell(\rho; s)\Big|_{s = r} = 0",
    hypotheses="rankings come with their Plackett-Luce probabilities under rewards r",
    source="THEORY 2.8, offline reading",
    scope="three responses; SimPO-PL and DPO-PL by their implicit rewards s",
    depends_on=("plackett-luce-convex", "simpo-plackett-luce"),
)
def consistent_on_plackett_luce() -> list[Step]:
    scores, weights = reals("s", 3), positives("w", 3)
    true = dict(zip(scores, map(sp.log, weights), strict=True))
    slope: sp.Expr = sp.S.Zero
    x = sp.Symbol("x", real=True)
    direction = reals("v", 3)
    for order in itertools.permutations(range(3)):
        loss = trace(ranking_loss, [scores[i] for i in order])
        chance = sp.exp(-trace(ranking_loss, [sp.log(weights[i]) for i in order]))
        slope += chance * sp.diff(loss, scores[0]).subs(true)
    first = trace(ranking_loss, [sp.log(w) + x * v for w, v in zip(weights, direction, strict=True)], top=1)
    total = sum(weights)
    curvature = sp.diff(first, x, 2).subs(x, 0)
    pairs = itertools.combinations(range(3), 2)
    squares = sum(weights[i] * weights[j] * (direction[i] - direction[j]) ** 2 for i, j in pairs) / total**2
    return [
        Equal("the slope by one score, six rankings", slope, sp.S.Zero),
        Equal("the first place's curvature in direction v", curvature, squares),
        Argued(
            "the other places add curvature >= 0, so it is 0 only for equal v: the minimum is the truth, up to a shift",
            by="convex sums",
            uses=("the first place's curvature", "plackett-luce-convex"),
        ),
    ]


@claim(
    "margin-on-bradley-terry",
    "On plain Bradley-Terry data a margin gamma > 0 inflates every reward difference that is not 0: small ones by the factor "
    "(1 + e^gamma)/2, large ones by nearly gamma.",
    latex=r"t^2 + \theta t = e^d(1 + \theta t),\quad \theta = e^\gamma,\ t = e^{\hat d};\qquad \gamma = d = 1:\ 1.64 < \hat d < 1.65",
    hypotheses="w beats l with probability sigma(d), no ties; population fit of one difference",
    source="THEORY 2.6, the cost where ties do not occur",
    scope="any pair of responses",
    expected="iff",
    depends_on=("consistent-on-bradley-terry",),
)
def margin_on_bradley_terry() -> list[Step]:
    truth, above, excess = sp.symbols("E tau omega", positive=True)  # e^d; theta = 1 + tau, e^d = 1 + omega
    population = sigmoid(d) * trace(pair_loss, f, sp.S.Zero, gamma=gamma)
    population += sigmoid(-d) * trace(pair_loss, sp.S.Zero, f, gamma=gamma)
    slope = sp.diff(population, f)
    quadratic = t**2 + theta * t - truth * (1 + theta * t)
    spelled = quadratic.subs({t: sp.exp(f), theta: sp.exp(gamma), truth: sp.exp(d)})
    bottom = (sp.exp(f) + sp.exp(gamma)) * (1 + sp.exp(gamma + f)) * (1 + sp.exp(d))
    fits = t * (t + theta) / (1 + theta * t)  # the e^d that is fitted as t
    one = {theta: sp.E}
    return [
        Iff(
            "the slope of the population loss is 0",
            slope,
            sp.S.Zero,
            sp.exp(gamma) / bottom,
            (spelled,),
            {d: 1, f: 1, gamma: 1},
        ),
        Equal("the truth that is fitted as t", quadratic, sp.S.Zero, {truth: fits}),
        Positive("it increases with t, so each truth has one fit", sp.diff(fits, t)),
        Equal("no difference is fitted as none", fits, sp.S.One, {t: sp.S.One}),
        Positive("any other is inflated: t > e^d for t > 1", (t - fits).subs({t: 1 + excess, theta: 1 + above})),
        Positive("but by less than gamma", (fits - t / theta).subs(theta, 1 + above)),
        Equal("near 0: d f / d d = (1 + theta)/2", 1 / sp.diff(fits, t), (1 + theta) / 2, {t: sp.S.One}),
        Equal("a difference below 0 likewise: the fit of -d is minus that of d", fits.subs(t, 1 / t), 1 / fits),
        Equal("far out: e^(gamma + d) / t - 1", theta * fits / t - 1, (theta**2 - 1) / (1 + theta * t)),
        TendsTo("it lies below (theta^2 - 1) / (theta t) -> 0", (theta**2 - 1) / (theta * t), t, sp.oo, sp.S.Zero),
        Positive("gamma = d = 1: 1.65 is too much", fits.subs(one).subs(t, sp.exp(sp.Rational(165, 100))) - sp.E),
        Positive("and 1.64 too little", sp.E - fits.subs(one).subs(t, sp.exp(sp.Rational(164, 100)))),
    ]  # fmt: skip
