"""Samples of an old policy: what importance weights do to k3, and why GSPO's ratio is no importance weight."""

from functools import partial

import numpy as np
import sympy as sp

from derivations.objectives import kl_k3
from derivations.off_policy import sequence_ratios
from derivations.proofs.symbols import by_logit, normalized, positives
from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, Differs, Equal, Positive, Step
from derivations.prover.symbolic import SymArray
from derivations.prover.tracing import trace, traced_array
from derivations.regularizers import KL, ForwardKL

logp, ref_logp, old_logp = sp.symbols("logp ref_logp old_logp", real=True)
rho, longer = sp.symbols("rho longer", positive=True)  # pi / pi_old of a response; |y| = 1 + longer
ONE = SymArray(sp.S.One)
gap = 1 + (rho - 1) / (1 + longer) - rho ** (1 / (1 + longer))  # the tangent at 1 minus the power


@claim(
    "k3-off-policy",
    "Weighted by pi/pi_old and differentiated through the weight, k3 has the gradient of KL(pi || q); with the weight held fixed "
    "it has that of the other KL, KL(q || pi).",
    latex=r"E_{\mu}\Big[\nabla\Big(\tfrac{\pi}{\mu}k_3\Big)\Big] = \nabla\mathrm{KL}(\pi\|q),\qquad "
    r"E_{\mu}\Big[\tfrac{\pi}{\mu}\nabla k_3\Big] = \nabla\mathrm{KL}(q\|\pi)",
    hypotheses="samples of mu = pi_old, which is positive wherever pi is",
    source="THEORY 3.4, off policy; arXiv:2505.17508",
    scope="any finite Y: a response's share, up to pi times a constant (score-mean-zero); two responses written out",
    depends_on=("score-mean-zero", "kl-estimators-as-loss"),
)
def k3_off_policy() -> list[Step]:
    pi, old = sp.exp(logp), sp.exp(old_logp)
    k3 = trace(kl_k3, logp, ref_logp)
    right, other = (trace(cls(ONE).phi, logp, ref_logp=ref_logp) for cls in (KL, ForwardKL))
    weighted = sp.exp(logp - old_logp) * k3
    weights, references, olds = positives("w", 2), positives("k", 2), positives("m", 2)
    policy, ref, mu = normalized(weights), normalized(references), normalized(olds)
    logps, refs = list(map(sp.log, policy)), list(map(sp.log, ref))
    values = traced_array(kl_k3, logps, refs).values
    kl = sum(traced_array(KL(ONE).phi, logps, ref_logp=refs).values)
    estimate = sum(m * by_logit(x / m * v, weights[0]) for m, x, v in zip(mu, policy, values, strict=True))
    return [
        Equal("weighted: mu (pi/mu) k3 is KL's share plus q - pi", old * weighted, right + sp.exp(ref_logp) - pi),
        Equal("its gradient: KL's share, up to pi times a constant", old * sp.diff(weighted, logp), sp.diff(right, logp) - pi),
        Equal("weight held fixed: the share of the other KL", pi * sp.diff(k3, logp), sp.diff(other, logp) + pi),
        Equal("weighted, two responses, any old policy", estimate, by_logit(kl, weights[0])),
        Argued("summed over y, pi times a constant adds nothing", by="summation",
               uses=("its gradient: KL's", "weight held fixed", "score-mean-zero")),
    ]  # fmt: skip


@claim(
    "gspo-ratio-one-length",
    "If all responses have one length |y| > 1, GSPO's ratio (pi/pi_old)^(1/|y|) has a mean below 1 under the old policy unless "
    "pi = pi_old.",
    latex=r"E_{\pi_{old}}\big[(\pi/\pi_{old})^{1/|y|}\big] < 1\quad(\pi \ne \pi_{old})",
    hypotheses="one length |y| = 1 + longer for all responses, longer > 0",
    source="arXiv:2507.18071, the sequence-level ratio",
    scope="any countable Y: a response's share; one length (gspo-ratio-mean says what other lengths do)",
)
def gspo_ratio_one_length() -> list[Step]:
    p_old, p_new = sp.symbols("p_old p_new", positive=True)
    touching = {rho: sp.S.One}
    tokens = [old_logp + sp.log(rho), logp], [old_logp, logp]  # the ratio of the whole response is rho
    code = trace(partial(sequence_ratios, per_token=True), *tokens, np.array([True, True]))
    return [
        Equal("the tangent at 1 touches the power", gap, sp.S.Zero, touching),
        Equal("with its slope", sp.diff(gap, rho), sp.S.Zero, touching),
        Positive("the difference is strictly convex in rho", sp.diff(gap, rho, 2)),
        Equal("a share of the mean under the tangent: 1 + (rho - 1)/|y|", p_old * (1 + (p_new / p_old - 1) / (1 + longer)),
              p_old + (p_new - p_old) / (1 + longer)),
        Argued("so rho^(1/|y|) <= 1 + (rho - 1)/|y|, with equality at rho = 1 alone", by="tangent",
               uses=("the tangent at 1", "with its slope", "the difference is")),
        Argued("summed: the mean is at most 1 + (1 - 1)/|y| = 1", by="summation", uses=("a share of the mean",)),
        Equal("|y| = 2: the gap is half a square", gap, (sp.sqrt(rho) - 1) ** 2 / 2, {longer: sp.S.One}),
        Equal("the code, a response of two tokens: rho^(1/2)", code, sp.sqrt(rho)),
    ]  # fmt: skip


@claim(
    "gspo-ratio-mean",
    "GSPO's ratio has a mean of at most 1 under the old policy, whatever the lengths.",
    latex=r"E_{\pi_{old}}\big[\rho^{1/|y|}\big] = 1 + E_\pi\Big[\tfrac1{|y|}\Big] - E_{\pi_{old}}\Big[\tfrac1{|y|}\Big] - "
    r"E_{\pi_{old}}[\mathrm{gap}],\quad \mathrm{gap} \ge 0",
    hypotheses="rho = pi/pi_old; gap = 1 + (rho - 1)/|y| - rho^(1/|y|), which is 0 for |y| = 1",
    source="a tempting generalization of gspo-ratio-one-length",
    scope="any countable Y for the formula; exact counterexample with two responses of lengths 1 and 2",
    expected="refuted",
    depends_on=("gspo-ratio-one-length",),
)
def gspo_ratio_mean() -> list[Step]:
    new, old, new_2, old_2 = sp.symbols("p_1 q_1 p_2 q_2", positive=True)  # a response of one token, and one of two
    ratios = [  # GSPO's own, of a response of one token and one of two
        trace(partial(sequence_ratios, per_token=True), *tokens, np.ones(len(tokens[0]), dtype=bool))
        for tokens in (
            ([sp.log(new)], [sp.log(old)]),
            ([sp.log(new_2), sp.S.Zero], [sp.log(old_2), sp.S.Zero]),
        )
    ]
    code = old * ratios[0] + old_2 * ratios[1]
    ratio = code.subs({new_2: 1 - new, old_2: 1 - old})
    at = {new: sp.Rational(9, 10), old: sp.Rational(1, 2)}
    p_old = sp.Symbol("p_old", positive=True)
    any_length = sp.Symbol("n", nonnegative=True)
    share = p_old * rho ** (1 / (1 + any_length))
    parts = p_old + p_old * rho / (1 + any_length) - p_old / (1 + any_length) - p_old * gap.subs(longer, any_length)
    return [
        Equal("the code, responses of one and of two tokens", code, new + old_2 * sp.sqrt(new_2 / old_2)),
        Equal("a response's share of the mean", share, parts),
        Equal("the gap of a response of one token", gap.subs(longer, any_length), sp.S.Zero, {any_length: sp.S.Zero}),
        Differs("pi_old = (1/2, 1/2), pi = (9/10, 1/10), lengths 1 and 2: the mean against 1", ratio, sp.S.One, at),
        Positive("there it is above 1.12", ratio.subs(at) - sp.Rational(112, 100)),
        Positive(
            "and with pi = (1/10, 9/10) below 1", 1 - ratio.subs({new: sp.Rational(1, 10), old: sp.Rational(1, 2)})
        ),
    ]
