"""THEORY section 1: the implicit reward is the derivative of the regularizer, and the multiplier cancels."""

import sympy as sp

from derivations.checks import Argued, Equal, Positive, Step, TendsTo
from derivations.claims import claim
from derivations.objectives import (
    OBJECTIVES,
    Objective,
    dpo,
    dpo_pl,
    make_objective,
    maxent,
    maxent_pl,
    pair_loss,
    ranking_loss,
    shaped_reward,
    simpo,
    simpo_pl,
)
from derivations.proofs.tools import (
    alpha,
    beta,
    gamma,
    length,
    p,
    positives,
    q,
    r_l,
    r_w,
    reals,
    shift,
    trace,
)
from derivations.regularizers import KL, Entropy, LengthNormalized, LengthNormalizedShannon, Regularizer, Sum
from derivations.symbolic import SymArray

A, B = SymArray(alpha), SymArray(beta)
# The regularizers with symbolic strength: (id, object, what it is called in a sentence)
SYMBOLIC: tuple[tuple[str, Regularizer, str], ...] = (
    ("entropy", Entropy(A), "Shannon entropy"),
    ("kl", KL(B), "KL to the reference"),
    ("length-normalized", LengthNormalized(B), "length-normalized generalized entropy"),
    ("length-normalized-shannon", LengthNormalizedShannon(B), "length-normalized Shannon entropy"),
    ("sum", Sum((Entropy(A), KL(B), LengthNormalized(SymArray(gamma)))), "a sum of regularizers"),
)


def phi_and_reward(regularizer: Regularizer) -> tuple[sp.Expr, sp.Expr]:
    """Traced phi and s at log p, reference log q, length len."""
    options = {"length": length, "ref_logp": sp.log(q)}
    return trace(regularizer.phi, sp.log(p), **options), trace(regularizer.implicit_reward, sp.log(p), **options)


def _register_regularizer(name: str, regularizer: Regularizer, words: str) -> None:
    @claim(
        f"implicit-reward-{name}",
        f"The implicit reward of {words} is the derivative of its phi, and phi meets the master theorem's conditions.",
        latex=r"s(y) = \phi_y'(\pi(y)),\quad \phi_y'' > 0,\quad \phi_y'(0+) = -\infty",
        source="THEORY 1, table",
        scope="any response set: a statement about one response",
    )
    def steps() -> list[Step]:
        phi, s = phi_and_reward(regularizer)
        constant = regularizer.constant
        ratio = sp.Symbol("t", positive=True)
        return [
            Equal("s is the derivative of phi", s, sp.diff(phi, p), unit=frozenset({p})),
            Equal(
                "score + constant is s, and the constant does not depend on the response",
                trace(regularizer.score, sp.log(p), length=length, ref_logp=sp.log(q)),
                s - (constant.item() if isinstance(constant, SymArray) else sp.nsimplify(constant)),
            ),
            Positive("phi is strictly convex", sp.diff(phi, p, 2)),
            TendsTo(
                "the slope at 0 is -oo", s.subs({q: 1, length: 1, beta: 1, alpha: 1, gamma: 1}), p, sp.S.Zero, -sp.oo
            ),
            Equal(
                "the slope falls by a multiple of log t when p shrinks by t, whatever q, length and strengths",
                s - s.subs(p, p / ratio),
                sp.log(ratio) * p * sp.diff(phi, p, 2),
            ),
            Argued(
                "so the limit -oo, decided at unit parameters, holds for all of them: a positive multiple of log p diverges"
            ),
        ]


for _name, _regularizer, _words in SYMBOLIC:
    _register_regularizer(_name, _regularizer, _words)


@claim(
    "master-theorem",
    "The regularized optimum exists, is unique and interior, and satisfies r = s + lambda with one multiplier per prompt.",
    latex=r"\arg\max_\pi E_\pi[r] - \sum_y \phi_y(\pi(y)) \iff r(y) = s(y) + \lambda(x)",
    hypotheses="Y finite with at least two responses; phi_y strictly convex, C^1 on (0, 1), phi_y'(0+) = -oo",
    source="THEORY 1, master theorem",
    scope="finite Y, any size (one-variable identity, sum argued); stationarity written out for n = 2, 3, 4",
    depends_on=tuple(f"implicit-reward-{name}" for name, _, _ in SYMBOLIC),
)
def master_theorem() -> list[Step]:
    steps: list[Step] = []
    for name, regularizer, _ in SYMBOLIC[:4]:
        phi, s = phi_and_reward(regularizer)
        for n in (2, 3, 4):
            probabilities, rewards = positives("p", n), reals("r", n)
            penalty = sum(phi.subs(p, pi) for pi in probabilities)
            lagrangian = sum(pi * ri for pi, ri in zip(probabilities, rewards, strict=True)) - penalty
            lagrangian -= shift * (sum(probabilities) - 1)
            steps.append(
                Equal(
                    f"{name}, n = {n}: dL/dp_1 = r_1 - s_1 - lambda",
                    rewards[0] - s.subs(p, probabilities[0]) - shift,
                    sp.diff(lagrangian, probabilities[0]),
                )
            )
    return [
        *steps,
        Argued(
            "J is continuous on a compact simplex where phi(0) is finite; where it is +oo, J = -oo there: a maximizer exists"
        ),
        Argued(
            "J is a linear function minus a sum of strictly convex ones, so strictly concave: the maximizer is unique"
        ),
        Argued(
            "it is interior: from a point with p_y = 0 move mass to y; the derivative of J in that direction is "
            "+oo because phi_y'(0+) = -oo, while the other slopes stay finite or help"
        ),
        Argued(
            "an interior maximizer is stationary for the Lagrangian: r = s + lambda; by concavity the converse holds"
        ),
        Argued("so every interior pi maximizes J for the reward r = s: take lambda = 0"),
    ]


@claim(
    "multiplier-cancels",
    "Losses see only reward differences within a prompt, so the multiplier lambda(x) drops out of every one of them.",
    latex=r"r(w) - r(l) = s(w) - s(l)",
    source="THEORY 1, consequence; the offline reading",
    scope="any response set (pairs); rankings of 2 to 4 responses, and any length by the recursion of plackett-luce-normalized",
)
def multiplier_cancels() -> list[Step]:
    steps: list[Step] = [
        Equal(
            "pair loss with margin",
            trace(pair_loss, r_w + shift, r_l + shift, gamma=gamma),
            trace(pair_loss, r_w, r_l, gamma=gamma),
        )
    ]
    for m in (2, 3, 4):
        rewards = reals("r", m)
        shifted = [reward + shift for reward in rewards]
        steps.append(Equal(f"ranking loss, m = {m}", trace(ranking_loss, shifted), trace(ranking_loss, rewards)))
    return steps


@claim(
    "online-gradient",
    "The policy gradient of the regularized objective is that of the shaped reward r - s.",
    latex=r"\nabla J = E_\pi[(r - s)\,\nabla \log \pi]",
    source="THEORY 1, online reading; 3.2",
    scope="softmax policies over n = 2 and 3 responses, exact; other parametrizations by the chain rule",
    depends_on=tuple(f"implicit-reward-{name}" for name, _, _ in SYMBOLIC),
)
def online_gradient() -> list[Step]:
    steps: list[Step] = []
    for name, regularizer, _ in SYMBOLIC:
        for n in (2, 3):
            weights, rewards, references = positives("w", n), reals("r", n), positives("q", n)
            lengths = [sp.Symbol(f"len_{i}", positive=True, integer=True) for i in range(n)]
            total = sum(weights)
            policy = [w / total for w in weights]
            logps = [sp.log(w) - sp.log(total) for w in weights]
            options = {"length": lengths, "ref_logp": [sp.log(reference) for reference in references]}
            phi = regularizer.phi(SymArray(logps), **{k: SymArray(x) for k, x in options.items()})
            objective = sum(pi * ri for pi, ri in zip(policy, rewards, strict=True)) - sum(phi.values)
            shaped = shaped_reward(
                SymArray(rewards),
                SymArray(logps),
                regularizer=regularizer,
                **{k: SymArray(x) for k, x in options.items()},
            ).values
            score = [(1 if i == 0 else 0) - policy[0] for i in range(n)]  # d log pi_i / d logit_1
            steps.append(
                Equal(
                    f"{name}, n = {n}",
                    sum(pi * a * g for pi, a, g in zip(policy, shaped, score, strict=True)),
                    weights[0] * sp.diff(objective, weights[0]),  # d/d logit = w d/dw
                )
            )
    return steps


@claim(
    "objectives-by-name",
    "The objective a trainer holds under a name computes the very loss function of that name.",
    latex=r"\ell_{\text{name}} = -\log P(\text{observed} \mid r = s)",
    source="THEORY 1, offline reading; the table of named objectives",
    scope="strength 2 and margin 1/2; pairs, and rankings of 3 responses",
    depends_on=("maxent-bradley-terry", "dpo-objective", "simpo-objective", "listwise-objectives"),
)
def objectives_by_name() -> list[Step]:
    pair, three = _responses(2), _responses(3)
    half = sp.Rational(1, 2)
    (logps, lengths, references), (logps_3, lengths_3, references_3) = pair, three
    refs = {"ref_chosen_logp": references[0], "ref_rejected_logp": references[1]}
    lens = {"chosen_length": lengths[0], "rejected_length": lengths[1]}
    named = {
        "maxent": trace(maxent, *logps, alpha=sp.Integer(2)),
        "dpo": trace(dpo, *logps, **refs, beta=sp.Integer(2)),
        "simpo": trace(simpo, *logps, **lens, beta=sp.Integer(2), gamma=half),
        "maxent-pl": trace(maxent_pl, logps_3, alpha=sp.Integer(2)),
        "dpo-pl": trace(dpo_pl, logps_3, ref_logp=references_3, beta=sp.Integer(2)),
        "simpo-pl": trace(simpo_pl, logps_3, length=lengths_3, beta=sp.Integer(2)),
    }
    steps: list[Step] = []
    for name, (_, strength, takes_margin, listwise) in OBJECTIVES.items():
        objective = make_objective(name, **{strength: 2.0}, gamma=0.5 if takes_margin else None)
        held = _held_loss(objective, *(three if listwise else pair))
        steps.append(Equal(f"{name}: what the trainer computes", held, named[name]))
    return steps


def _responses(m: int) -> tuple[tuple[sp.Expr, ...], tuple[sp.Expr, ...], tuple[sp.Expr, ...]]:
    """Log-probs, lengths and reference log-probs of m responses."""
    return reals("logp", m), positives("len", m), reals("ref", m)


def _held_loss(objective: Objective, *arrays: tuple[sp.Expr, ...]) -> sp.Expr:
    logps, lengths, references = map(SymArray, arrays)
    return objective.loss(objective.rewards(logps, length=lengths, ref_logp=references)).item()
