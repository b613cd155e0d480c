"""THEORY 2.4, 2.5, 2.7: where the paper's route to SimPO breaks, when it holds, and two repairs."""

import sympy as sp

from derivations.objectives import pair_loss, simpo
from derivations.preferences import bradley_terry
from derivations.proofs.symbols import (
    beta,
    gamma,
    len_l,
    len_w,
    length,
    logp_l,
    logp_w,
    r_l,
    r_w,
    ref_l,
    ref_w,
    shift,
    sigmoid,
    u,
    v,
)
from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, Differs, Equal, Iff, Positive, Step, TendsTo
from derivations.prover.symbolic import SymArray
from derivations.prover.tracing import trace
from derivations.regularizers import KL, LengthNormalized, LengthNormalizedShannon


def generalized() -> LengthNormalized:
    return LengthNormalized(SymArray(beta))


def simpo_loss(margin: sp.Expr = gamma) -> sp.Expr:
    """The traced SimPO loss of one pair."""
    return trace(simpo, logp_w, logp_l, chosen_length=len_w, rejected_length=len_l, beta=beta, gamma=margin)


@claim(
    "length-normalized-temperature",
    "Replacing alpha by beta/|y| in the Bradley-Terry form of MaxEnt, after Z has cancelled, gives SimPO.",
    latex=r"r_w - r_l - \Big[\tfrac{\beta}{|w|}\log\pi(w) - \tfrac{\beta}{|l|}\log\pi(l)\Big]"
    r" = \Big(\tfrac{\beta}{|w|} - \tfrac{\beta}{|l|}\Big)\log Z",
    hypotheses="pi(y) = exp(|y| r(y) / beta) / Z, Z = sum_y exp(|y| r(y) / beta) finite; u = e^(r_w), v = e^(r_l)",
    source="THEORY 2.4; arXiv:2509.20265, abstract of version 1: 'Simple Preference Optimization (SimPO) can be derived as "
    "Maximum Entropy Reinforcement Learning with length-normalized temperature'; that of version 2 ends at 'Learning'",
    scope="any countable Y with finite Z: `rest` is the part of Z that w and l do not give, 0 for two responses",
    expected="refuted",
)
def length_normalized_temperature() -> list[Step]:
    z, others = sp.Symbol("Z", positive=True), sp.Symbol("rest", nonnegative=True)
    log_w, log_l = len_w * sp.log(u) / beta - sp.log(z), len_l * sp.log(v) / beta - sp.log(z)
    margin = trace(generalized().implicit_reward, log_w, length=len_w) - trace(
        generalized().implicit_reward, log_l, length=len_l
    )
    residual = (sp.log(u) - sp.log(v)) - margin
    weights = u ** (len_w / beta) + v ** (len_l / beta) + others
    at = {u: 3, v: 1, len_w: 1, len_l: 2, beta: 1, others: 0}
    return [
        Equal("the true P(w > l)", sp.exp(trace(bradley_terry, sp.log(u), sp.log(v))), u / (u + v)),
        Equal("the exact residual", residual, (beta / len_w - beta / len_l) * sp.log(z)),
        Iff(
            "the reward difference, true and substituted: the Bradley-Terry form of MaxEnt is SimPO",
            sp.log(u) - sp.log(v),
            margin,
            beta / (len_w * len_l),
            (len_l - len_w, sp.log(z)),
            at,
            where={z: weights},
        ),
        Differs(
            "counterexample Y = {w, l}, |w| = 1, |l| = 2, beta = 1, r = (log 3, 0), so Z = 4: the true P(w > l) "
            "against what the substituted form says",
            sp.exp(trace(bradley_terry, sp.log(u), sp.log(v))),
            sigmoid(margin.subs(z, weights)),
            at,
        ),
    ]


@claim(
    "normalizing-by-shift",
    "Asking for Z = 1 fixes the shift: each class r + c has exactly one member with Z = 1, and its policy is the generalized optimum.",
    latex=r"Z(c) = \sum_y e^{|y|(r(y)+c)/\beta} \text{ increases strictly from } 0 \text{ to } \infty",
    hypotheses="Y finite",
    source="THEORY 2.4, last remark",
    scope="finite Y; Z(c) decided for two responses of any lengths, more by the argument",
    depends_on=("length-normalized-temperature", "implicit-reward-length-normalized"),
)
def normalizing_by_shift() -> list[Step]:
    total = sp.exp(len_w * (r_w + shift) / beta) + sp.exp(len_l * (r_l + shift) / beta)
    share = sp.exp(len_w * r_w / beta) / total.subs(shift, 0)
    share_shifted = sp.exp(len_w * (r_w + shift) / beta) / total
    return [
        Positive("dZ/dc > 0", sp.diff(total, shift)),
        TendsTo("Z -> 0 for c -> -oo", total, shift, -sp.oo, sp.S.Zero),
        TendsTo("Z -> oo for c -> oo", total, shift, sp.oo, sp.oo),
        Argued(
            "each summand runs through (0, oo) strictly increasing and continuous, so a finite sum hits 1 exactly once",
            by="intermediate value",
            uses=("dZ/dc > 0", "Z -> 0", "Z -> oo"),
        ),
        Equal(
            "where Z = 1, log pi = |y| (r + c) / beta, so the generalized form's s is r + c: its optimum, lambda = -c",
            trace(generalized().phi_prime, length * (r_w + shift) / beta, length=length),
            r_w + shift,
        ),
        Differs(
            "exp(|y| r / beta) / Z is not shift-invariant: r = 0, |y| = (1, 2), c = 1 moves it",
            share,
            share_shifted,
            {r_w: sp.S.Zero, r_l: sp.S.Zero, len_w: sp.S.One, len_l: sp.Integer(2), beta: sp.S.One, shift: sp.S.One},
        ),
    ]


@claim(
    "repair-shannon",
    "Temperature beta/|y| inside Shannon's entropy gives SimPO's margin plus the fixed offset beta (1/|w| - 1/|l|).",
    latex=r"s_w - s_l = \tfrac{\beta}{|w|}\log\pi(w) - \tfrac{\beta}{|l|}\log\pi(l) + \beta\Big(\tfrac1{|w|}-\tfrac1{|l|}\Big)",
    source="THEORY 2.5a",
    scope="finite Y (master theorem)",
    depends_on=("master-theorem", "implicit-reward-length-normalized-shannon"),
)
def repair_shannon() -> list[Step]:
    shannon = LengthNormalizedShannon(SymArray(beta))
    s_w = trace(shannon.phi_prime, logp_w, length=len_w)
    s_l = trace(shannon.phi_prime, logp_l, length=len_l)
    offset = beta * (1 / len_w - 1 / len_l)
    return [
        Equal("the margin", s_w - s_l, beta / len_w * logp_w - beta / len_l * logp_l + offset),
        Equal("as a loss: SimPO with the margin shifted", trace(pair_loss, s_w, s_l), simpo_loss(-offset)),
    ]


@claim(
    "repair-generalized",
    "SimPO's loss with gamma = 0 is the Bradley-Terry likelihood of the reward for which the policy is optimal under the "
    "length-weighted generalized entropy, exactly.",
    latex=r"-\log P_{BT}(w \succ l \mid r = s) = -\log\sigma\Big(\tfrac{\beta}{|w|}\log\pi(w) - \tfrac{\beta}{|l|}\log\pi(l)\Big)",
    source="THEORY 2.5b",
    scope="finite Y (master theorem); no partition function appears",
    depends_on=("master-theorem", "implicit-reward-length-normalized", "multiplier-cancels"),
)
def repair_generalized() -> list[Step]:
    s_w = trace(generalized().phi_prime, logp_w, length=len_w)
    s_l = trace(generalized().phi_prime, logp_l, length=len_l)
    return [
        Equal(
            "rewards s + lambda under Bradley-Terry are the SimPO loss",
            trace(pair_loss, s_w + shift, s_l + shift),
            simpo_loss(sp.S.Zero),
        ),
        Equal(
            "SimPO's loss at gamma = 0, by hand",
            simpo_loss(sp.S.Zero),
            -sp.log(sigmoid(beta * logp_w / len_w - beta * logp_l / len_l)),
        ),
    ]


@claim(
    "simpo-objective",
    "SimPO's loss is -log of Rao and Kupper's probability of a win under the length-normalized implicit reward, gamma in reward units.",
    latex=r"\ell = -\log\sigma\Big(\tfrac{\beta}{|w|}\log\pi(w) - \tfrac{\beta}{|l|}\log\pi(l) - \gamma\Big)",
    source="THEORY 2.7; arXiv:2405.14734, eq. 6",
    scope="finite Y",
    depends_on=("repair-generalized", "margin-rao-kupper"),
)
def simpo_objective() -> list[Step]:
    by_hand = -sp.log(sigmoid(beta * logp_w / len_w - beta * logp_l / len_l - gamma))
    s_w = trace(generalized().phi_prime, logp_w, length=len_w)
    s_l = trace(generalized().phi_prime, logp_l, length=len_l)
    return [
        Equal("the code is the published formula", simpo_loss(), by_hand),
        Equal("and the Rao-Kupper term of s", trace(pair_loss, s_w, s_l, gamma=gamma), simpo_loss()),
        Equal(
            "equal scores: -log sigma(-gamma)",
            simpo_loss(),
            sp.log(1 + sp.exp(gamma)),
            {logp_l: logp_w, len_l: len_w},
        ),
    ]


@claim(
    "simpo-equal-lengths-is-dpo",
    "For a pair of one length SimPO's loss is DPO's with equal reference probabilities and strength beta/|y|, and the offset gamma.",
    latex=r"\ell_{\mathrm{SimPO}}(\beta, \gamma, |w| = |l|) = -\log\sigma(d_{\mathrm{DPO}}(\beta/|y|,\ q\ \text{uniform}) - \gamma)",
    source="THEORY 2.9, first half",
    scope="finite Y: a pair at a time",
    depends_on=("simpo-objective", "dpo-objective"),
)
def simpo_equal_lengths_is_dpo() -> list[Step]:
    kl = KL(SymArray(beta / len_w))
    s_w = trace(kl.implicit_reward, logp_w, ref_logp=ref_w)
    s_l = trace(kl.implicit_reward, logp_l, ref_logp=ref_w)  # a uniform reference: the same log q for both
    return [
        Equal("gamma = 0: the very DPO loss", trace(pair_loss, s_w, s_l), simpo_loss(sp.S.Zero), {len_l: len_w}),
        Equal("any gamma", trace(pair_loss, s_w, s_l, gamma=gamma), simpo_loss(), {len_l: len_w}),
    ]


@claim(
    "simpo-is-not-dpo",
    "With unequal lengths SimPO is not DPO, for any reference policy and any strength.",
    latex=r"\pi \to \tfrac12\pi \text{ on } \{w, l\}:\quad \Delta d_{\mathrm{DPO}} = 0,\quad "
    r"\Delta d_{\mathrm{SimPO}} = \beta\log 2\,\big(\tfrac1{|l|} - \tfrac1{|w|}\big)",
    hypotheses="at least three responses, so that the probabilities of w and l can shrink together",
    source="THEORY 2.9, second half",
    scope="any Y with a pair of unequal lengths; exact counterexample",
    depends_on=("simpo-objective", "dpo-objective"),
)
def simpo_is_not_dpo() -> list[Step]:
    drop = sp.Symbol("drop", positive=True)  # both log-probs fall by this much
    kl, per_token = KL(SymArray(beta)), generalized()

    def kl_margin(fall: sp.Expr) -> sp.Expr:
        return trace(kl.implicit_reward, logp_w - fall, ref_logp=ref_w) - trace(
            kl.implicit_reward, logp_l - fall, ref_logp=ref_l
        )

    def token_margin(fall: sp.Expr) -> sp.Expr:
        return trace(per_token.implicit_reward, logp_w - fall, length=len_w) - trace(
            per_token.implicit_reward, logp_l - fall, length=len_l
        )

    zero = sp.S.Zero
    change = token_margin(drop) - token_margin(zero)
    shrink = len_w + sp.Symbol("extra", positive=True, integer=True)  # |l| > |w|
    # |w| = 1, |l| = 2, beta = 2: e^margin = pi(w)^2 / pi(l)
    odds = sp.exp(token_margin(zero)).subs({len_w: 1, len_l: 2, beta: 2})
    odds = odds.subs({logp_w: sp.log(u), logp_l: sp.log(v)})
    halves = {u: u / 2, v: v / 2}
    return [
        Equal("DPO's margin does not see a common fall, whatever the reference", kl_margin(drop), kl_margin(zero)),
        Equal("SimPO's moves by beta drop (1/|l| - 1/|w|)", change, beta * drop * (1 / len_l - 1 / len_w)),
        Positive("which is not 0 for |l| > |w|", -change.subs(len_l, shrink)),
        Differs(
            "for example pi(w), pi(l) = 1/2, 1/4 against 1/4, 1/8 with |w| = 1, |l| = 2, beta = 2: e^margin",
            odds,
            odds.subs(halves, simultaneous=True),
            {u: sp.Rational(1, 2), v: sp.Rational(1, 4)},
        ),
        Argued(
            "a loss of the form f(d_DPO) takes one value on both policies, and SimPO takes two",
            by="no function",
            uses=("DPO's margin does not see", "for example"),
        ),
    ]
