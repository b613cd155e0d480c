"""Estimators and metrics that the trainers call (THEORY 3.2 and TRL's metric names)."""

import itertools

import sympy as sp

from derivations.checks import Equal, Step
from derivations.claims import claim
from derivations.objectives import preference_metrics, rloo_advantage
from derivations.proofs.tools import logp_l, logp_w, positives, r_l, r_w, reals
from derivations.symbolic import SymArray


@claim(
    "rloo-unbiased",
    "The leave-one-out advantage is the reward minus the mean of the others, and its policy gradient is unbiased.",
    latex=r"E\Big[\tfrac1k\sum_i A_i \nabla\log\pi(y_i)\Big] = \nabla E_\pi[r]",
    source="THEORY 3.2; arXiv:2402.14740",
    scope="any two responses for k = 2 and 3 samples, all sample sets enumerated; the formula for k = 2, 3, 4",
)
def rloo_unbiased() -> list[Step]:
    steps: list[Step] = []
    for k in (2, 3, 4):
        rewards = reals("r", k)
        advantage = rloo_advantage(SymArray(rewards)).values
        steps.append(
            Equal(f"k = {k}: minus the mean of the others", advantage[0], rewards[0] - sum(rewards[1:]) / (k - 1))
        )
    weights, rewards = positives("w", 2), reals("r", 2)
    policy = [w / sum(weights) for w in weights]
    score = [1 - policy[0], -policy[0]]  # d log pi(y) / d logit_1
    value = sum(p * r for p, r in zip(policy, rewards, strict=True))
    for k in (2, 3):
        expected: sp.Expr = sp.S.Zero
        for sample in itertools.product((0, 1), repeat=k):
            advantage = rloo_advantage(SymArray([rewards[y] for y in sample])).values
            chance = sp.prod([policy[y] for y in sample])
            expected += chance * sum(a * score[y] for a, y in zip(advantage, sample, strict=True)) / k
        steps.append(Equal(f"k = {k}: expectation over all samples", expected, weights[0] * sp.diff(value, weights[0])))
    return steps


@claim(
    "preference-metrics",
    "The logged metrics are what TRL's names say: rewards, their margin, accuracy with ties as one half, log-probs.",
    latex=r"\text{margin} = s_w - s_l,\quad \text{accuracy} \in \{0, \tfrac12, 1\}",
    source="the metric names of TRL's preference trainers",
    scope="any pair",
)
def the_preference_metrics() -> list[Step]:
    def metric(name: str, chosen: sp.Expr, rejected: sp.Expr) -> sp.Expr:
        arrays = [SymArray(x) for x in (chosen, rejected, logp_w, logp_l)]
        return preference_metrics(*arrays)[name].item()

    one, two = sp.Integer(1), sp.Integer(2)
    return [
        Equal("rewards/margins", metric("rewards/margins", r_w, r_l), r_w - r_l),
        Equal("rewards/chosen", metric("rewards/chosen", r_w, r_l), r_w),
        Equal("rewards/rejected", metric("rewards/rejected", r_w, r_l), r_l),
        Equal("logps/chosen", metric("logps/chosen", r_w, r_l), logp_w),
        Equal("logps/rejected", metric("logps/rejected", r_w, r_l), logp_l),
        Equal("accuracy of a win is 1", metric("rewards/accuracies", two, one), sp.S.One),
        Equal("accuracy of a tie is 1/2", metric("rewards/accuracies", one, one), sp.S.Half),
        Equal("accuracy of a loss is 0", metric("rewards/accuracies", one, two), sp.S.Zero),
    ]
