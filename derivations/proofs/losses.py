"""The named losses are preference model times implicit reward (THEORY 1 and 2.7 to 2.9)."""

import sympy as sp

from derivations.names import OBJECTIVES, make_objective
from derivations.objectives import dpo, ipo_loss, maxent, preference_metrics, simpo
from derivations.proofs.symbols import (
    alpha,
    beta,
    logp_l,
    logp_w,
    positives,
    r_l,
    r_w,
    reals,
    ref_l,
    ref_w,
    sigmoid,
)
from derivations.prover.claims import claim
from derivations.prover.kinds import Equal, Step
from derivations.prover.tracing import trace, traced_array


@claim(
    "dpo-objective",
    "DPO's loss is -log of Bradley and Terry's probability of a win under the implicit reward of KL; at the reference it is log 2.",
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
        Equal("at the reference: log 2", loss, sp.log(2), {logp_w: ref_w, logp_l: ref_l}),
    ]


@claim(
    "listwise-objectives",
    "The listwise losses with two responses are the pairwise ones.",
    latex=r"\ell_{\mathrm{PL}}(s_1, s_2) = -\log\sigma(s_1 - s_2)",
    source="THEORY 2.8, SimPO-PL and DPO-PL",
    scope="two responses, every strength; four in claim rankings-by-name",
    depends_on=("plackett-luce-bradley-terry", "multiplier-cancels"),
)
def listwise_objectives() -> list[Step]:
    logps, lengths, refs = reals("logp", 2), positives("len", 2), reals("ref", 2)
    pairwise = {
        "maxent-pl": trace(maxent, *logps, alpha=alpha),
        "dpo-pl": trace(dpo, *logps, ref_chosen_logp=refs[0], ref_rejected_logp=refs[1], beta=beta),
        "simpo-pl": trace(simpo, *logps, chosen_length=lengths[0], rejected_length=lengths[1], beta=beta),
    }
    steps: list[Step] = []
    for name, loss in pairwise.items():
        strength = OBJECTIVES[name].strength
        objective = make_objective(name, **{strength: {"alpha": alpha, "beta": beta}[strength]})
        rewards = traced_array(objective.rewards, logps, length=lengths, ref_logp=refs)
        steps.append(Equal(name, trace(objective.loss, rewards), loss))
    return steps


@claim(
    "ipo-objective",
    "IPO is the squared distance of the log-ratio difference, summed over tokens, from 1 / (2 beta).",
    latex=r"\ell = \Big(h - \tfrac{1}{2\beta}\Big)^2,\quad h = \log\tfrac{\pi(w)}{q(w)} - \log\tfrac{\pi(l)}{q(l)}",
    source="THEORY 3.1; arXiv:2310.12036, eq. 17",
    scope="any pair",
    depends_on=("implicit-reward-kl",),
)
def ipo_objective() -> list[Step]:
    ratios = logp_w - ref_w, logp_l - ref_l
    loss = trace(ipo_loss, beta * ratios[0], beta * ratios[1], beta=beta)
    return [
        Equal("on implicit rewards of KL", loss, (ratios[0] - ratios[1] - 1 / (2 * beta)) ** 2),
        Equal("at the reference: 1 / (4 beta^2)", loss, 1 / (4 * beta**2), {logp_w: ref_w, logp_l: ref_l}),
    ]


@claim(
    "preference-metrics",
    "Of a pair, the logged metrics are what TRL's names say: rewards, their margin, accuracy with ties as one half, log-probs.",
    latex=r"\text{margin} = s_w - s_l,\quad \text{accuracy} \in \{0, \tfrac12, 1\}",
    source="the metric names of TRL's preference trainers",
    scope="any pair",
)
def the_preference_metrics() -> list[Step]:
    def metric(name: str, chosen: sp.Expr, rejected: sp.Expr) -> sp.Expr:
        return traced_array(preference_metrics, chosen, rejected, logp_w, logp_l)[name].item()

    lead = sp.Symbol("lead", positive=True)
    return [
        Equal("rewards/margins", metric("rewards/margins", r_w, r_l), r_w - r_l),
        Equal("rewards/chosen", metric("rewards/chosen", r_w, r_l), r_w),
        Equal("rewards/rejected", metric("rewards/rejected", r_w, r_l), r_l),
        Equal("logps/chosen", metric("logps/chosen", r_w, r_l), logp_w),
        Equal("logps/rejected", metric("logps/rejected", r_w, r_l), logp_l),
        Equal("accuracy of any win is 1", metric("rewards/accuracies", r_l + lead, r_l), sp.S.One),
        Equal("accuracy of any tie is 1/2", metric("rewards/accuracies", r_l, r_l), sp.S.Half),
        Equal("accuracy of any loss is 0", metric("rewards/accuracies", r_l, r_l + lead), sp.S.Zero),
    ]
