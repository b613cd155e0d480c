"""THEORY 3.2 to 3.4: policy-gradient estimators, the entropy bonus without gradient, and which KL is for what."""

import itertools
from functools import partial

import sympy as sp

from derivations.advantages import group_mean, standardized
from derivations.arrays import log_softmax
from derivations.objectives import kl_estimate, kl_k1, kl_k2, kl_k3, rloo_advantage
from derivations.proofs.symbols import by_logit, mean, normalized, p, positives, q, reals, rest
from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, Differs, Equal, Iff, Positive, Step
from derivations.prover.symbolic import SymArray
from derivations.prover.tracing import trace, traced_array
from derivations.regularizers import KL, Entropy, ForwardKL

epsilon = sp.Symbol("epsilon", positive=True)
logp, ref_logp = sp.symbols("logp ref_logp", real=True)
others_of_k = sp.Symbol("others", positive=True, integer=True)
any_k = others_of_k + 1  # samples of one prompt, at least two


@claim(
    "rloo-unbiased",
    "The leave-one-out advantage is the reward minus the mean of the others, and its policy gradient is unbiased.",
    latex=r"E\Big[\tfrac1k\sum_i A_i \nabla\log\pi(y_i)\Big] = \nabla E_\pi[r]",
    source="THEORY 3.2; arXiv:2402.14740",
    scope="the code for k = 2, 3, 4, 8, the formula for any k; unbiasedness decided for two responses with k = 2, 3, in general "
    "by independence",
    depends_on=("score-mean-zero",),
)
def rloo_unbiased() -> list[Step]:
    steps: list[Step] = []
    for k in (2, 3, 4, 8):
        rewards = reals("r", k)
        advantage = traced_array(rloo_advantage, rewards).values
        others = sum(rewards[1:]) / (k - 1)
        steps.append(Equal(f"k = {k}: minus the mean of the others", advantage[0], rewards[0] - others))
        steps.append(Equal(f"k = {k}: they sum to 0", sum(advantage), sp.S.Zero))
    r, total = reals("r", 2)
    steps.append(
        Equal("any k", (r - total / any_k) * any_k / (any_k - 1), r - (total - r) / (any_k - 1), every=(others_of_k,))
    )
    weights, rewards = positives("w", 2), reals("r", 2)
    policy = normalized(weights)
    score = [1 - policy[0], -policy[0]]  # d log pi(y) / d logit_1
    for samples in (2, 3):
        expected: sp.Expr = sp.S.Zero
        for sample in itertools.product((0, 1), repeat=samples):
            advantage = traced_array(rloo_advantage, [rewards[y] for y in sample]).values
            chance = sp.prod([policy[y] for y in sample])
            expected += chance * sum(a * score[y] for a, y in zip(advantage, sample, strict=True)) / samples
        steps.append(
            Equal(f"k = {samples}: mean over all samples", expected, by_logit(mean(policy, rewards), weights[0]))
        )
    return [
        *steps,
        Argued(
            "the mean of the others is independent of y_i: a baseline like any other",
            by="baseline",
            uses=("any k", "score-mean-zero"),
        ),
    ]


@claim(
    "group-mean-shrinks",
    "The group-mean advantage is (k - 1) / k times the leave-one-out advantage, so its policy gradient is that multiple too.",
    latex=r"r_i - \bar r = \frac{k-1}{k}\Big(r_i - \tfrac{1}{k-1}\sum_{j\ne i} r_j\Big)",
    source="THEORY 3.2",
    scope="the code for groups of 2, 3 and 4 (GRPO's division: of 2 and 3), the formula with k a symbol; about rewards alone",
    depends_on=("rloo-unbiased",),
)
def group_mean_shrinks() -> list[Step]:
    steps: list[Step] = []
    for k in (2, 3, 4):
        rewards = reals("r", k)
        advantage = traced_array(rloo_advantage, rewards).values[0]
        centred = traced_array(group_mean, rewards).values[0]
        steps += [
            Equal(f"k = {k}", centred, sp.Rational(k - 1, k) * advantage),
            Equal(f"k = {k}: the code is the reward minus the mean of all", centred, rewards[0] - sum(rewards) / k),
        ]
    r, total = reals("r", 2)
    (gap,) = positives("gap", 1)
    for words, population, square in (("sample", False, 2 * gap**2), ("population", True, gap**2)):
        code = partial(standardized, epsilon=epsilon, population=population)
        value = traced_array(code, [r + gap, r - gap]).values[0]
        steps.append(
            Equal(f"k = 2: GRPO divides it by the {words} deviation", value, gap / (sp.sqrt(square) + epsilon))
        )
        three = traced_array(code, [r + gap, r, r - gap]).values[0]
        square = 2 * gap**2 / (3 if population else 2)
        steps.append(Equal(f"k = 3: by the {words} deviation", three, gap / (sp.sqrt(square) + epsilon)))
    return [
        *steps,
        Equal("any k", r - total / any_k, (any_k - 1) / any_k * (r - (total - r) / (any_k - 1)), every=(others_of_k,)),
    ]


@claim(
    "score-mean-zero",
    "The expected score is zero: E[grad log pi] = 0, so constants times the score drop out of every gradient.",
    latex=r"E_\pi[\nabla\log\pi] = \nabla\sum_y \pi(y) = 0",
    source="used by THEORY 3.2 to 3.4",
    scope="softmax over any finite Y, the responses not written out summed; other policies by the chain rule",
)
def score_mean_zero() -> list[Step]:
    (w,) = positives("w", 1)
    total = w + rest
    own = w / total * (by_logit(sp.log(w / total), w))
    others = rest / total * (by_logit(sp.log(1 / total), w))
    code = traced_array(log_softmax, [sp.log(w), sp.log(rest)]).values
    return [
        Equal("the code's log-softmax is log pi", code[0], sp.log(w / total)),
        Equal("own share", own, w * rest / total**2),
        Equal("the sum over all", own + others, sp.S.Zero),
    ]


@claim(
    "entropy-bonus-without-gradient",
    "Differentiating the mean of -log pi(sample) as it stands gives the gradient of the entropy.",
    latex=r"E_\pi[\nabla(-\log\pi(y))] = 0 \ne \nabla H(\pi)",
    source="THEORY 3.3",
    scope="two responses with weights w_1, w_2; that what it gives is 0 for any finite Y, by score-mean-zero",
    depends_on=("score-mean-zero",),
    expected="refuted",
)
def entropy_bonus_without_gradient() -> list[Step]:
    weights = positives("w", 2)
    policy = normalized(weights)
    logps = [sp.log(pi) for pi in policy]
    direct = mean(policy, [by_logit(-value, weights[0]) for value in logps])
    phi = traced_array(Entropy(SymArray(sp.S.One)).phi, logps).values
    entropy = -sum(phi)
    slope = policy[0] * policy[1] * (logps[1] - logps[0])
    return [
        Equal("what automatic differentiation averages", direct, sp.S.Zero),
        Equal("the true gradient, two responses: p (1 - p) log((1 - p) / p)", by_logit(entropy, weights[0]), slope),
        Iff(
            "the gradient of the entropy is what differentiating the mean of -log pi(sample) gives",
            by_logit(entropy, weights[0]),
            direct,
            policy[0] * policy[1],
            (sp.log(weights[1]) - sp.log(weights[0]),),
            {weights[0]: sp.Integer(2), weights[1]: sp.S.One},
        ),
        Argued("for any finite Y the mean of -grad log pi is 0", by="summation", uses=("score-mean-zero",)),
    ]


@claim(
    "kl-estimator-values",
    "k1 and k3 are unbiased for KL(pi || pi_ref), k3 is never negative, and k2 is biased.",
    latex=r"E_\pi[k_1] = E_\pi[k_3] = \mathrm{KL}(\pi\|q),\quad k_3 \ge 0",
    hypotheses="pi > 0 wherever q > 0, as for a softmax (otherwise the mean of k3 misses the mass of q that pi never visits)",
    source="THEORY 3.4; Schulman, Approximating KL divergence (2020)",
    scope="any countable Y: one response's share, then summed; exact counterexample for k2",
    depends_on=("kl-nonnegative",),
)
def kl_estimator_values() -> list[Step]:
    phi = trace(KL(SymArray(sp.S.One)).phi, sp.log(p), ref_logp=sp.log(q))
    k1, k2, k3 = (trace(k, sp.log(p), sp.log(q)) for k in (kl_k1, kl_k2, kl_k3))
    rho = q / p
    return [
        Equal("k1: its share of the mean is KL's", p * k1, phi),
        Equal("k3: its share of the mean is KL's plus q - p", p * k3, phi + q - p),
        Argued("summed over y: q - p adds up to 0", by="summation", uses=("k3: its share",)),
        Equal("k3 = rho - 1 - log rho", k3, rho - 1 - sp.log(rho)),
        Equal("its value at rho = 1 is 0", k3, sp.S.Zero, {q: p}),
        Equal("and its slope at rho = 1, too", sp.diff(k3, q), sp.S.Zero, {q: p}),
        Positive("and it is convex in q: never negative", sp.diff(k3, q, 2)),
        Equal("k2 = (log rho)^2 / 2", k2, sp.log(rho) ** 2 / 2),
        Differs(
            "pi = (1/2, 1/2), q = (1/4, 3/4): mean of k2 against KL",
            k2.subs(q, q / 2) / 2 + k2.subs(q, 3 * q / 2) / 2,
            phi.subs(q, q / 2) + phi.subs(q, 3 * q / 2),
            {p: sp.Rational(1, 2), q: sp.Rational(1, 2)},
        ),
    ]


@claim(
    "kl-estimators-as-loss",
    "Differentiated directly, k1 has zero expected gradient, k2 that of KL(pi || q), and k3 that of the other KL, KL(q || pi).",
    latex=r"E[\nabla k_1] = 0,\quad E[\nabla k_2] = \nabla\mathrm{KL}(\pi\|q),\quad E[\nabla k_3] = \nabla\mathrm{KL}(q\|\pi)",
    source="THEORY 3.4",
    scope="any finite Y: the coefficient of grad log pi(y), up to constants (score-mean-zero); two responses written out",
    depends_on=("score-mean-zero",),
)
def kl_estimators_as_loss() -> list[Step]:
    one = SymArray(sp.S.One)
    right = trace(KL(one).phi, logp, ref_logp=ref_logp)  # a response's share of KL(pi || q), as a function of log pi
    other = trace(ForwardKL(one).phi, logp, ref_logp=ref_logp)  # of KL(q || pi)
    pi = sp.exp(logp)
    k1, k2, k3 = (sp.diff(trace(k, logp, ref_logp), logp) for k in (kl_k1, kl_k2, kl_k3))
    steps: list[Step] = [
        Equal("k1: the same constant for every response", k1, sp.S.One),
        Equal("k2: pi k2' is the share of KL(pi || q), up to pi times a constant", pi * k2, sp.diff(right, logp) - pi),
        Equal("k3: pi k3' is the share of KL(q || pi), up to pi times a constant", pi * k3, sp.diff(other, logp) + pi),
    ]
    return [*steps, *_two_responses({"k1": (kl_k1, 0), "k2": (kl_k2, 1), "k3": (kl_k3, 2)}, detached=False)]


def _two_responses(cases: dict[str, tuple], *, detached: bool) -> list[Step]:
    """Expected gradient by the first logit, two responses with any reference, against the exact gradients."""
    weights, references = positives("w", 2), positives("k", 2)
    policy, ref = normalized(weights), normalized(references)
    one = SymArray(sp.S.One)
    logps, refs = [sp.log(pi) for pi in policy], [sp.log(x) for x in ref]
    scores = [by_logit(value, weights[0]) for value in logps]
    right = by_logit(sum(traced_array(KL(one).phi, logps, ref_logp=refs).values), weights[0])
    other = by_logit(sum(traced_array(ForwardKL(one).phi, logps, ref_logp=refs).values), weights[0])
    truth = (sp.S.Zero, right, other, right - other)
    steps: list[Step] = []
    for name, (function, which) in cases.items():
        values = traced_array(function, logps, refs).values
        if detached:
            per_sample = [value * score for value, score in zip(values, scores, strict=True)]
        else:
            per_sample = [by_logit(value, weights[0]) for value in values]
        steps.append(Equal(f"{name}, two responses", mean(policy, per_sample), truth[which]))
    return steps


@claim(
    "kl-estimators-as-reward",
    "As a detached reward penalty k1 is exact, and k3 gives grad KL(pi || q) - grad KL(q || pi).",
    latex=r"E[k_1\nabla\log\pi] = \nabla\mathrm{KL}(\pi\|q),\quad "
    r"E[k_3\nabla\log\pi] = \nabla\mathrm{KL}(\pi\|q) - \nabla\mathrm{KL}(q\|\pi)",
    source="THEORY 3.4",
    scope="any finite Y: the coefficient of grad log pi(y), up to constants (score-mean-zero); two responses written out",
    depends_on=("score-mean-zero",),
)
def kl_estimators_as_reward() -> list[Step]:
    one = SymArray(sp.S.One)
    right = sp.diff(trace(KL(one).phi, logp, ref_logp=ref_logp), logp)
    other = sp.diff(trace(ForwardKL(one).phi, logp, ref_logp=ref_logp), logp)
    pi = sp.exp(logp)
    k1, k3 = (trace(k, logp, ref_logp) for k in (kl_k1, kl_k3))
    steps: list[Step] = [
        Equal("k1: pi k1 is the share of KL(pi || q), up to pi times a constant", pi * k1, right - pi),
        Equal(
            "k3: pi k3 is the difference of the two shares, up to pi times a constant", pi * k3, right - other - 2 * pi
        ),
    ]
    return [*steps, *_two_responses({"k1": (kl_k1, 1), "k3": (kl_k3, 3)}, detached=True)]


@claim(
    "kl-estimate-by-role",
    "`kl_estimate` uses k3 to report, k1 as a reward and k2 as a loss.",
    latex=r"\text{metric}: k_3,\quad \text{reward}: k_1,\quad \text{loss}: k_2",
    source="THEORY 3.4",
    scope="any sample",
    depends_on=("kl-estimator-values", "kl-estimators-as-loss", "kl-estimators-as-reward"),
)
def kl_estimate_by_role() -> list[Step]:
    log_rho = ref_logp - logp
    return [
        Equal("metric", trace(kl_estimate, logp, ref_logp, role="metric"), sp.exp(log_rho) - 1 - log_rho),
        Equal("reward", trace(kl_estimate, logp, ref_logp, role="reward"), -log_rho),
        Equal("loss", trace(kl_estimate, logp, ref_logp, role="loss"), log_rho**2 / 2),
    ]
