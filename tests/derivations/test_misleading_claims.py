"""Claims whose steps hold and whose sentence misleads: found by a hostile reader, each refused by one rule.

Some narrow what the sentence says without saying so, some take an answer that nobody checks, some rest a jump on a
theorem about something else, and some compare a thing with itself.
"""

import pytest
import sympy as sp
from sympy import diff as plain_diff

from derivations.objectives import dpo, pair_loss, simpo
from derivations.proofs.symbols import beta, len_l, len_w, logp_l, logp_w, p, ref_l, ref_w, rest, sigmoid
from derivations.prover.derivatives import watching
from derivations.prover.kinds import Argued, Differs, Equal, Iff, Positive, Step, TendsTo
from derivations.prover.tracing import trace
from derivations.prover.written import writing
from tests.helpers.planted_claim import verdict

x, y, c = sp.symbols("x y c", positive=True)
a = sp.Symbol("a", real=True)
n = sp.Symbol("n", positive=True, integer=True)
Z = sp.Symbol("Z", positive=True)
SQUARE = Equal("(x + 1)^2", (x + 1) ** 2, x**2 + 2 * x + 1)
OTHER_X = sp.Symbol("x", real=True)
OTHER_BETA = sp.Symbol("beta", real=True)


def simpo_of(chosen=len_w, rejected=len_l, strength=beta):
    return trace(simpo, logp_w, logp_l, chosen_length=chosen, rejected_length=rejected, beta=strength)


def simpo_by_hand(strength=beta):
    return -sp.log(sigmoid(strength * logp_w / len_w - strength * logp_l / len_l))


def dpo_holds() -> Step:
    loss = trace(dpo, logp_w, logp_l, ref_chosen_logp=ref_w, ref_rejected_logp=ref_l, beta=beta)
    return Equal("code", loss, -sp.log(sigmoid(beta * (logp_w - ref_w) - beta * (logp_l - ref_l))))


def simpo_without_reference():
    plain = trace(dpo, logp_w, logp_l, ref_chosen_logp=0, ref_rejected_logp=0, beta=beta / len_w)
    return [Equal("same", simpo_of(len_w, len_w), plain)]


def cases(*, decoy):
    found = [Equal(f"m = {m}", x * (m - 2) * (m - 3) * (m - 4) + x * y, y * x) for m in (2, 3, 4)]
    shares = Equal("shares", x / (x + rest) + rest / (x + rest), sp.S.One, every=(rest,))
    return [*found, shares] if decoy else [*found, SQUARE]


def gap_iff():
    at = {beta: 1, len_w: 1, len_l: 2, Z: 2}
    gap = (beta / len_w - beta / len_l) * sp.log(Z)
    return Iff("gap", gap, sp.S.Zero, beta / (len_w * len_l), (len_l - len_w, sp.log(Z)), at)


# what -> (steps, options of the claim, why it is refused)
MISLEADING = {
    "the square of a power 1/2": (
        lambda: [SQUARE, Equal("planted", (a ** sp.Rational(1, 2)) ** 2 * x, a * x)],
        {},
        "a >= 0 is not shown",
    ),
    "a power -1": (lambda: [SQUARE, Equal("planted", a * a**-1 * x, x)], {}, "division by a"),
    "one over a": (lambda: [SQUARE, Equal("planted", a * (sp.S.One / a) * x, x)], {}, "division by a"),
    "a logarithm by another name": (
        lambda: [SQUARE, Equal("planted", sp.exp(sp.functions.log(a)) * x, a * x)],
        {},
        "log(a): a > 0 is not shown",
    ),
    "a division that a substitution makes": (
        lambda: [SQUARE, Equal("planted", (x / c).subs(c, a) * a, x)],
        {},
        "division by a",
    ),
    "a cancelled divisor": (
        lambda: [SQUARE, Equal("planted", sp.cancel((x**2 - y**2) * sp.Pow(x - y, -1)) * c, (x + y) * c)],
        {},
        "answer of sympy.cancel",
    ),
    "a limit of SymPy's": (
        lambda: [SQUARE, Equal("planted", sp.limit(sp.log(x) / x, x, sp.oo), sp.S.Zero)],
        {},
        "answer of sympy.limit",
    ),
    "an integral of SymPy's": (
        lambda: [SQUARE, Equal("planted", sp.exp(-x * c).integrate((x, 0, sp.oo)), 1 / c)],
        {},
        "answer of sympy.integrate",
    ),
    "a reward that must be positive": (
        lambda: [Positive("planted", sp.Symbol("r_w", positive=True) + 1)],
        {"title": "r_w + 1 > 0 for every reward."},
        "the notation does not restrict it so",
    ),
    "two symbols of one name": (
        lambda: [SQUARE, Differs("planted", sp.exp(x), sp.exp(OTHER_X), {x: 1, OTHER_X: 2})],
        {"expected": "refuted"},
        "two different symbols are called x",
    ),
    "a derivative by another beta": (
        lambda: [
            Equal("code", simpo_of(), simpo_by_hand()),
            Equal("slope", sp.diff(simpo_of(), OTHER_BETA), sp.S.Zero),
        ],
        {"title": "SimPO's loss does not depend on beta."},
        "two different symbols are called beta",
    ),
    "a strength below 1": (
        lambda: [Positive("planted", 1 - beta, unit=frozenset({beta}))],
        {},
        "is taken for a probability, which the notation does not say",
    ),
    "a probability in another step": (
        lambda: [Positive("one", 1 - x, unit=frozenset({x})), Equal("two", sp.exp(sp.log(1 - x)) * y, (1 - x) * y)],
        {},
        "x is a probability in another step",
    ),
    "cases for m >= 2": (lambda: cases(decoy=False), {"title": "For m >= 2 it vanishes."}, "no decided step has"),
    "cases, however many": (lambda: cases(decoy=False), {"title": "It is 0 no matter how many."}, "no decided step"),
    "cases beside a sum over anything": (
        lambda: cases(decoy=True),
        {"title": "It vanishes for any number m."},
        "no induction goes on from a case",
    ),
    "two responses for every countable set": (
        lambda: [Equal("two", x / (x + y) + y / (x + y), sp.S.One)],
        {"title": "Shares sum to 1 on every countable set of responses."},
        "no decided step has a symbol that stands for any number",
    ),
    "gradient descent by the rules for limits": (
        lambda: [SQUARE, Argued("so it finds the minimum", by="limits", uses=("(x + 1)^2",))],
        {},
        "needs a step of the kind TendsTo",
    ),
    "uniqueness without convexity": (
        lambda: [SQUARE, Argued("so it is unique", by="strict concavity", uses=("(x + 1)^2",))],
        {},
        "needs a step of the kind Curved",
    ),
    "uniqueness by way of other words": (
        lambda: [
            SQUARE,
            Argued("first", by="summation", uses=("(x + 1)^2",)),
            Argued("so it is unique", by="strict concavity", uses=("first",)),
        ],
        {},
        "needs a step of the kind Curved",
    ),
    "a counterexample to something else": (
        lambda: [dpo_holds(), Differs("DPO's loss against a common shift", x, x**2, {x: sp.Integer(2)})],
        {"title": "DPO's loss does not see a common shift.", "expected": "refuted"},
        "the same whatever the code it traces computes",
    ),
    "half of the condition in the sentence": (
        lambda: [gap_iff()],
        {"title": "The gap vanishes if and only if |l| = |w|.", "expected": "iff"},
        "what was computed is '|l| = |w| or z = 1'",
    ),
    "a condition without the words for it": (
        lambda: [gap_iff()],
        {"title": "The gap vanishes where |l| = |w|, and nowhere else.", "expected": "iff"},
        "says 'nowhere else'",
    ),
    "precisely another condition": (
        lambda: [gap_iff()],
        {"title": "The gap vanishes precisely where |l| = |w|.", "expected": "iff"},
        "what was computed is '|l| = |w| or z = 1'",
    ),
    "a ratio without its code": (lambda: [SQUARE], {"title": "RLOO with a ratio is a square."}, "names RLOO"),
    "another condition in the sentence": (
        lambda: [dpo_holds(), Iff("planted", x, y, sp.S.One, (x - y,), {x: 1, y: 2})],
        {"title": "DPO has a minimum if and only if the data agree.", "expected": "iff"},
        "what was computed is 'x = y'",
    ),
    "one length for every pair of lengths": (
        simpo_without_reference,
        {"title": "SimPO is DPO without a reference, for every pair of lengths."},
        "objectives.simpo was only traced with len_w",
    ),
    "a number for every beta": (
        lambda: [Equal("same", simpo_of(strength=sp.Integer(2)), simpo_by_hand(2))],
        {"title": "SimPO's loss is log(1 + e^-m), for every beta."},
        "objectives.simpo was only traced with 2",
    ),
    "one length for two after tracing": (
        lambda: [Equal("same", simpo_of().subs(len_l, len_w), simpo_by_hand().subs(len_l, len_w))],
        {"title": "SimPO's margin is one difference over |w|, for every pair of lengths."},
        "len_l was replaced by len_w",
    ),
    "a number for every beta, after tracing": (
        lambda: [Equal("same", simpo_of().subs(beta, 2), simpo_by_hand(2))],
        {"title": "SimPO's loss is log(1 + e^-m), for every beta."},
        "beta was replaced by 2",
    ),
    "alone without a reason": (
        lambda: [SQUARE, Argued("so it is found", by="summation", uses=("(x + 1)^2",))],
        {"title": "(x + 1)^2 is the unique form of it."},
        "no step leaves one alone",
    ),
    "an objective of a group": (lambda: [SQUARE], {"title": "GRPO's advantage is a square."}, "names GRPO"),
    "an objective of one response": (lambda: [SQUARE], {"title": "KTO's loss is a square."}, "names KTO"),
    "an objective spelled out": (lambda: [SQUARE], {"title": "Direct preference optimization is one."}, "names Direct"),
    "an estimator": (lambda: [SQUARE], {"title": "k3 is a square."}, "names k3"),
    "a preference model": (lambda: [SQUARE], {"title": "Plackett-Luce is a square."}, "names Plackett-Luce"),
    "a length near 0": (lambda: [SQUARE, TendsTo("planted", 1 / n, n, sp.S.Zero, sp.oo)], {}, "outside of the"),
    "a probability without bound": (
        lambda: [SQUARE, TendsTo("planted", sp.log(p), p, sp.oo, sp.oo)],
        {},
        "outside of the hypotheses",
    ),
    "a strength below 0": (
        lambda: [SQUARE, TendsTo("planted", sp.exp(x) + 1, x, -sp.oo, sp.S.One)],
        {},
        "outside of the hypotheses",
    ),
}  # fmt: skip


@pytest.mark.parametrize("words", MISLEADING)
def test_a_misleading_claim_is_refused(words, monkeypatch):
    steps, options, reason = MISLEADING[words]
    result = verdict(steps, monkeypatch, **options)
    assert result.verdict == "failed"
    assert any(reason in problem for problem in result.problems), result.problems


def test_derivatives_are_watched_however_they_are_taken():
    with watching() as taken:
        found = {sp.diff(x**3, x), (x**3).diff(x), plain_diff(x**3, x)}
    assert found == {3 * x**2}
    assert {item.answer for item in taken} == found
    assert len(taken) >= 3
    assert sp.Expr.diff(x**2, x) == 2 * x


def test_watching_leaves_sympy_as_it_was():
    before = {name: getattr(sp, name) for name in ("log", "diff", "limit", "Pow", "simplify")}
    own = {owner: dict(vars(owner)) for owner in (sp.Expr, sp.Pow, sp.log, sp.Basic, sp.Integer, sp.Rational)}
    with writing() as written, watching():
        x**-1
    assert written == {("power", (x, sp.Integer(-1))): None}
    assert all(getattr(sp, name) is value for name, value in before.items())
    assert all(dict(vars(owner)) == names for owner, names in own.items())


def test_what_is_honest_still_passes(monkeypatch):
    def true():
        d = sp.Symbol("d", real=True)
        convex = sp.diff(trace(pair_loss, d, sp.S.Zero), d, 2)
        return [
            Equal("code", simpo_of(), simpo_by_hand()),
            Positive("the loss of a pair is convex", convex),
            Argued("so a sum of them is convex", by="convex sums", uses=("the loss of a pair",)),
            gap_iff(),
        ]

    title = "SimPO's residual, for every pair of lengths and every beta, vanishes if and only if |l| = |w| or Z = 1."
    result = verdict(true, monkeypatch, title=title, expected="iff")
    assert result.problems == []
