"""What GRPO's two normalizations optimize: 1/std and 1/|y| change the objective, not only its scale."""

import sympy as sp

from derivations.proofs.symbols import by_logit, len_l, len_w, length, mean, normalized, positives, rest
from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, Differs, Equal, Iff, Positive, Step, TendsTo


@claim(
    "grpo-std",
    "Divided by its standard deviation, the advantage of a 0/1 reward gives the gradient of 2 arcsin sqrt(s) in place of that of "
    "the success rate s.",
    latex=r"E_\pi\Big[\frac{r - s}{\sqrt{s(1-s)}}\,\nabla\log\pi\Big] = \nabla\, 2\arcsin\sqrt{s},\quad s = E_\pi[r]",
    hypotheses="tabular softmax; rewards 0 or 1, mean and standard deviation those of the policy (endless groups)",
    source="arXiv:2402.03300, the group-normalized advantage; arXiv:2503.20783 on its bias",
    scope="any finite Y: one response's logit, the other successes and failures summed; groups of finite size have a biased "
    "standard deviation besides",
    depends_on=("score-mean-zero", "group-mean-shrinks"),
)
def grpo_std() -> list[Step]:
    (w,), good, bad = positives("w", 1), sp.Symbol("good", positive=True), sp.Symbol("bad", positive=True)
    x = sp.Symbol("x", positive=True)  # sqrt(s / (1 - s)), so arcsin sqrt(s) = arctan x
    total = w + good + bad
    steps: list[Step] = []
    for case, success in (("a success", (w + good) / total), ("a failure", good / total)):
        own = 1 if case == "a success" else 0
        failures = bad if own else w + bad
        spread = sp.sqrt(success * failures / total)
        pi = w / total
        shares = pi * (own - success) * (1 - pi) - good / total * (1 - success) * pi + bad / total * success * pi
        steps.append(
            Equal(
                f"logit of {case}: the gradient of s over std",
                shares / spread,
                by_logit(success, w) / spread,
                every=(good, bad),
            )
        )
    odds_rate = x**2 / (1 + x**2)
    return [
        *steps,
        Equal(
            "2 arctan x, x = sqrt(s/(1 - s)), has the slope 1 / sqrt(s (1 - s)) in s",
            2 / (1 + x**2) / sp.diff(odds_rate, x),
            1 / sp.sqrt(odds_rate / (1 + x**2)),
        ),
        Argued(
            "arcsin sqrt(s) = arctan x, whose slope in x is 1/(1 + x^2): so the gradient is that of 2 arcsin sqrt(s)",
            by="chain rule",
            uses=("2 arctan x", "logit of a success", "logit of a failure"),
        ),
        Positive("1/std exceeds 1 on every prompt", 1 / (odds_rate / (1 + x**2)) - 1),
        TendsTo("and has no bound as the odds s/(1 - s) = x^2 go to 0", (1 + x**2) / x, x, sp.S.Zero, sp.oo),
        Differs("s = 1/10 against s = 1/2, x = 1/3 against 1: a prompt's weight", (1 + x**2) / x, sp.Integer(2), {x: sp.Rational(1, 3)}),
    ]  # fmt: skip


@claim(
    "grpo-length",
    "Divided by |y|, the advantage gives the gradient of E[A/|y|], and a baseline b is no longer free: it adds that of "
    "-b E[1/|y|], which for two responses is 0 if and only if |w| = |l|.",
    latex=r"E_\pi\Big[\frac{A - b}{|y|}\nabla\log\pi\Big] = \nabla E_\pi\Big[\frac{A}{|y|}\Big] - b\,\nabla E_\pi\Big[\frac1{|y|}\Big]",
    hypotheses="tabular softmax; A and b held fixed",
    source="arXiv:2402.03300, the loss averaged over the tokens of each response; arXiv:2503.20783 on its length bias",
    scope="any finite Y: one response's share, the others summed; the condition for two responses",
    expected="iff",
    depends_on=("score-mean-zero",),
)
def grpo_length() -> list[Step]:
    w, w_1 = positives("w", 2)
    advantage, baseline = sp.Symbol("A", real=True), sp.Symbol("b", positive=True)
    total = w + w_1 + rest
    shares = []
    for case, moving, score in (("another response", w_1, -w_1 / total), ("the response itself", w, 1 - w / total)):
        value = (advantage - baseline) / length
        share = by_logit(w / total * value, moving)
        shares.append(Equal(f"logit of {case}", w / total * value * score, share, every=(rest,)))
    pi = normalized((w, w_1))
    scores = [1 - pi[0], -pi[0]]
    token = [1 / len_w, 1 / len_l]
    drift = mean(pi, [-baseline * inverse * score for inverse, score in zip(token, scores, strict=True)])
    return [
        *shares,
        Argued("summed over y: the gradient of E[(A - b)/|y|]", by="summation", uses=("logit of another", "logit of the response")),
        Equal("two responses: what the baseline adds", drift, by_logit(mean(pi, [-baseline * x for x in token]), w)),
        Iff(
            "the baseline adds nothing",
            drift,
            sp.S.Zero,
            baseline * pi[0] * pi[1] / (len_w * len_l),
            (len_w - len_l,),
            {w: 1, w_1: 1, baseline: 1, len_w: 1, len_l: 2},
        ),
    ]  # fmt: skip
