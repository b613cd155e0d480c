"""Steps on the code of losses and estimators, for claims that tests make up."""

import sympy as sp

from derivations.objectives import dpo, kl_k1, kl_k3, pair_loss, rloo_advantage, simpo
from derivations.preferences import plackett_luce, rao_kupper_tie
from derivations.proofs.symbols import (
    alpha,
    beta,
    by_logit,
    gamma,
    len_l,
    len_w,
    logp_l,
    logp_w,
    mean,
    normalized,
    p,
    positives,
    q,
    r_l,
    r_w,
    reals,
    ref_l,
    ref_w,
    sigmoid,
    u,
    v,
)
from derivations.prover.kinds import Equal, Positive, TendsTo
from derivations.prover.tracing import trace, traced_array

x, y, t = sp.symbols("x y t", positive=True)
a, d = sp.symbols("a d", real=True)
theta = sp.exp(gamma)
ZERO, ONE = sp.S.Zero, sp.S.One
MARGIN = beta * logp_w / len_w - beta * logp_l / len_l


def simpo_loss(chosen=logp_w, rejected=logp_l, lengths=(len_w, len_l), **options):
    pair = {"chosen_length": lengths[0], "rejected_length": lengths[1], "beta": beta, **options}
    return trace(simpo, chosen, rejected, **pair)


def code():
    return Equal("the code", simpo_loss(), -sp.log(sigmoid(MARGIN)))


def dpo_loss(**options):
    named = {"ref_chosen_logp": ref_w, "ref_rejected_logp": ref_l, "beta": beta, **options}
    return trace(dpo, logp_w, logp_l, **named)


def dpo_code():
    return Equal("the code", dpo_loss(), -sp.log(sigmoid(beta * (logp_w - ref_w) - beta * (logp_l - ref_l))))


def dpo_per_token():
    """SimPO's loss at equal lengths."""
    per_token = dpo_loss(beta=beta / len_w, ref_rejected_logp=ref_w)
    return [code(), Equal("the same", simpo_loss(), per_token, {len_l: len_w})]


def bounded_slope():
    return [dpo_code(), Positive("at least -3 beta", 3 * beta + sp.diff(dpo_loss(), logp_w))]


def tie():
    return sp.exp(trace(rao_kupper_tie, sp.log(u), sp.log(v), gamma=gamma))


def tie_code():
    return Equal("the code", tie(), (theta**2 - 1) * u * v / ((u + theta * v) * (theta * u + v)))


def reward_less_kl():
    weights, refs = positives("w", 2), normalized(positives("q", 2))
    policy = normalized(weights)
    terms = zip(policy, (r_w, r_l), refs, strict=True)
    value = sum(pi * r - alpha * pi * sp.log(pi / ref) for pi, r, ref in terms)
    softmax = {w: ref * sp.exp(r / alpha) for w, r, ref in zip(weights, (r_w, r_l), refs, strict=True)}
    return [Equal("stationary at the softmax", by_logit(value, weights[0]), ZERO, softmax)]


def mean_slope(estimator):
    """The mean of the slopes of an estimator of KL, against the slope of KL, or 0."""
    weights, refs = positives("w", 2), normalized(positives("q", 2))
    policy = normalized(weights)
    slopes = [
        by_logit(trace(estimator, sp.log(pi), sp.log(ref)), weights[0]) for pi, ref in zip(policy, refs, strict=True)
    ]
    kl = sum(pi * sp.log(pi / ref) for pi, ref in zip(policy, refs, strict=True))
    return [Equal("mean of the slopes", mean(policy, slopes), by_logit(kl, weights[0]))]


def against_k1():
    k1, k3 = trace(kl_k1, sp.log(p), sp.log(q)), trace(kl_k3, sp.log(p), sp.log(q))
    return [Equal("k3 - k1", k3 - k1, q / p - 1), Positive("q/p > 0", k3 - k1 + 1)]


def two_in_a_ranking():
    one, two = reals("s", 2)
    backward = sp.exp(trace(plackett_luce, [-one, -two]))
    return [Equal("negated, from the last on", backward, sp.exp(trace(plackett_luce, [two, one])))]


def both_orders():
    both = sp.exp(trace(pair_loss, r_w, r_l) + trace(pair_loss, r_l, r_w))
    return [Equal("both orders", both, 2 + sp.exp(r_w - r_l) + sp.exp(r_l - r_w))]


def square_of_both():
    square = (x * y) ** 2
    return [Positive("in x", sp.diff(square, x, 2)), Positive("in y", sp.diff(square, y, 2))]


def slopes_at_zero():
    even = {logp_l: logp_w, len_l: len_w}
    return [
        code(),
        dpo_code(),
        Equal("of SimPO", sp.diff(simpo_loss(), logp_w), -beta / len_w / 2, even),
        Equal("of DPO", sp.diff(dpo_loss(), logp_w), -beta / 2, {logp_l: logp_w, ref_l: ref_w}),
    ]


def longer():
    short, long = (sp.exp(simpo_loss(x, -x, (sp.Integer(n), ONE))) for n in (1, 2))
    return [code(), Positive("length 1 against 2, equal lengths or not", long - short)]


def quotient():
    return [TendsTo("the limit", y / x, x, ZERO, sp.oo), Equal("product", x * (y / x), y)]


def bounded(*more):
    return [Positive("x / (1 + x) is at most 1", 1 - x / (1 + x)), *more]


def leave_one_out():
    first, second = traced_array(rloo_advantage, reals("r", 2)).values
    return [
        Equal("the sum of two", first + second, ZERO),
        Equal("one", first, sp.Symbol("r_1", real=True) - sp.Symbol("r_2", real=True)),
    ]


def greedy(place):
    return [code(), TendsTo("greedy", 1 / (1 + sp.exp(-1 / alpha)), alpha, place, ONE)]


def behind(**lengths):
    case = sp.exp(simpo_loss(logp_w, logp_w + x, **lengths))
    return [code(), Positive("the loss exceeds log 2: e^loss - 2", case - 2)]


def mixed():
    log_sum = sp.log(sp.exp(a) + sp.exp(d))
    slope = sp.diff(log_sum, a)
    share = 1 / (1 + sp.exp(d - a))
    return [
        Equal("mixed", sp.diff(slope, d), -share * (1 - share)),
        Positive("log-sum-exp is convex in one", sp.diff(log_sum, a, 2)),
    ]
