"""THEORY section 1: the regularized optimum, its multiplier, and what fails without the conditions."""

import sympy as sp

from derivations.objectives import ipo_loss, pair_loss, ranking_loss, shaped_reward
from derivations.proofs.regularizers import TEXTS, UNIT, forms, phi_and_reward, symbolic_sum
from derivations.proofs.symbols import (
    alpha,
    beta,
    by_logit,
    epsilon_odds,
    gamma,
    length,
    order,
    p,
    positives,
    q,
    r,
    r_l,
    r_w,
    reals,
    rest,
    shift,
)
from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, Differs, Equal, Positive, Step, TendsTo
from derivations.prover.symbolic import SymArray
from derivations.prover.tracing import trace
from derivations.regularizers import Entropy, Regularizer

REGULARIZER_CLAIMS = tuple(f"implicit-reward-{name}" for name in (*TEXTS, "sum"))


def every_regularizer() -> dict[str, Regularizer]:
    """All of them by name, and a sum."""
    return {name: form.regularizer for name, form in forms().items()} | {"sum": symbolic_sum()}


@claim(
    "master-theorem",
    "The regularized optimum, which exists and is unique and interior by argument, satisfies r = s + lambda with one "
    "multiplier per prompt.",
    latex=r"\arg\max_\pi E_\pi[r] - \sum_y \phi_y(\pi(y)) \iff r(y) = s(y) + \lambda(x)",
    hypotheses="Y finite with at least two responses; phi_y strictly convex, C^1 on (0, 1), phi_y'(0+) = -oo, continuous at 1",
    source="THEORY 1, master theorem",
    scope="finite Y: one response at a time, each with its own reference and length, the others in `others`; stationarity "
    "decided, existence, uniqueness and interiority argued",
    depends_on=REGULARIZER_CLAIMS,
)
def master_theorem() -> list[Step]:
    others = sp.Symbol("others", real=True)  # what the Lagrangian says about all other responses
    steps: list[Step] = []
    for name, regularizer in every_regularizer().items():
        phi, s = phi_and_reward(regularizer)
        lagrangian = p * r - phi - shift * p + others
        steps.append(Equal(f"{name}: dL/dp_y = r_y - s_y - lambda", r - s - shift, sp.diff(lagrangian, p), unit=UNIT))
    return [
        *steps,
        Argued(
            "the simplex is compact, J continuous where phi(0) and the slope at 1 are finite, and J = -oo where phi(0) = "
            "+oo, so J is upper semicontinuous: a maximizer exists",
            by="extreme value",
            uses=REGULARIZER_CLAIMS,
        ),
        Argued(
            "J is a linear function minus a sum of strictly convex ones, so strictly concave: the maximizer is unique",
            by="strict concavity",
            uses=REGULARIZER_CLAIMS,
        ),
        Argued(
            "it is interior: from a point with p_y = 0 move mass to y; the derivative of J in that direction is "
            "+oo because phi_y'(0+) = -oo, while the other slopes stay finite or help",
            by="first order",
            uses=REGULARIZER_CLAIMS,
        ),
        Argued(
            "an interior maximizer is stationary for the Lagrangian: r = s + lambda; by concavity the converse holds",
            by="first order",
            uses=("entropy: dL/dp_y",),
        ),
        Argued(
            "so every interior pi maximizes J for the reward r = s: take lambda = 0",
            by="first order",
            uses=("entropy: dL/dp_y",),
        ),
    ]


@claim(
    "interior-needs-barrier",
    "With a finite slope phi'(0+), as of chi-square, the optimum still satisfies r = s + lambda for every response.",
    latex=r"f(u) = \tfrac12(u-1)^2,\quad f'(0+) = -1 > -\infty",
    source="THEORY 1, end: what follows if a condition fails",
    scope="exact counterexample with two responses; the inequality for any finite Y",
    expected="refuted",
)
def interior_needs_barrier() -> list[Step]:
    s = beta * (p / q - 1)
    reward = sp.Symbol("r_1", real=True)
    # two responses with q = 1/2 and beta = 1, reward r_1 against 0, policy (p, 1 - p)
    value = reward * p - sp.Rational(1, 4) * ((2 * p - 1) ** 2 + (1 - 2 * p) ** 2)
    odds, excess, u = sp.symbols("odds excess u", positive=True)
    slope = sp.diff(value, p)
    half = {q: sp.Rational(1, 2), beta: 1}
    # at the corner p = 1: r_1 - s_1 and 0 - s_2
    first, second = reward - s.subs({p: 1, **half}), -s.subs({p: 0, **half})
    return [
        Equal("s is the derivative of chi-square's phi", s, sp.diff(beta * q * (p / q - 1) ** 2 / 2, p)),
        TendsTo("the slope at 0 is finite: no barrier", s.subs({q: 1, beta: 1}), p, sp.S.Zero, sp.S.NegativeOne),
        Equal("chi-square is the divergence of order -1", ((1 - u ** (-order)) / order).subs(order, -1), u - 1),
        TendsTo("nor is there one for Tsallis index 2, phi = p^2 - p", sp.diff(p**2 - p, p), p, sp.S.Zero, -sp.S.One),
        Equal("J' at reward r_1: r_1 - 2 (2p - 1)", slope, reward - 2 * (2 * p - 1)),
        Positive(
            "r_1 = 2 + excess: J rises on all of (0, 1), p = odds / (1 + odds), so the optimum is the corner p = 1",
            slope.subs({reward: 2 + excess, p: odds / (1 + odds)}),
        ),
        Differs(
            "r_1 = 3, no single multiplier at that corner: r - s of the first response against r - s of the second",
            first,
            second,
            {reward: sp.Integer(3)},
        ),
        Equal(
            "r_1 = 2: still the corner, and r - s is the same for both",
            first,
            second,
            {reward: sp.Integer(2)},
        ),
        Equal(
            "r_1 = 1: an interior optimum, p = 3/4, and r - s is the same for both",
            reward - s.subs(half),
            -s.subs({p: 1 - p, **half}),
            {reward: sp.S.One, p: sp.Rational(3, 4)},
        ),
        Positive("r_1 > 2: the gap is r_1 - 2, so no multiplier fits", (first - second).subs(reward, 2 + excess)),
        Argued(
            "in general r = s + lambda on the support, and off it r_y - s_y(0) <= lambda, as moving mass in must not help",
            by="first order",
            uses=("J' at reward r_1",),
        ),
    ]


@claim(
    "entropy-infinite-responses",
    "On infinitely many responses r = 0 with entropy has no maximizer of finite value.",
    latex=r"\sup_\pi \alpha H(\pi) = \lim_n \alpha\log n = \infty",
    source="THEORY 1, remark on countable Y",
    scope="countably infinite Y",
)
def entropy_infinite_responses() -> list[Step]:
    n = sp.Symbol("n", positive=True)
    phi = trace(Entropy(SymArray(alpha)).phi, -sp.log(n))
    return [
        Equal("J of the uniform policy on n responses is alpha log n", -n * phi, alpha * sp.log(n)),
        TendsTo("which grows without bound (alpha = 1)", -n * phi.subs(alpha, 1), n, sp.oo, sp.oo),
        Argued(
            "so sup J = oo, which no policy of finite J attains; policies of infinite entropy do, and many of them",
            by="limits",
            uses=("which grows without bound",),
        ),
        Equal("and no multiplier exists: s = -lambda would make all p_y equal to e^(-lambda/alpha - 1)",
              trace(Entropy(SymArray(alpha)).phi_prime, -shift / alpha - 1), -shift),
        Argued("infinitely many equal probabilities cannot sum to 1", by="summation", uses=("and no multiplier exists",)),
    ]  # fmt: skip


@claim(
    "multiplier-cancels",
    "Losses see only reward differences within a prompt, so the multiplier lambda(x) drops out of every one of them.",
    latex=r"r(w) - r(l) = s(w) - s(l)",
    source="THEORY 1, consequence; the offline reading",
    scope="any response set (pairs); rankings of 2 to 4 responses; in a ranking of any number, each factor (rest summed)",
)
def multiplier_cancels() -> list[Step]:
    smoothing = {"gamma": gamma, "label_smoothing": 1 / (1 + epsilon_odds)}
    moved, plain = (r_w + shift, r_l + shift), (r_w, r_l)
    steps: list[Step] = [
        Equal("pair loss with margin and smoothing", trace(pair_loss, *moved, **smoothing), trace(pair_loss, *plain, **smoothing)),
        Equal("ipo", trace(ipo_loss, *moved, beta=beta), trace(ipo_loss, *plain, beta=beta)),
    ]  # fmt: skip
    for m in (2, 3, 4):
        rewards = reals("r", m)
        shifted = [reward + shift for reward in rewards]
        steps.append(Equal(f"ranking loss, m = {m}", trace(ranking_loss, shifted), trace(ranking_loss, rewards)))
    factor = sp.exp(r) / (sp.exp(r) + rest)
    moved_factor = sp.exp(r + shift) / (sp.exp(r + shift) + sp.exp(shift) * rest)
    return [
        *steps,
        Equal("one factor of a ranking of any length", moved_factor, factor, every=(rest,)),
        Argued(
            "the loss of a longer ranking is the sum of -log of such factors, as for 2 to 4 responses",
            by="summation",
            uses=("one factor of a ranking",),
        ),
    ]


@claim(
    "online-gradient",
    "The policy gradient of the regularized objective is that of the shaped reward r - s, whatever the baseline.",
    latex=r"\nabla J = E_\pi[(r - s - b)\,\nabla \log \pi]",
    source="THEORY 1, online reading; 3.2",
    scope="softmax policies over any finite Y: each response's share, with the rest summed; other policies by the chain rule",
    depends_on=REGULARIZER_CLAIMS,
)
def online_gradient() -> list[Step]:
    w, w_1 = positives("w", 2)  # of the response y, and of the one whose logit moves
    total = w + w_1 + rest
    options = {"length": length, "ref_logp": sp.log(q)}
    b = sp.Symbol("b", real=True)
    steps: list[Step] = []
    for name, regularizer in every_regularizer().items():
        for case, pi, moving, score in (
            ("another response", w / total, w_1, -w_1 / total),
            ("the response itself", w / total, w, 1 - w / total),
        ):
            logp = sp.log(pi)
            share = pi * r - trace(regularizer.phi, logp, **options)
            shaped = trace(shaped_reward, r, logp, regularizer=regularizer, **options)
            constant = trace(regularizer.phi_prime, logp, **options) - trace(
                regularizer.implicit_reward, logp, **options
            )
            steps.append(
                Equal(
                    f"{name}, logit of {case}: its share of dJ is pi (r - s) d log pi",
                    pi * (shaped - constant) * score,
                    by_logit(share, moving),
                    unit=frozenset(UNIT),
                )
            )
    return [
        *steps,
        Equal(
            "a baseline adds b times sum_y d pi_y = 0 (the responses not written out have weight `rest`)",
            b * (w_1 / total * (1 - w_1 / total) - w_1 / total * (w + rest) / total),
            sp.S.Zero,
        ),
        Argued(
            "summed over y; the constant that `implicit_reward` leaves out is such a baseline",
            by="summation",
            uses=("a baseline adds b times",),
        ),
    ]
