"""Sentences that say more than their steps by one word: a number, a range, "tight", "by default", "as alpha grows".

Each is refused by one rule of `prover.properties`, `prover.extent`, `prover.directions`, `prover.sentences` or
`prover.mutants`; what is honest in the same form passes.
"""

import pytest
import sympy as sp

from derivations.objectives import kl_k2, pair_loss, ranking_loss
from derivations.proofs.symbols import (
    alpha,
    beta,
    gamma,
    len_l,
    len_w,
    logp_l,
    logp_w,
    r_l,
    r_w,
    ref_l,
    ref_w,
    rest,
    sigmoid,
)
from derivations.prover.kinds import Argued, Differs, Equal, Positive, TendsTo
from derivations.prover.tracing import trace
from tests.helpers.planted_claim import verdict
from tests.helpers.steps_of_claims import (
    MARGIN,
    ONE,
    ZERO,
    against_k1,
    behind,
    both_orders,
    bounded,
    bounded_slope,
    code,
    d,
    dpo_code,
    dpo_loss,
    greedy,
    leave_one_out,
    longer,
    mean_slope,
    mixed,
    quotient,
    reward_less_kl,
    simpo_loss,
    slopes_at_zero,
    square_of_both,
    t,
    tie,
    tie_code,
    two_in_a_ranking,
    x,
    y,
)

# what -> (steps, sentence, why it is refused)
REFUSED = {
    "a case of the scores": (
        lambda: behind(lengths=(len_w, len_w)),
        "SimPO's loss exceeds log 2 for all log-probabilities and lengths.",
        "a case that is not said",
    ),
    "a case by substitution": (
        lambda: [
            code(),
            Positive("it exceeds log 2", sp.exp(simpo_loss().subs({len_l: len_w, logp_l: logp_w + x})) - 2),
        ],
        "SimPO's loss exceeds log 2 whatever the lengths.",
        "was replaced by logp_w + x, a case that is not said",
    ),
    "one length for both": (
        lambda: [
            code(),
            Equal("SimPO", simpo_loss(lengths=(len_w, len_w)), -sp.log(sigmoid(beta * (logp_w - logp_l) / len_w))),
        ],
        "SimPO's loss is that of the average of all log-probs.",
        "one length for both",
    ),
    "at most, and something else decided": (
        against_k1,
        "k3 is at most k1.",
        "compares downwards, and no step that is no equation says in words that it does",
    ),
    "a bound that is never reached": (
        lambda: [Positive("x is at most 3x", 2 * x), code()],
        "x is at most 3x, and SimPO's bound is tight.",
        "it says 'tight'",
    ),
    "a margin of 0 with the others": (
        lambda: [tie_code(), Positive("tie", tie().subs(gamma, sp.log(1 + x)))],
        "Rao-Kupper's tie has a positive probability for gamma >= 0.",
        "it says 'gamma >= 0', and the steps take gamma > 0",
    ),
    "a positive for a real one": (
        lambda: [tie_code()],
        "Rao-Kupper's tie has its closed form for every real gamma.",
        "it says 'real gamma'",
    ),
    "a nonnegative for a positive one": (
        lambda: [tie_code()],
        "Rao-Kupper's tie has its closed form for a margin that is not negative.",
        "it says 'margin that is not negative', and the steps take gamma > 0",
    ),
    "a condition that is not said": (
        lambda: [dpo_code(), Equal("log 2", dpo_loss(), sp.log(2), {logp_w: ref_w, logp_l: ref_l})],
        "DPO's loss is log 2.",
        "decided under a condition, and neither the claim nor the step names one",
    ),
    "equal lengths that are not said": (
        lambda: [
            code(),
            Equal("the same", simpo_loss(), dpo_loss(beta=beta / len_w, ref_rejected_logp=ref_w), {len_l: len_w}),
        ],
        "SimPO's loss is DPO's with strength beta per token.",
        "decided where two things are equal, and neither the claim nor it says so",
    ),
    "a bound below which nobody looked": (
        bounded_slope,
        "DPO's slope is at least -3 beta, and no smaller bound holds.",
        "it says 'no smaller bound'",
    ),
    "3 for a third": (
        bounded_slope,
        "DPO's slope is at least -1/3 of beta.",
        "it says '1/3', a fraction that no step has",
    ),
    "one side for both": (
        quotient,
        "y/x tends to infinity as x tends to 0, from either side.",
        "a limit is from above",
    ),
    "two values for a motion": (
        longer,
        "SimPO's loss increases with the length of chosen.",
        "it says 'increases', and no step decides",
    ),
    "a stationary point for a maximum": (
        reward_less_kl,
        "At the softmax policy the reward less alpha KL is largest.",
        "which a vanishing slope does not",
    ),
    "a stationary point for a minimizer": (
        lambda: [code(), dpo_code()],
        "SimPO and DPO have the same minimizer.",
        "which a vanishing slope does not",
    ),
    "slopes for values": (
        lambda: mean_slope(kl_k2),
        "k2 estimates KL without bias, in the mean.",
        "a constant more in objectives.kl_k2",
    ),
    "two responses for a ranking": (
        two_in_a_ranking,
        "Plackett-Luce reverses a ranking where the scores are negated.",
        "traced with 2 rewards",
    ),
    "a default that is given": (
        lambda: [Equal("a margin of 1", simpo_loss(gamma=ONE), -sp.log(sigmoid(MARGIN - 1)))],
        "Called without a margin, SimPO takes gamma = 1.",
        "so no default was looked at",
    ),
    "nats for bits": (
        lambda: [Equal("equal scores", dpo_loss(), sp.log(2), {logp_w: logp_l, ref_w: ref_l})],
        "At equal scores DPO's loss is log 2 bits.",
        "units nats",
    ),
    "a sum for a swap": (
        both_orders,
        "Swapping chosen and rejected leaves the pair loss as it is.",
        "it says 'Swapping'",
    ),
    "a number of nobody's": (
        slopes_at_zero,
        "At equal scores SimPO's slope is DPO's over four times the length.",
        "it says 'four', a number that no step has",
    ),
    "a number in a fraction": (slopes_at_zero, "At equal scores SimPO's slope is beta/7.", "it says '7'"),
    "convex in each for convex in all": (
        square_of_both,
        "(x y)^2 is convex in the pair.",
        "no mixed derivative was taken",
    ),
    "convex in the scores by one of them": (
        lambda: [code(), Positive("convex", sp.diff(trace(pair_loss, d, ZERO), d, 2))],
        "SimPO's loss is convex in the log-probs.",
        "no mixed derivative was taken",
    ),
    "a variance that nobody has": (
        leave_one_out,
        "The leave-one-out advantage of two samples has less variance.",
        "which formula is the variance",
    ),
    "a constant that nobody has": (
        lambda: [dpo_code(), Positive("its slope falls", -sp.diff(dpo_loss(), logp_w))],
        "DPO's slope is Lipschitz.",
        "Lipschitz constant",
    ),
    "a rate that nobody has": (
        lambda: [TendsTo("forgotten", sp.exp(-alpha * t), t, sp.oo, ZERO), code()],
        "SimPO forgets polynomially.",
        "at which rate",
    ),
    "the other end": (
        lambda: greedy(ZERO),
        "As alpha grows SimPO's policy becomes greedy.",
        "it says that alpha grows, and the limit is taken at 0",
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_word_that_the_steps_do_not_give_is_refused(words, monkeypatch):
    steps, title, reason = REFUSED[words]
    result = verdict(steps, monkeypatch, title=title, scope="as it is")
    assert result.verdict == "failed"
    assert any(reason in problem for problem in result.problems), result.problems


# what is honest in the same form
HONEST = {
    "a case that is said": (
        lambda: behind(lengths=(len_w, len_w)),
        "With one length SimPO's loss exceeds log 2 where rejected is ahead.",
    ),
    "equal lengths that are said": (
        lambda: [
            code(),
            Equal("the same", simpo_loss(), dpo_loss(beta=beta / len_w, ref_rejected_logp=ref_w), {len_l: len_w}),
        ],
        "At equal lengths SimPO's loss is DPO's with strength beta per token.",
    ),
    "a bound that is reached at the end": (
        lambda: bounded(TendsTo("and the gap tends to 0", 1 - x / (1 + x), x, sp.oo, ZERO)),
        "x/(1 + x) is at most 1, which is tight.",
    ),
    "gamma > 0": (lambda: [tie_code()], "Rao-Kupper's tie has its closed form for gamma > 0."),
    "both sides": (
        lambda: [
            TendsTo("from above", x * sp.exp(x), x, ZERO, ZERO),
            TendsTo("from below", -x * sp.exp(-x), x, ZERO, ZERO),
            Equal("x", x * (1 + y), x + x * y),
        ],
        "x e^x tends to 0 from both sides.",
    ),
    "a motion": (
        lambda: [dpo_code(), Positive("its slope is below 0", -sp.diff(dpo_loss(), logp_w))],
        "DPO's loss falls with log pi(w).",
    ),
    "a motion that is possible": (longer, "With the lengths 1 and 2 SimPO's loss can rise."),
    "slopes for slopes": (lambda: mean_slope(kl_k2), "The gradient of k2 is unbiased for that of KL."),
    "two responses for two": (
        two_in_a_ranking,
        "Plackett-Luce reverses a ranking of two responses where the scores are negated.",
    ),
    "any number": (
        lambda: [
            Equal("two", trace(ranking_loss, [r_w, r_l]), sp.log(1 + sp.exp(r_l - r_w))),
            Equal("shares", x / (x + rest) + rest / (x + rest), ONE, every=(rest,)),
        ],
        "The ranking loss is a sum of logarithms.",
    ),
    "a default": (lambda: [code()], "By default SimPO has no margin."),
    "a swap": (
        lambda: [
            Equal("shares", sp.exp(-trace(pair_loss, r_w, r_l)), 1 / (1 + sp.exp(r_l - r_w))),
            Differs("exchanged, it is another", sp.exp(r_w - r_l), sp.exp(r_l - r_w), {r_w: ONE, r_l: ZERO}),
        ],
        "Swapping chosen and rejected changes the pair loss.",
    ),
    "numbers of its own": (
        slopes_at_zero,
        "At equal scores DPO's slope is half of beta, and SimPO's too, over the length.",
    ),
    "convex in both": (mixed, "log-sum-exp is convex in both."),
    "convex by a sum": (
        lambda: [
            Equal("the code", trace(pair_loss, d, ZERO), sp.log(1 + sp.exp(-d))),
            Positive("convex", sp.diff(trace(pair_loss, d, ZERO), d, 2)),
            Argued("so it is convex in all log-probs", by="convex sums", uses=("convex",)),
        ],
        "The pair loss is convex in the scores.",
    ),
    "the end that is said": (
        lambda: [*greedy(sp.oo)[:1], TendsTo("even", 1 / (1 + sp.exp(-1 / alpha)), alpha, sp.oo, ONE / 2)],
        "As alpha grows SimPO's policy becomes even.",
    ),
}


@pytest.mark.parametrize("words", HONEST)
def test_what_is_honest_in_the_same_form_passes(words, monkeypatch):
    steps, title = HONEST[words]
    result = verdict(steps, monkeypatch, title=title, scope="as it is")
    assert result.problems == []
