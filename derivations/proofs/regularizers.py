"""THEORY 1, table: the implicit reward of each regularizer is the derivative of its phi."""

from dataclasses import dataclass
from functools import partial

import sympy as sp

from derivations.proofs.symbols import alpha, beta, gamma, length, order, p, positives, q
from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, Equal, Positive, Step, TendsTo
from derivations.prover.symbolic import SymArray
from derivations.prover.tracing import trace
from derivations.regularizers import (
    KL,
    AlphaDivergence,
    Entropy,
    ForwardKL,
    JensenShannon,
    LengthNormalized,
    LengthNormalizedShannon,
    Regularizer,
    Sum,
)

UNIT = frozenset({p, order})


@dataclass(frozen=True)
class Form:
    """A regularizer with symbolic strength, and what we say about it by hand.

    s = `strength` times a function of p/q (`ratio`) or of p alone. at_zero: phi(0+) where strength, q and
    the order are 1, 1 and 1/2.
    """

    regularizer: Regularizer
    strength: sp.Expr
    ratio: bool
    by_hand: sp.Expr
    at_zero: sp.Expr


def forms() -> dict[str, Form]:
    """The regularizers by name; made anew on each call, so that nothing of the ground floor runs at import."""
    a, b = SymArray(alpha), SymArray(beta)
    log_u, half = sp.log(p / q), sp.Rational(1, 2)
    per_token = beta / length
    return {
        "entropy": Form(Entropy(a), alpha, False, alpha * (sp.log(p) + 1), sp.S.Zero),
        "kl": Form(KL(b), beta, True, beta * (log_u + 1), sp.S.Zero),
        "length-normalized": Form(LengthNormalized(b), per_token, False, per_token * sp.log(p), sp.S.Zero),
        "length-normalized-shannon": Form(
            LengthNormalizedShannon(b),
            per_token,
            False,
            per_token * (sp.log(p) + 1),
            sp.S.Zero,
        ),
        "forward-kl": Form(ForwardKL(b), beta, True, -beta * q / p, sp.oo),
        "jensen-shannon": Form(JensenShannon(b), beta, True, beta * sp.log(2 * p / (p + q)), sp.log(2)),
        "alpha-divergence": Form(
            AlphaDivergence(b, SymArray(order)),
            beta,
            True,
            beta * (1 - sp.exp(-order * log_u)) / order,
            1 / (1 - half),
        ),
    }


def symbolic_sum() -> Regularizer:
    """Entropy + KL + length-normalized entropy + KL once more: four terms, each with its own strength."""
    again = sp.Symbol("beta_2", positive=True)
    return Sum((Entropy(SymArray(alpha)), KL(SymArray(beta)), LengthNormalized(SymArray(gamma)), KL(SymArray(again))))


def phi_and_reward(regularizer: Regularizer) -> tuple[sp.Expr, sp.Expr]:
    """Traced phi and s at log p, reference log q, length len."""
    options = {"length": length, "ref_logp": sp.log(q)}
    return trace(regularizer.phi, sp.log(p), **options), trace(regularizer.phi_prime, sp.log(p), **options)


def derivative_steps(regularizer: Regularizer, by_hand: sp.Expr) -> list[Step]:
    """s is phi', is what the table says, and differs from `implicit_reward` by the same constant for every response."""
    phi, s = phi_and_reward(regularizer)
    other = dict(zip((p, q), positives("other", 2), strict=True)) | {length: sp.Symbol("len_other", positive=True)}
    score = trace(regularizer.implicit_reward, sp.log(p), length=length, ref_logp=sp.log(q))
    return [
        Equal("s is the derivative of phi", s, sp.diff(phi, p), unit=UNIT),
        Equal("s is what the table says", s, by_hand, unit=UNIT),
        Equal(
            "score and s differ by a constant: the same difference between any two responses",
            score - score.subs(other),
            s - s.subs(other),
            unit=UNIT,
        ),
        Positive("phi is strictly convex", sp.diff(phi, p, 2), unit=UNIT),
    ]


def proof(name: str) -> list[Step]:
    """Proof of `implicit-reward-NAME`."""
    form = forms()[name]
    phi, s = phi_and_reward(form.regularizer)
    ones = {q: 1, length: 1, beta: 1, alpha: 1}
    half = {order: sp.Rational(1, 2)}
    ratio = sp.Symbol("ratio", positive=True)
    inside = {p: ratio * q} if form.ratio else {p: ratio}
    return [
        *derivative_steps(form.regularizer, form.by_hand),
        Equal(
            f"s is a positive strength times a function of {'p/q' if form.ratio else 'p'} alone",
            s.subs(inside),
            form.strength * s.subs(ones).subs(p, ratio),
            unit=UNIT,
        ),
        TendsTo("that function falls to -oo at 0 (the order, where there is one, at 1/2)", s.subs(ones).subs(half), p, sp.S.Zero, -sp.oo),
        *([] if name != "alpha-divergence" else [TendsTo("and p^-a -> oo for every order a > 0", p ** (-order), p, sp.S.Zero, sp.oo, unit=UNIT)]),
        TendsTo("phi(0) is its limit there (unit parameters)", phi.subs(ones).subs(half), p, sp.S.Zero, form.at_zero),
        Argued(
            "so phi_y'(0+) = -oo whatever the reference, the length and the strength > 0 are",
            by="limits",
            uses=("s is a positive strength times", "that function falls to -oo"),
        ),
    ]  # fmt: skip


# name -> how a sentence calls it, formula
TEXTS = {
    "entropy": ("Shannon entropy", r"\phi = \alpha p\log p,\quad s = \alpha(\log p + 1)"),
    "kl": ("KL to the reference", r"\phi = \beta p\log\frac{p}{q},\quad s = \beta\left(\log\frac{p}{q} + 1\right)"),
    "length-normalized": (
        "the length-normalized generalized entropy",
        r"\phi = \frac{\beta}{|y|}(p\log p - p),\quad s = \frac{\beta}{|y|}\log p",
    ),
    "length-normalized-shannon": (
        "the length-normalized Shannon entropy",
        r"\phi = \frac{\beta}{|y|}p\log p,\quad s = \frac{\beta}{|y|}(\log p + 1)",
    ),
    "forward-kl": ("forward KL", r"\phi = -\beta q\log\frac{p}{q},\quad s = -\beta\frac{q}{p}"),
    "jensen-shannon": (
        "the Jensen-Shannon divergence",
        r"f'(u) = \log\frac{2u}{1+u},\quad s = \beta\log\frac{2p}{p+q}",
    ),
    "alpha-divergence": (
        "the divergence of order a in (0, 1)",
        r"f'(u) = \frac{1-u^{-a}}{a},\quad s = \frac{\beta}{a}\left(1 - \left(\frac{q}{p}\right)^{a}\right)",
    ),
}
for _name, (_words, _latex) in TEXTS.items():
    claim(
        f"implicit-reward-{_name}",
        f"The implicit reward of {_words} is the derivative of its phi, and phi meets the master theorem's conditions.",
        latex=_latex,
        hypotheses="p, q in (0, 1], strength > 0, length >= 1",
        source="THEORY 1, table",
        scope="any response set: a statement about one response",
    )(partial(proof, _name))


@claim(
    "implicit-reward-sum",
    "Entropy + KL + length-normalized + KL is a regularizer, and its implicit reward is the sum of theirs.",
    latex=r"\phi = \sum_i \phi_i \ \Rightarrow\ s = \sum_i s_i",
    source="THEORY 1, table",
    scope="any response set; these four terms, each with a strength of its own",
    depends_on=tuple(f"implicit-reward-{name}" for name in ("entropy", "kl", "length-normalized")),
)
def implicit_reward_sum() -> list[Step]:
    parts = (forms()["entropy"], forms()["kl"], forms()["length-normalized"])
    by_hand = parts[0].by_hand + parts[1].by_hand + parts[2].by_hand.subs(beta, gamma)
    by_hand += parts[1].by_hand.subs(beta, sp.Symbol("beta_2", positive=True))
    return [
        *derivative_steps(symbolic_sum(), by_hand),
        Argued("the sum is strictly convex", by="convex sums", uses=("phi is strictly convex",)),
        Argued("and its slope falls to -oo, as every slope does", by="limits", uses=("implicit-reward-entropy",)),
    ]
