"""Preference losses that people ask for by name: their formulas, and which of them come from a regularizer."""

import numpy as np
import sympy as sp

from derivations import preference_losses as code
from derivations.objectives import dpo
from derivations.proofs.symbols import alpha, beta, len_l, len_w, logp_l, logp_w, p, q, ref_l, ref_w, sigmoid
from derivations.prover.claims import claim
from derivations.prover.kinds import Differs, Equal, Step
from derivations.prover.tracing import trace, traced_array

REFS = {"ref_chosen_logp": ref_w, "ref_rejected_logp": ref_l}
LENGTHS = {"chosen_length": len_w, "rejected_length": len_l}
h_w, h_l = logp_w - ref_w, logp_l - ref_l
lost = sp.Symbol("lost", positive=True)  # how far the chosen response fell below its reference, or rose above


def minus_log_sigmoid(x: sp.Expr) -> sp.Expr:
    return sp.log(1 + sp.exp(-x))


def fallen(side: sp.Expr) -> sp.Expr:
    """DPO-Positive with the chosen response at that log-ratio."""
    return trace(code.dpop, ref_w + side, logp_l, **REFS, beta=beta, penalty=alpha)


@claim(
    "preference-losses-published",
    "The preference losses that are asked for by name compute their published formulas.",
    latex=r"\ell_{\text{name}}(w, l)",
    source="the papers that the docstrings of derivations.preference_losses name",
    scope="any pair; the hinge on both sides of its corner, DPO-Positive above and below the reference",
    depends_on=("implicit-reward-kl",),
)
def preference_losses_published() -> list[Step]:
    plain = {"beta": beta, **REFS}
    odds = [sp.log(mean) - sp.log(1 - mean) for mean in (p, q)]  # geometric means over the tokens
    chi = [beta * (h + sp.exp(h)) for h in (h_w, h_l)]
    mask = np.array([True, False])
    kto = traced_array(
        code.kto, [logp_w, logp_l], mask, ref_logp=[ref_w, ref_l], kl=lost, beta=beta, desirable_weight=alpha
    ).values
    won, short = ref_w + h_l + (1 + lost) / beta, ref_w + h_l + 1 / beta - lost
    cases: dict[str, tuple[sp.Expr, sp.Expr]] = {
        "R-DPO": (
            trace(code.r_dpo, logp_w, logp_l, **plain, **LENGTHS, alpha=alpha),
            minus_log_sigmoid(beta * (h_w - h_l) + alpha * (len_w - len_l)),
        ),
        "LN-DPO": (
            trace(code.ln_dpo, logp_w, logp_l, **plain, **LENGTHS),
            minus_log_sigmoid(beta * (h_w / len_w - h_l / len_l)),
        ),
        "chi-PO": (trace(code.chi_po, logp_w, logp_l, **plain), minus_log_sigmoid(chi[0] - chi[1])),
        "WPO, its weight written out": (
            trace(code.wpo, logp_w, logp_l, **plain, **LENGTHS),
            sp.exp(logp_w / len_w + logp_l / len_l) * trace(dpo, logp_w, logp_l, **plain),
        ),
        "SPPO": (
            trace(code.sppo, logp_w, logp_l, **plain),
            (h_w - 1 / (2 * beta)) ** 2 + (h_l + 1 / (2 * beta)) ** 2,
        ),
        "APO zero": (trace(code.apo_zero, logp_w, logp_l, **plain), 1 - sigmoid(beta * h_w) + sigmoid(beta * h_l)),
        "APO down": (
            trace(code.apo_down, logp_w, logp_l, **plain),
            sigmoid(beta * h_w) + 1 - sigmoid(beta * (h_w - h_l)),
        ),
        "hinge, short of its margin": (trace(code.slic, short, logp_l, **plain), beta * lost),
        "hinge, beyond its margin": (trace(code.slic, won, logp_l, **plain), sp.S.Zero),
        "DPO-Positive, chosen above the reference": (fallen(lost), minus_log_sigmoid(beta * (lost - h_l))),
        "DPO-Positive, chosen below the reference": (
            fallen(-lost),
            minus_log_sigmoid(beta * (-lost - h_l - alpha * lost)),
        ),
        "KTO, desirable": (kto[0], alpha * (1 - sigmoid(beta * (h_w - lost)))),
        "KTO, undesirable": (kto[1], 1 - sigmoid(-beta * (h_l - lost))),
        "ORPO": (
            trace(code.orpo, len_w * sp.log(p), len_l * sp.log(q), **LENGTHS, beta=beta),
            -sp.log(p) + beta * minus_log_sigmoid(odds[0] - odds[1]),
        ),
    }
    return [Equal(name, found, right) for name, (found, right) in cases.items()]


@claim(
    "odds-ratio-regularizer",
    "ORPO's odds-ratio term alone comes from a regularizer, the binary entropy of each response; its NLL moves with both scores.",
    latex=r"\phi = p\log p + (1-p)\log(1-p),\quad \phi' = \log\tfrac{p}{1-p}",
    source="arXiv:2403.07691, eq. 6 and 7",
    scope="responses of one token for the regularizer",
    depends_on=("master-theorem",),
)
def odds_ratio_regularizer() -> list[Step]:
    phi = p * sp.log(p) + (1 - p) * sp.log(1 - p)
    loss = trace(code.orpo, sp.log(p), sp.log(q), chosen_length=sp.S.One, rejected_length=sp.S.One, beta=beta)
    odds = sp.log(p) - sp.log(1 - p) - sp.log(q) + sp.log(1 - q)
    return [
        Equal("the term and the NLL", loss, -sp.log(p) + beta * minus_log_sigmoid(odds)),
        Equal("phi' is the log-odds", sp.diff(phi, p), sp.log(p) - sp.log(1 - p)),
        Equal("phi'' = 1 / (p (1 - p))", sp.diff(phi, p, 2), 1 / (p * (1 - p))),
    ]


@claim(
    "losses-without-a-likelihood",
    "SLiC's hinge, SPPO, APO and DPO-Positive are -log of the probability of what was preferred, as a regularized optimum "
    "needs: those of the two orders add up to 1.",
    latex=r"e^{-\ell(w, l)} + e^{-\ell(l, w)} = 1",
    source="the inverse of the master theorem: a loss comes from a regularizer only if it is a likelihood",
    scope="one pair at equal scores: the two probabilities do not add up to 1",
    expected="refuted",
    depends_on=("preference-losses-published", "dpo-objective"),
)
def losses_without_a_likelihood() -> list[Step]:
    plain = {
        "ref_chosen_logp": logp_w,
        "ref_rejected_logp": logp_l,
        "beta": beta,
    }  # at the reference, every log-ratio 0
    two = {
        "SLiC's hinge": (trace(code.slic, logp_w, logp_l, **plain), sp.S.One),
        "SPPO": (trace(code.sppo, logp_w, logp_l, **plain), 1 / (2 * beta**2)),
        "APO zero": (trace(code.apo_zero, logp_w, logp_l, **plain), sp.S.One),
        "APO down": (trace(code.apo_down, logp_w, logp_l, **plain), sp.S.One),
    }
    low = trace(code.dpop, ref_w - lost, ref_l - lost, **REFS, beta=beta, penalty=alpha)  # both fell alike
    at = {beta: sp.S.One}
    steps: list[Step] = [
        Equal("a likelihood, DPO, has log 2 for equal scores", trace(dpo, logp_w, logp_l, **plain), sp.log(2)),
        Equal("DPO-Positive where both fell alike", low, minus_log_sigmoid(-beta * alpha * lost)),
    ]
    for name, (loss, value) in two.items():
        steps.append(Equal(f"{name}: the loss at equal scores", loss, value))
        steps.append(
            Differs(
                f"equal scores, the two orders: {name.partition(' ')[0]} against 1", 2 * sp.exp(-loss), sp.S.One, at
            )
        )
    return [
        *steps,
        Differs(
            "equal scores, the two orders: DPO-Positive against 1",
            2 * sp.exp(-low),
            sp.S.One,
            {alpha: 1, beta: 1, lost: 1},
        ),
    ]
