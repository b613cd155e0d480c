"""Policy gradients of samples that another policy drew: where a clip stops the gradient, and where it does not."""

import numpy as np
import sympy as sp

from derivations.off_policy import cispo, grpo, gspo, ppo_clip, ratios, reduced, rloo_ratio
from derivations.proofs.symbols import by_logit, mean, normalized, positives, reals
from derivations.prover.claims import claim
from derivations.prover.kinds import Differs, Equal, Step
from derivations.prover.tracing import trace, traced_array

over, under, place = sp.symbols("over under place", positive=True)  # how far out of the clip, and where inside of it
gain, old = sp.Symbol("gain", positive=True), sp.Symbol("old", real=True)  # |A|, and log-probs at sampling
other, hidden, hidden_old = (
    sp.Symbol("other", positive=True),
    *reals("hidden", 2),
)  # |A| of another token; what is masked
LOW, HIGH = 1 / (1 + sp.Symbol("k_low", positive=True)), sp.Symbol("eps_high", positive=True)  # eps in (0, 1), and > 0
# region -> the ratio there, and the symbol that moves it
REGIONS: dict[str, tuple[sp.Expr, sp.Symbol]] = {
    "above the clip": (1 + HIGH + over, over),
    "below the clip": ((1 - LOW) / (1 + under), under),
    "inside of the clip": (1 - LOW + (LOW + HIGH) * place / (1 + place), place),
}
SIGNS = {"A > 0": gain, "A < 0": -gain}
ONE = np.array([True])


def by_log_ratio(loss: sp.Expr, ratio: sp.Expr, symbol: sp.Symbol) -> sp.Expr:
    """d loss / d log ratio, where the ratio is a function of the symbol."""
    return sp.diff(loss, symbol) * ratio / sp.diff(ratio, symbol)


def stops(region: str, sign: str) -> bool:
    """Whether PPO's clip stops the gradient: outside, on the side to which the advantage pushes."""
    return (region, sign) in {("above the clip", "A > 0"), ("below the clip", "A < 0")}


@claim(
    "ppo-clip-slope",
    "The gradient of PPO's clipped loss is that of the ratio times the advantage, but zero above the clip where the advantage "
    "is positive and below it where it is negative.",
    latex=r"\frac{\partial\ell}{\partial\log r} = -rA\,\big(1 - [r > 1+\epsilon_h, A > 0] - [r < 1-\epsilon_l, A < 0]\big)",
    source="arXiv:1707.06347, eq. 7; the higher upper bound: arXiv:2503.14476, eq. 10",
    scope="one token, and two with an advantage each; the edges of the clip left out; every lower epsilon in (0, 1) and "
    "every upper one; symmetric as well",
)
def ppo_clip_slope() -> list[Step]:
    steps: list[Step] = []
    for region, (ratio, symbol) in REGIONS.items():
        for sign, advantage in SIGNS.items():
            tokens = [old + sp.log(ratio)], [old], ONE, [advantage]
            loss = trace(ppo_clip, *tokens, epsilon=LOW, epsilon_high=HIGH)
            right = sp.S.Zero if stops(region, sign) else -ratio * advantage
            steps.append(Equal(f"{region}, {sign}: the slope in log r", by_log_ratio(loss, ratio, symbol), right))
    same = trace(ppo_clip, [old + sp.log(1 + LOW + over)], [old], ONE, [gain], epsilon=LOW)
    none = trace(ppo_clip, [old + sp.log(1 + over)], [old], ONE, [gain], epsilon=LOW, epsilon_high=0)
    inside, outside = REGIONS["inside of the clip"][0], REGIONS["above the clip"][0]
    both = [old + sp.log(inside), old + sp.log(outside)], [old, old], np.array([True, True]), [-gain, other]
    each = traced_array(ppo_clip, *both, epsilon=LOW, epsilon_high=HIGH).values
    return [
        *steps,
        Equal("an advantage a token: the first has its own", each[0], inside * gain),
        Equal("and the second its own", each[1], -(1 + HIGH) * other),
        Equal("one epsilon given is both: above the clip, A > 0", same, -(1 + LOW) * gain),
        Equal("an upper epsilon of 0 is one as well: above the clip, A > 0", none, -gain),
    ]


@claim(
    "clip-takes-the-minimum",
    "The maximum in the place of PPO's minimum is the same loss.",
    latex=r"\max(rA, \mathrm{clip}(r)A) = \min(rA, \mathrm{clip}(r)A)",
    source="reported: the clip rewards what it should stop",
    scope="one token above the clip with a positive advantage",
    expected="refuted",
    depends_on=("ppo-clip-slope",),
)
def clip_takes_the_minimum() -> list[Step]:
    ratio = 1 + HIGH + over
    loss = trace(ppo_clip, [old + sp.log(ratio)], [old], ONE, [gain], epsilon=LOW, epsilon_high=HIGH)
    return [
        Equal("with the minimum the loss does not move any more", loss, -(1 + HIGH) * gain),
        Differs(
            "with the maximum it falls further: the minimum against the maximum",
            loss,
            -ratio * gain,
            {over: sp.S.One, HIGH: sp.S.Half, gain: sp.S.One},
        ),
    ]


@claim(
    "cispo-slope",
    "CISPO weighs the log-prob of a token by the clipped ratio, 1 where it is masked out: outside of the clip its gradient is "
    "constant, and not zero.",
    latex=r"\ell = -\mathrm{sg}[\mathrm{clip}(r)]\,A\log\pi",
    source="arXiv:2506.13585, eq. 4",
    scope="one token, and two with an advantage each; every lower epsilon in (0, 1) and every upper one",
)
def cispo_slope() -> list[Step]:
    steps: list[Step] = []
    edges = {"above the clip": 1 + HIGH, "below the clip": 1 - LOW}
    for region, (ratio, symbol) in REGIONS.items():
        for sign, advantage in SIGNS.items():
            logp = old + sp.log(ratio)
            loss = trace(cispo, [logp], [old], ONE, [advantage], epsilon=LOW, epsilon_high=HIGH)
            weight = edges.get(region, ratio)
            steps.append(Equal(f"{region}, {sign}: the loss", loss, -weight * advantage * logp))
            if region in edges:
                slope = by_log_ratio(loss, ratio, symbol)
                steps.append(Equal(f"{region}, {sign}: the slope in log pi", slope, -weight * advantage))
    both = [old, hidden], [old, hidden], np.array([True, True]), [-gain, other]
    each = traced_array(cispo, *both, epsilon=LOW, epsilon_high=HIGH).values
    steps.append(Equal("an advantage a token: the first has its own", each[0], gain * old))
    steps.append(Equal("and the second its own", each[1], -other * hidden))
    new, masked = (
        reals("new", 2),
        traced_array(ratios, reals("new", 2), reals("old", 2), np.array([True, False])).values,
    )
    steps.append(Equal("the ratio of a token of the response", masked[0], sp.exp(new[0] - reals("old", 2)[0])))
    return [*steps, Equal("and of one that is masked out, whatever stands there", masked[1], sp.S.One)]


@claim(
    "gspo-slope",
    "GSPO clips the geometric mean of the token ratios, and its gradient is the same on both tokens.",
    latex=r"\ell = -\min(sA, \mathrm{clip}(s)A),\quad s = \Big(\prod_t r_t\Big)^{1/|y|}",
    source="arXiv:2507.18071, eq. 5 and 7",
    scope="responses of two tokens, one of them far out of the clip alone; a third masked out",
)
def gspo_slope() -> list[Step]:
    mask, spread = np.array([True, False, True]), sp.Symbol("spread", real=True)
    steps: list[Step] = []
    for region, (ratio, symbol) in REGIONS.items():
        for sign, advantage in SIGNS.items():
            logps = [old + sp.log(ratio) + spread, hidden, old + sp.log(ratio) - spread]
            loss = trace(gspo, logps, [old, hidden_old, old], mask, advantage, epsilon=LOW, epsilon_high=HIGH)
            right = sp.S.Zero if stops(region, sign) else -ratio * advantage
            steps.append(Equal(f"{region}, {sign}: the slope in log s", by_log_ratio(loss, ratio, symbol), right))
            steps.append(
                Equal(f"{region}, {sign}: the tokens' difference does not enter", sp.diff(loss, spread), sp.S.Zero)
            )
    return steps


@claim(
    "off-policy-reductions",
    "What a batch is divided by: all its tokens, each response's own, a constant, or nothing; GRPO is the second of PPO's clip.",
    latex=r"\frac{\sum_{i,t}\ell_{it}}{\sum_i|y_i|},\quad \frac1N\sum_i\frac{\sum_t\ell_{it}}{|y_i|},\quad "
    r"\frac1N\sum_i\frac{\sum_t\ell_{it}}{L},\quad \frac1N\sum_i\sum_t\ell_{it}",
    source="arXiv:2402.03300, eq. 3; arXiv:2503.14476; arXiv:2503.20783",
    scope="two responses of one and three tokens; GRPO inside and above the clip",
)
def off_policy_reductions() -> list[Step]:
    mask = np.array([[True, False, False], [True, True, True]])
    first, second = reals("a", 1), reals("b", 3)
    losses = [[first[0], sp.S.Zero, sp.S.Zero], list(second)]
    constant = sp.Symbol("L", positive=True)
    right = {
        "token-mean": (first[0] + sum(second)) / 4,
        "sequence-mean": (first[0] + sum(second) / 3) / 2,
        "sum": (first[0] + sum(second)) / 2,
        "fixed": (first[0] + sum(second)) / (2 * constant),
    }
    steps: list[Step] = []
    for name, value in right.items():
        found = traced_array(reduced, losses, mask, name, denominator=constant).values
        steps.append(Equal(f"{name}: the mean over the two", sum(found) / 2, value))
    inside, outside = REGIONS["inside of the clip"][0], REGIONS["above the clip"][0]
    logps, olds = [[old + sp.log(inside), old + sp.log(outside)]], [[old, old]]
    for per_length, count in ((True, 2), (False, 1)):
        found = traced_array(
            grpo, logps, olds, np.array([[True, True]]), [gain], epsilon=LOW, epsilon_high=HIGH, per_length=per_length
        ).values[0]
        steps.append(Equal(f"GRPO, per_length {per_length}", found, -(inside + 1 + HIGH) * gain / count))
    return steps


@claim(
    "off-policy-at-ratio-one",
    "Where both policies agree, PPO's clip, RLOO with a ratio and CISPO have REINFORCE's gradient, and GSPO has it over |y|: on "
    "responses of one token no test at ratio 1 tells them apart.",
    latex=r"\frac{\partial\ell}{\partial\log\pi}\Big|_{r = 1} = -A,\qquad \frac{\partial\ell_{\mathrm{GSPO}}}{\partial\log\pi_t}\Big|_{r = 1} = -\frac{A}{|y|}",
    source="arXiv:1707.06347, section 3",
    scope="responses of one token, GSPO and RLOO of two as well; the slope by the log-prob, from inside of the clip; CISPO's weight held",
    depends_on=("ppo-clip-slope", "gspo-slope", "cispo-slope"),
)
def off_policy_at_ratio_one() -> list[Step]:
    ratio, symbol = REGIONS["inside of the clip"]
    start, spread = LOW / HIGH, sp.Symbol("spread", real=True)
    logps = [old + sp.log(ratio)]
    steps: list[Step] = [Equal("where the ratio is 1", ratio, sp.S.One, {symbol: start})]
    for sign, advantage in SIGNS.items():
        given = {"epsilon": LOW, "epsilon_high": HIGH}
        losses = {
            "PPO's clip": trace(ppo_clip, logps, [old], ONE, [advantage], **given),
            "GSPO": trace(gspo, logps, [old], ONE, advantage, **given),
            "RLOO with a clipped ratio": trace(rloo_ratio, logps, [old], ONE, advantage, **given),
        }
        for name, loss in losses.items():
            steps.append(Equal(f"{name}, {sign}", by_log_ratio(loss, ratio, symbol).subs(symbol, start), -advantage))
        whole = trace(rloo_ratio, [old + spread], [old], ONE, advantage)  # no clip, so nowhere to be inside of
        steps.append(Equal(f"RLOO with a ratio, {sign}", sp.diff(whole, spread), -advantage, {spread: sp.S.Zero}))
        held = trace(cispo, logps, [old], ONE, [advantage], **given).subs(symbol, start)
        steps.append(Equal(f"CISPO, {sign}: its loss is REINFORCE's, the weight being held", held, -advantage * old))
        pair = [old + sp.log(ratio) + spread, old + sp.log(ratio) - spread]
        two = trace(gspo, pair, [old, old], np.array([True, True]), advantage, **given)
        first = (by_log_ratio(two, ratio, symbol) + sp.diff(two, spread)) / 2  # both rise, and then the first more
        steps.append(Equal(f"GSPO, {sign}: the first of two tokens", first.subs(symbol, start), -advantage / 2))
        half = [
            old + sp.log(ratio) / 2 + spread,
            hidden,
            old + sp.log(ratio) / 2 - spread,
        ]  # their product is the ratio
        masked = half, [old, hidden_old, old], np.array([True, False, True])
        three = trace(rloo_ratio, *masked, advantage, **given)
        first = by_log_ratio(three, ratio, symbol) + sp.diff(three, spread) / 2
        steps.append(Equal(f"RLOO, {sign}: the first of two tokens", first.subs(symbol, start), -advantage))
    return steps


@claim(
    "importance-unbiased",
    "Averaged over the samples of the old policy, RLOO's loss with an unclipped ratio has the gradient of the new policy's mean "
    "advantage.",
    latex=r"E_{\text{old}}\big[\nabla(rA)\big] = \nabla E_\pi[A]",
    source="arXiv:2402.14740; importance sampling",
    scope="two responses, any old and new policy and any advantages that do not depend on the sample drawn",
)
def importance_unbiased() -> list[Step]:
    weights, olds, advantages = positives("w", 2), positives("o", 2), reals("A", 2)
    policy, sampler = normalized(weights), normalized(olds)
    losses = [trace(rloo_ratio, [sp.log(policy[y])], [sp.log(sampler[y])], ONE, advantages[y]) for y in (0, 1)]
    slopes = [by_logit(loss, weights[0]) for loss in losses]
    return [
        Equal("the mean slope", mean(sampler, slopes), -by_logit(mean(policy, advantages), weights[0])),
        Equal("the mean loss", mean(sampler, losses), -mean(policy, advantages)),
    ]
