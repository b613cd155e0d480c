"""THEORY 2.4, 2.5, 2.7: where the paper's route to SimPO breaks, when it holds, and two repairs."""

import sympy as sp

from derivations.checks import Argued, Differs, Equal, Positive, Step, TendsTo
from derivations.claims import claim
from derivations.objectives import dpo, pair_loss, simpo
from derivations.proofs.tools import (
    Z,
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
    trace,
)
from derivations.regularizers import LengthNormalized, LengthNormalizedShannon
from derivations.symbolic import SymArray

GENERALIZED, SHANNON = LengthNormalized(SymArray(beta)), LengthNormalizedShannon(SymArray(beta))
LOSS = trace(simpo, logp_w, logp_l, chosen_length=len_w, rejected_length=len_l, beta=beta, gamma=gamma)
LOSS_0 = trace(simpo, logp_w, logp_l, chosen_length=len_w, rejected_length=len_l, beta=beta)


@claim(
    "length-normalized-temperature",
    "Replacing alpha by beta/|y| in the Bradley-Terry form of MaxEnt, after Z has cancelled, gives SimPO.",
    latex=r"r_w - r_l - \Big[\tfrac{\beta}{|w|}\log\pi(w) - \tfrac{\beta}{|l|}\log\pi(l)\Big]"
    r" = \Big(\tfrac{\beta}{|w|} - \tfrac{\beta}{|l|}\Big)\log Z",
    hypotheses="pi(y) = exp(|y| r(y) / beta) / Z, Z = sum_y exp(|y| r(y) / beta) finite",
    source="THEORY 2.4; paper, the step from MaxEnt to SimPO",
    scope="any countable Y with finite Z",
    expected="refuted",
    condition="if and only if |w| = |l| or Z(x) = 1",
)
def length_normalized_temperature() -> list[Step]:
    log_w, log_l = len_w * r_w / beta - sp.log(Z), len_l * r_l / beta - sp.log(Z)
    margin = trace(GENERALIZED.score, log_w, length=len_w) - trace(GENERALIZED.score, log_l, length=len_l)
    residual = (r_w - r_l) - margin
    factored = beta * (len_l - len_w) / (len_w * len_l) * sp.log(Z)
    # Y = {w, l}, |w| = 1, |l| = 2, beta = 1, e^{r_w} = 2, e^{r_l} = 1: weights e^{|y| r / beta} are 2 and 1, Z = 3
    at = {Z: 3, len_w: 1, len_l: 2, beta: 1}
    rewards = {r_w: sp.log(2), r_l: sp.S.Zero}
    return [
        Equal("the exact residual", residual, (beta / len_w - beta / len_l) * sp.log(Z)),
        Equal("the exact residual, factored", residual, factored),
        Equal("counterexample: its Z is 2^1 + 1^2 = 3", sp.exp(sp.log(2)) + sp.exp(2 * sp.S.Zero), sp.Integer(3)),
        Differs(
            "counterexample Y = {w, l}, |w| = 1, |l| = 2, beta = 1, r = (log 2, 0), Z = 3: the true P(w > l) against "
            "what the substituted form says",
            sigmoid(r_w - r_l).subs(rewards),
            sigmoid(margin).subs({**rewards, **at}),
        ),
        Equal("if |w| = |l| it is 0", residual.subs(len_l, len_w), sp.S.Zero),
        Equal("if Z = 1 it is 0", residual.subs(Z, 1), sp.S.Zero),
        Positive("conversely: beta / (|w| |l|) > 0", beta / (len_w * len_l)),
        Positive("and log is strictly increasing", sp.diff(sp.log(Z), Z)),
        Argued("so a zero residual forces |l| - |w| = 0 or log Z = 0, that is Z = 1"),
    ]


@claim(
    "normalizing-by-shift",
    "Z = 1 cannot be had for free: each class r + c has exactly one member with Z = 1, and its policy is the generalized optimum.",
    latex=r"Z(c) = \sum_y e^{|y|(r(y)+c)/\beta} \text{ increases strictly from } 0 \text{ to } \infty",
    hypotheses="Y finite",
    source="THEORY 2.4, last remark",
    scope="finite Y; Z(c) written out for two responses, sum argued",
    depends_on=("length-normalized-temperature", "implicit-reward-length-normalized"),
)
def normalizing_by_shift() -> list[Step]:
    total = sp.exp(len_w * (r_w + shift) / beta) + sp.exp(len_l * (r_l + shift) / beta)
    plain = total.subs({r_w: 0, r_l: 0, len_w: 1, len_l: 2, beta: 1})
    share = sp.exp(len_w * r_w / beta) / total.subs(shift, 0)
    share_shifted = sp.exp(len_w * (r_w + shift) / beta) / total
    return [
        Positive("dZ/dc > 0", sp.diff(total, shift)),
        TendsTo("Z -> 0 for c -> -oo (shown for r = 0, |y| = 1, 2)", plain, shift, -sp.oo, sp.S.Zero),
        TendsTo("Z -> oo for c -> oo (likewise)", plain, shift, sp.oo, sp.oo),
        Argued(
            "each summand runs through (0, oo) strictly increasing and continuous, so a finite sum hits 1 exactly once"
        ),
        Equal(
            "where Z = 1, log pi = |y| (r + c) / beta, so the generalized form's s is r + c: its optimum, lambda = -c",
            trace(GENERALIZED.implicit_reward, length * (r_w + shift) / beta, length=length),
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
    s_w = trace(SHANNON.implicit_reward, logp_w, length=len_w)
    s_l = trace(SHANNON.implicit_reward, logp_l, length=len_l)
    offset = beta * (1 / len_w - 1 / len_l)
    return [
        Equal("the margin", s_w - s_l, beta / len_w * logp_w - beta / len_l * logp_l + offset),
        Equal("as a loss: SimPO with the margin shifted", trace(pair_loss, s_w, s_l), LOSS.subs(gamma, -offset)),
    ]


@claim(
    "repair-generalized",
    "The length-weighted generalized entropy gives SimPO with gamma = 0 exactly: SimPO is an entropy-regularized optimum.",
    latex=r"-\log P_{BT}(w \succ l \mid r = s) = -\log\sigma\Big(\tfrac{\beta}{|w|}\log\pi(w) - \tfrac{\beta}{|l|}\log\pi(l)\Big)",
    source="THEORY 2.5b",
    scope="finite Y (master theorem); no partition function appears",
    depends_on=("master-theorem", "implicit-reward-length-normalized", "multiplier-cancels"),
)
def repair_generalized() -> list[Step]:
    s_w = trace(GENERALIZED.implicit_reward, logp_w, length=len_w)
    s_l = trace(GENERALIZED.implicit_reward, logp_l, length=len_l)
    return [
        Equal(
            "rewards s + lambda under Bradley-Terry are the SimPO loss",
            trace(pair_loss, s_w + shift, s_l + shift),
            LOSS_0,
        ),
        Equal(
            "SimPO's loss at gamma = 0, by hand",
            LOSS_0,
            -sp.log(sigmoid(beta * logp_w / len_w - beta * logp_l / len_l)),
        ),
    ]


@claim(
    "simpo-objective",
    "SimPO is the decisive Rao-Kupper term under the length-normalized implicit reward, with gamma in reward units.",
    latex=r"\ell = -\log\sigma\Big(\tfrac{\beta}{|w|}\log\pi(w) - \tfrac{\beta}{|l|}\log\pi(l) - \gamma\Big)",
    source="THEORY 2.7; arXiv:2405.14734, eq. 6",
    scope="finite Y",
    depends_on=("repair-generalized", "margin-rao-kupper"),
)
def simpo_objective() -> list[Step]:
    by_hand = -sp.log(sigmoid(beta * logp_w / len_w - beta * logp_l / len_l - gamma))
    s_w = trace(GENERALIZED.implicit_reward, logp_w, length=len_w)
    s_l = trace(GENERALIZED.implicit_reward, logp_l, length=len_l)
    return [
        Equal("the code is the published formula", LOSS, by_hand),
        Equal("and the Rao-Kupper term of s", trace(pair_loss, s_w, s_l, gamma=gamma), LOSS),
        Equal("equal scores: -log sigma(-gamma)", LOSS.subs({logp_l: logp_w, len_l: len_w}), sp.log(1 + sp.exp(gamma))),
    ]


@claim(
    "dpo-objective",
    "DPO is Bradley-Terry under the implicit reward of KL; at the reference its loss is log 2.",
    latex=r"\ell = -\log\sigma\Big(\beta\log\tfrac{\pi(w)}{q(w)} - \beta\log\tfrac{\pi(l)}{q(l)}\Big)",
    source="THEORY 1, table; arXiv:2305.18290, eq. 7",
    scope="finite Y",
    depends_on=("master-theorem", "implicit-reward-kl", "multiplier-cancels"),
)
def dpo_objective() -> list[Step]:
    loss = trace(dpo, logp_w, logp_l, ref_chosen_logp=ref_w, ref_rejected_logp=ref_l, beta=beta)
    return [
        Equal(
            "the code is the published formula",
            loss,
            -sp.log(sigmoid(beta * (logp_w - ref_w) - beta * (logp_l - ref_l))),
        ),
        Equal("at the reference: log 2", loss.subs({logp_w: ref_w, logp_l: ref_l}), sp.log(2)),
    ]


@claim(
    "simpo-equal-lengths-is-dpo",
    "With one length per prompt and gamma = 0, SimPO is DPO with a uniform reference and strength beta/|y|.",
    latex=r"\ell_{\mathrm{SimPO}}(\beta, |w| = |l|) = \ell_{\mathrm{DPO}}(\beta/|y|,\ q\ \text{uniform})",
    source="THEORY 2.9, first half",
    scope="finite Y, any size",
    depends_on=("simpo-objective", "dpo-objective"),
)
def simpo_equal_lengths_is_dpo() -> list[Step]:
    return [
        Equal(
            "the two losses",
            trace(dpo, logp_w, logp_l, ref_chosen_logp=ref_w, ref_rejected_logp=ref_w, beta=beta / len_w),
            LOSS_0.subs(len_l, len_w),
        )
    ]
