"""THEORY 2.8: Plackett-Luce rankings."""

import itertools

import sympy as sp

from derivations.objectives import pair_loss, ranking_loss
from derivations.preferences import bradley_terry, plackett_luce
from derivations.proofs.symbols import gamma, normalized, positives, r_l, r_w, rest, sigmoid
from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, Equal, Positive, Step
from derivations.prover.tracing import trace


def log_probability(weights: tuple[sp.Expr, ...], top: int | None = None) -> sp.Expr:
    """Traced log-probability of this order, in weights e^s (so that claims become rational functions)."""
    return trace(plackett_luce, [sp.log(w) for w in weights], top=top)


def probability(weights: tuple[sp.Expr, ...], top: int | None = None) -> sp.Expr:
    return sp.exp(log_probability(weights, top))


@claim(
    "plackett-luce-normalized",
    "Plackett-Luce probabilities of all rankings sum to 1.",
    latex=r"\sum_\rho \prod_k \frac{e^{s_{\rho_k}}}{\sum_{j\ge k} e^{s_{\rho_j}}} = 1",
    source="THEORY 2.8; Plackett 1975",
    scope="2, 3, 4 responses enumerated; the recursion decided for the code with 3 to 6 responses; any number by induction on it",
)
def plackett_luce_normalized() -> list[Step]:
    steps: list[Step] = []
    (a,) = positives("w", 1)
    for m in (2, 3, 4):
        orders = list(itertools.permutations(positives("w", m)))
        steps.append(Equal(f"m = {m}: all {len(orders)} rankings", sum(map(probability, orders)), sp.S.One))
    for m in (3, 4, 5, 6):
        weights = positives("w", m)
        first_place = weights[0] / sum(weights)
        steps.append(
            Equal(
                f"m = {m}: the first place takes w/W, the rest is a ranking of m - 1",
                probability(weights),
                first_place * probability(weights[1:]),
            )
        )
    return [
        *steps,
        Equal(
            "the first-place shares of one response and of all others (`rest`) sum to 1, whatever their number",
            a / (a + rest) + rest / (a + rest),
            sp.S.One,
            every=(rest,),
        ),
        Argued(
            "the rankings of the other m - 1 sum to 1, times first-place shares that sum to 1",
            by="induction",
            uses=("m = 2:", "m = 3: the first place", "the first-place shares"),
        ),
    ]


@claim(
    "plackett-luce-bradley-terry",
    "Two responses give Bradley-Terry, and pairwise marginals of a ranking are Bradley-Terry.",
    latex=r"P(a \succ b) = \frac{w_a}{w_a + w_b}",
    source="THEORY 2.8",
    scope="2, 3 and 4 responses enumerated; any number by induction, one response more being decided",
    depends_on=("plackett-luce-normalized",),
)
def plackett_luce_bradley_terry() -> list[Step]:
    steps: list[Step] = [Equal("two responses", trace(plackett_luce, [r_w, r_l]), trace(bradley_terry, r_w, r_l))]
    for m in (3, 4):
        weights = positives("w", m)
        ahead = [o for o in itertools.permutations(weights) if o.index(weights[0]) < o.index(weights[1])]
        marginal = sum(map(probability, ahead))
        steps.append(Equal(f"marginal of {m} responses", marginal, weights[0] / (weights[0] + weights[1])))
    a, b = positives("w", 2)
    return [
        *steps,
        Equal(
            "induction: a comes first, or one of the others does (weight `rest`) and a beats b among those left",
            a / (a + b + rest) + rest / (a + b + rest) * a / (a + b),
            a / (a + b),
            every=(rest,),
        ),
        Argued(
            "so for any number of responses, by induction on the others",
            by="induction",
            uses=("two responses", "induction: a comes first", "plackett-luce-normalized"),
        ),
    ]


@claim(
    "plackett-luce-top-k",
    "A ranking of three or four responses whose first places alone were seen has the first factors as its probability.",
    latex=r"P(\rho_1 \dots \rho_k) = \prod_{i \le k} \frac{w_{\rho_i}}{\sum_{j \ge i} w_{\rho_j}}",
    source="THEORY 2.8",
    scope="3 and 4 responses enumerated; more by the sum over completions, argued",
    depends_on=("plackett-luce-normalized",),
)
def plackett_luce_top_k() -> list[Step]:
    steps: list[Step] = []
    for m, top in ((3, 1), (4, 1), (4, 2)):
        weights = positives("w", m)
        total = sum(probability(weights[:top] + tail) for tail in itertools.permutations(weights[top:]))
        steps.append(Equal(f"m = {m}, top {top}: all completions", probability(weights, top), total))
    return [
        *steps,
        Argued(
            "in general the first k factors come out of the sum, and what is left sums to 1",
            by="summation",
            uses=("plackett-luce-normalized",),
        ),
    ]


@claim(
    "plackett-luce-convex",
    "The ranking loss of up to four responses is convex in the scores, its curvature a sum of squared differences; so is the pair loss.",
    latex=r"\frac{d^2}{dt^2}\log\sum_j e^{s_j + t v_j}\Big|_0 = \sum_{i<j} p_i p_j (v_i - v_j)^2",
    source="THEORY 3.1, convexity",
    scope="log-sum-exp of 2, 3 and 4 scores in every direction; the pair loss",
)
def plackett_luce_convex() -> list[Step]:
    steps: list[Step] = []
    t = sp.Symbol("t", real=True)
    for m in (2, 3, 4):
        weights, direction = positives("w", m), [sp.Symbol(f"v_{i}", real=True) for i in range(m)]
        scores = [sp.log(w) + t * d for w, d in zip(weights, direction, strict=True)]
        # the loss with only the first place seen is log-sum-exp minus a linear term
        curvature = sp.diff(trace(ranking_loss, scores, top=1), t, 2).subs(t, 0)
        pi = normalized(weights)
        squares = sum(
            pi[i] * pi[j] * (direction[i] - direction[j]) ** 2 for i, j in itertools.combinations(range(m), 2)
        )
        steps.append(Equal(f"m = {m}: curvature in direction v", curvature, squares))
    d = sp.Symbol("d", real=True)
    pair = trace(pair_loss, d, sp.S.Zero, gamma=gamma)
    return [
        *steps,
        Equal(
            "pair loss with margin: the curvature is sigma(m) sigma(-m), m = d - gamma",
            sp.diff(pair, d, 2),
            sigmoid(d - gamma) * sigmoid(gamma - d),
        ),
        Positive("pair loss with margin: second derivative in the difference", sp.diff(pair, d, 2)),
        Argued(
            "sums of squares with positive weights are >= 0, and the factors of a ranking add up",
            by="convex sums",
            uses=("m = 2: curvature", "m = 3: curvature", "m = 4: curvature"),
        ),
    ]
