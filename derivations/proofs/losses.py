"""The named losses are preference model times implicit reward (THEORY 1 and 2.7 to 2.9), and the names mean what they say."""

from typing import Any

import sympy as sp

from derivations.checks import Equal, Step
from derivations.claims import claim
from derivations.objectives import OBJECTIVES, dpo, ipo_loss, make_objective, maxent, preference_metrics, simpo
from derivations.proofs.tools import (
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
from derivations.traces import trace, traced_array

# two settings of what an objective may take, as the command line would give them
SETTINGS = (
    {"strength": 2.0, "gamma": 0.5, "label_smoothing": 0.125, "order": 0.5, "top": 1},
    {"strength": 1.0, "gamma": 3.0, "label_smoothing": 0.0625, "order": 0.25, "top": 2},
)


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
        Equal("at the reference: log 2", loss, sp.log(2), {logp_w: ref_w, logp_l: ref_l}),
    ]


def implicit(name: str, strength: sp.Rational, order: sp.Rational, response: tuple[sp.Expr, ...]) -> sp.Expr:
    """s by hand, up to a constant, under the regularizer that the objective's name means."""
    logp, length, ref = response
    log_u = logp - ref
    by_hand = {
        "maxent": strength * logp,
        "dpo": strength * log_u,
        "cdpo": strength * log_u,
        "ipo": strength * log_u,
        "kl": strength * log_u,
        "simpo": strength / length * logp,
        "simpo-shannon": strength / length * logp + strength / length,
        "forward-kl": -strength * sp.exp(-log_u),
        "jensen-shannon": strength * (log_u - sp.log(1 + sp.exp(log_u))),
        "alpha-divergence": -strength * sp.exp(-order * log_u) / order,
    }
    return by_hand[name]


def pair_by_hand(difference: sp.Expr, options: dict[str, Any]) -> sp.Expr:
    """-(1 - eps) log sigma(m) - eps log sigma(-m), with margin and smoothing where they are given."""
    m = difference - sp.Rational(options.get("gamma", 0))
    eps = sp.Rational(options.get("label_smoothing", 0))
    return (1 - eps) * sp.log(1 + sp.exp(-m)) + eps * sp.log(1 + sp.exp(m))


@claim(
    "objectives-by-name",
    "The objective a trainer holds under a name computes the published loss of that name, with all of its options.",
    latex=r"\ell_{\text{name}} = -\log P(\text{observed} \mid r = s)",
    source="THEORY 1, offline reading; the table of named objectives; f-DPO: arXiv:2309.16240; IPO: arXiv:2310.12036",
    scope="two settings of strength, margin, smoothing, order and top; pairs, and rankings of 3 responses",
    depends_on=("multiplier-cancels", "plackett-luce-top-k"),
)
def objectives_by_name() -> list[Step]:
    steps: list[Step] = []
    for setting in SETTINGS:
        for name, recipe in OBJECTIVES.items():
            given = {option: value for option, value in setting.items() if option in recipe.options}
            divergences = (
                ("kl", "forward-kl", "jensen-shannon", "alpha-divergence") if "divergence" in recipe.options else ("",)
            )
            for divergence in divergences:
                options: dict[str, Any] = {
                    k: v for k, v in given.items() if k != "order" or divergence == "alpha-divergence"
                }
                if divergence:
                    options["divergence"] = divergence
                steps.append(_named(name, setting["strength"], options))
    return steps


def _named(name: str, strength: float, options: dict[str, Any]) -> Step:
    recipe = OBJECTIVES[name]
    objective = make_objective(name, **{recipe.strength: strength}, **options)
    m = 3 if recipe.listwise else 2
    arrays = reals("logp", m), positives("len", m), reals("ref", m)
    rewards = traced_array(objective.rewards, arrays[0], length=arrays[1], ref_logp=arrays[2])
    exact, order = sp.Rational(strength), sp.Rational(options.get("order", 1))
    kind = options.get("divergence") or name.removesuffix("-pl")
    s = [implicit(kind, exact, order, response) for response in zip(*arrays, strict=True)]
    if name == "ipo":
        by_hand = ((s[0] - s[1]) / exact - 1 / (2 * exact)) ** 2
    elif recipe.listwise:
        places = range(options.get("top", m - 1))
        by_hand = sum(sp.log(1 + sum(sp.exp(s[j] - s[k]) for j in range(k + 1, m))) for k in places)
    else:
        by_hand = pair_by_hand(s[0] - s[1], options)
    told = ", ".join(f"{option} {value}" for option, value in options.items())
    return Equal(f"{name}, strength {strength} {told}".strip(), trace(objective.loss, rewards), by_hand)


@claim(
    "listwise-objectives",
    "The listwise losses with two responses are the pairwise ones.",
    latex=r"\ell_{\mathrm{PL}}(s_1, s_2) = -\log\sigma(s_1 - s_2)",
    source="THEORY 2.8, SimPO-PL and DPO-PL",
    scope="strength 2; three responses by hand in objectives-by-name",
    depends_on=("plackett-luce-bradley-terry", "multiplier-cancels"),
)
def listwise_objectives() -> list[Step]:
    logps, lengths, refs, two = reals("logp", 2), positives("len", 2), reals("ref", 2), sp.Integer(2)
    pairwise = {
        "maxent-pl": trace(maxent, *logps, alpha=two),
        "dpo-pl": trace(dpo, *logps, ref_chosen_logp=refs[0], ref_rejected_logp=refs[1], beta=two),
        "simpo-pl": trace(simpo, *logps, chosen_length=lengths[0], rejected_length=lengths[1], beta=two),
    }
    steps: list[Step] = []
    for name, loss in pairwise.items():
        objective = make_objective(name, **{OBJECTIVES[name].strength: 2.0})
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
    "The logged metrics are what TRL's names say: rewards, their margin, accuracy with ties as one half, log-probs.",
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
