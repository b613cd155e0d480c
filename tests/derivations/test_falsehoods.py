"""Claims that must not be certified: what a person who wants to be believed could write, each refused by a rule.

Every rule has at least one claim that it alone stands in the way of; the reason that is given is part of the test.
"""

import pytest
import sympy as sp

from derivations.objectives import dpo, kl_k1, pair_loss, simpo
from derivations.proofs.symbols import beta, len_l, len_w, logp_l, logp_w, p, positives, q, r_l, r_w
from derivations.prover.kinds import (
    Argued,
    Differs,
    Equal,
    Positive,
    StepFailed,
    TendsTo,
)
from derivations.prover.tracing import trace
from tests.helpers.planted_claim import verdict

x, y, c = sp.symbols("x y c", positive=True)
a, b = sp.symbols("a b", real=True)
PAIR = sp.symbols("p_1 p_2", positive=True)
n = sp.Symbol("n", positive=True, integer=True)
size = sp.Symbol("len", positive=True, integer=True)
SQUARE = Equal("(x + 1)^2", (x + 1) ** 2, x**2 + 2 * x + 1)


def simpo_loss():
    return trace(simpo, logp_w, logp_l, chosen_length=len_w, rejected_length=len_l, beta=beta)


UNDEFINED = {
    "a logarithm of what may be negative, in a power": Positive("planted", sp.exp(y * sp.log(10 - x))),
    "a sum of logarithms with a bounded domain": Equal(
        "planted", sp.log(10 - x) + sp.log(10 + x), sp.log((10 - x) * (10 + x))
    ),
    "0 / 0 where two weights meet": Equal("planted", (x**2 - y**2) / (x - y), x + y),
    "0 / 0 at 1": Equal("planted", (x**3 - 1) / (x - 1), x**2 + x + 1),
    "a root of what may be negative": Equal("planted", sp.sqrt((x - y) ** 3) * sp.sqrt(x - y), (x - y) ** 2),
    "a logarithm of a real number": Equal("planted", 2 * sp.log(a) + sp.log(x), sp.log(x * a**2)),
    "a length that may exceed ten thousand": Equal(
        "planted", sp.log(10**4 - size) + sp.log(x), sp.log(x * (10**4 - size))
    ),
    "a limit of an undefined function": TendsTo("planted", sp.log(1 - x) * x, x, sp.S.Zero, sp.S.Zero),
    "a negative base to a half": Positive("planted", sp.sqrt(a) ** 3 + 1 + x * a**2),
}


@pytest.mark.parametrize("words", UNDEFINED)
def test_what_is_not_shown_to_be_defined_is_refused(words):
    with pytest.raises(StepFailed, match=r"not shown to be defined|not finite"):
        UNDEFINED[words].check()


OUTSIDE = {
    "a negative value of a positive symbol": Equal("planted", sp.sqrt(x**2) * (x + 1), x**2 + x, {x: sp.Integer(-3)}),
    "half a token": Equal("planted", n * x + x, x * (1 + n), {n: sp.Rational(1, 2)}),
    "half a token in a counterexample": Differs("planted", n, n**2, {n: sp.Rational(1, 2)}),
    "a probability of 3": Differs("planted", sp.log(p), -sp.log(p), {p: sp.Integer(3)}),
    "a probability that is said to be one": Differs("planted", x, x**2, {x: sp.Integer(2)}, unit=frozenset({x})),
    "two probabilities of one policy that sum to 2": Differs(
        "planted", *PAIR, dict(zip(PAIR, (1, sp.Rational(1, 2)), strict=True))
    ),
    "a response that has all of the probability": Differs("planted", p, p**2 / 2, {p: sp.S.One}),
    "a probability above the other": Equal("planted", p * (1 + q), p + p * q, {p: 2 * q}),
    "a weight that may be 0": Equal("planted", x * (y + 1), x * y + x, {x: y - 1}),
    "no whole number": Equal("planted", n * (n + 1), n**2 + n, {n: x}),
    "a symbol that neither side has": Equal("planted", x * (x + 1), x**2 + x, {y: sp.S.One}),
}  # fmt: skip


@pytest.mark.parametrize("words", OUTSIDE)
def test_values_outside_of_the_hypotheses_are_refused(words):
    with pytest.raises(StepFailed, match=r"outside of the hypotheses|which neither side has"):
        OUTSIDE[words].check()


LIMITS = {
    "10 powers against a free one": TendsTo("planted", x ** (c - 10), x, sp.oo, sp.S.Zero),
    "an exponential of a free rate against another": TendsTo("planted", sp.exp((c - 20) * x), x, sp.oo, sp.S.Zero),
    "the sign of a factor": TendsTo("planted", (c - 30) * x, x, sp.oo, -sp.oo),
    "a free base": TendsTo("planted", c ** (-x), x, sp.oo, sp.S.Zero),
    "two endless terms": TendsTo("planted", x**c - c * x, x, sp.oo, sp.oo),
}


@pytest.mark.parametrize("words", LIMITS)
def test_a_limit_that_depends_on_a_parameter_is_undecided(words):
    with pytest.raises(StepFailed, match="undecided"):
        LIMITS[words].check()


@pytest.mark.parametrize(
    "step",
    [
        TendsTo("a positive power", c * x**c + 1, x, sp.S.Zero, sp.S.One),
        TendsTo("a power beats a logarithm", x ** (c + 1) * sp.log(x) ** 3, x, sp.S.Zero, sp.S.Zero),
        TendsTo("a positive rate", c * sp.exp(-c * n * x), x, sp.oo, sp.S.Zero),
    ],
)
def test_limits_that_hold_for_all_parameters_are_decided(step):
    step.check()


# claims whose steps hold, and which say something else: kind -> (steps, options, why it is refused)
UNTIED = {
    "a difference for a proof": ([Differs("planted", sp.S.One, sp.Integer(2))], {}, "a difference proves nothing"),
    "a difference of two numbers for a refutation": (
        [Differs("planted", sp.S.One, sp.Integer(2)), SQUARE],
        {"expected": "refuted"},
        "needs a counterexample inside the hypotheses",
    ),
    "a condition in words": (
        [Equal("planted", x * (y + 1), x * y + x, direction="both")],
        {"expected": "iff", "condition": "if and only if it is Tuesday"},
        "must be computed",
    ),
    "an iff without a condition": ([SQUARE], {"expected": "iff"}, "no step decides an exact condition"),
    "a jump": (
        [Positive("convex", sp.exp(a)), Argued("so gradient descent finds the minimum with any step")],
        {},
        "names no theorem",
    ),
    "a jump to a theorem that nobody proved": (
        [SQUARE, Argued("so it holds", by="everything is true", uses=("(x + 1)^2",))],
        {},
        "no theorem is called",
    ),
    "a theorem applied to nothing": ([SQUARE, Argued("so it holds", by="summation")], {}, "needs at least 1 step"),
    "a theorem applied to a step that is not there": (
        [SQUARE, Argued("so it holds", by="summation", uses=("the sum converges",))],
        {},
        "is no other step of this claim",
    ),
    "a few cases for any number": (
        [Equal(f"m = {m}", (x + m) ** 2, x**2 + 2 * m * x + m**2) for m in (2, 3, 4, 5)],
        {"title": "The square expands for any number m."},
        "no decided step has a symbol that stands for any number",
    ),
    "a sentence with its own if and only if": (
        [SQUARE],
        {"title": "The square vanishes if and only if x = -1."},
        "no step (`Iff`, `EnumeratedIff`) decides an exact condition",
    ),
    "cases for any response set": (
        [Equal(f"m = {m}", (x + m) ** 2, x**2 + 2 * m * x + m**2) for m in (2, 3)],
        {"scope": "any finite Y"},
        "no decided step has a symbol that stands for any number",
    ),
    "a few cases of m responses": (
        [Equal(f"{m} responses", (x + m) ** 2, x**2 + 2 * m * x + m**2) for m in (2, 3)],
        {"title": "The loss of m responses is a square.", "scope": "all of them"},
        "no decided step has a symbol that stands for any number",
    ),
    "cases with words for any countable set": (
        [Equal(f"with {m} responses", (x + m) ** 2, x**2 + 2 * m * x + m**2) for m in (2, 3)],
        {"scope": "any countable Y"},
        "no decided step has a symbol that stands for any number",
    ),
    "numbers for a theorem": (
        [Positive("3 > 2", sp.log(3) - sp.log(2)), Differs("1 is not 2", x, x**2, {x: sp.Integer(2)})],
        {"title": "Every loss is convex."},
        "every decided step is about numbers alone",
    ),
    "any number in the scope": ([SQUARE], {"scope": "any number of responses"}, "no decided step has a symbol"),
    "e to the logarithm of a real number": ([Equal("planted", sp.exp(sp.log(a)), a)], {}, "equal by construction"),
    "a over a": ([Equal("planted", a / a + b, 1 + b)], {}, "equal by construction"),
    "e to the logarithm of a real number, among others": (
        lambda: [SQUARE, Equal("planted", sp.exp(sp.log(a)) * x, a * x)],
        {},
        "written, and not shown to be defined: log(a)",
    ),
    "a over a, among others": (
        lambda: [SQUARE, Equal("planted", (a - b) / (a - b) + x, 1 + x)],
        {},
        "division by a - b",
    ),
    "the square of a root, among others": (
        lambda: [SQUARE, Equal("planted", sp.sqrt(a) ** 2 * x, a * x)],
        {},
        "(a)^(1/2): a >= 0 is not shown",
    ),
    "SimPO's loss for DPO's": (
        lambda: [Equal("planted", simpo_loss(), simpo_loss())],
        {"title": "SimPO is DPO for every reference policy."},
        "names DPO, but no code of DPO was traced",
    ),
    "IPO without IPO": (
        lambda: [Equal("planted", 2 * trace(kl_k1, a, b), a - b + trace(kl_k1, a, b))],
        {"title": "IPO's log-ratio is k1."},
        "names IPO",
    ),
}


@pytest.mark.parametrize("words", UNTIED)
def test_a_sentence_that_its_steps_do_not_carry_is_refused(words, monkeypatch):
    steps, options, reason = UNTIED[words]
    result = verdict(steps, monkeypatch, **options)
    assert result.verdict == "failed"
    assert any(reason in problem for problem in result.problems), result.problems


def test_no_verdict_without_a_refuted_mutant(monkeypatch):
    silent = Equal("planted", x + y, y + x)
    monkeypatch.setattr(Equal, "mutants", lambda self, per_side: iter(()))
    result = verdict([SQUARE, silent], monkeypatch)
    assert result.problems == ["no wrong version of its statement was made and refuted"]


def test_a_claim_must_notice_when_the_code_it_traces_is_changed(monkeypatch):
    """An identity between a loss and itself holds whatever the loss is."""

    def itself():
        return [SQUARE, Equal("planted", simpo_loss(), simpo_loss())]

    result = verdict(itself, monkeypatch)
    assert result.problems == ["it does not notice when objectives.simpo is changed"]


def test_another_number_of_steps_is_no_step_that_fails(monkeypatch):
    """A proof that looks at changed code and only says more has noticed nothing."""
    first = []

    def longer():
        first.append(simpo_loss())
        again = [SQUARE, Equal("planted", simpo_loss(), simpo_loss())]
        return again if first[-1] == first[0] else [*again, SQUARE]

    result = verdict(longer, monkeypatch)
    assert result.problems == ["it does not notice when objectives.simpo is changed"]

    def by_hand():
        margin = beta * logp_w / len_w - beta * logp_l / len_l
        return [Equal("planted", simpo_loss(), sp.log(1 + sp.exp(-margin)))]

    assert verdict(by_hand, monkeypatch).problems == []

    def shifted():
        return [Equal("planted", trace(pair_loss, r_w + a, r_l + a), trace(pair_loss, r_w, r_l))]

    assert verdict(shifted, monkeypatch).problems == []
    assert trace(pair_loss, r_w, r_l) == sp.log(1 + sp.exp(r_l - r_w))  # the code is as it was


def test_what_is_true_is_still_decided(monkeypatch):
    weights = positives("w", 2)
    true = [
        Equal("sigmoid", 1 / (1 + sp.exp(-a)), sp.exp(a) / (1 + sp.exp(a))),
        Equal("quotient", (x**2 - y**2) / (x + y), x - y),
        Equal("at a probability", sp.log(p) * (1 + p), sp.log(p) + p * sp.log(p), {p: q * sp.Rational(1, 2)}),
        Positive("of e^x - 1", sp.exp(x) - 1),
        Positive("of the other side", 1 - p),
        Positive("of a logarithm above 0", sp.log(1 + x) * sp.log(2 + sp.exp(a))),
        Positive("of minus a logarithm of a probability", -sp.log(p)),
        Positive("of lengths", 2 * size - 1),
        Equal("code", trace(pair_loss, r_w, r_l), sp.log(1 + sp.exp(r_l - r_w))),
        Differs("weights", weights[0], weights[1], {weights[0]: sp.S.One, weights[1]: sp.Integer(2)}),
    ]
    result = verdict(true, monkeypatch)
    assert result.problems == []
    assert result.verdict == "proved"


def test_the_code_of_dpo_carries_a_sentence_about_dpo(monkeypatch):
    ref_w, ref_l = sp.symbols("ref_w ref_l", real=True)

    def steps():
        loss = trace(dpo, logp_w, logp_l, ref_chosen_logp=ref_w, ref_rejected_logp=ref_l, beta=beta)
        moved = trace(dpo, logp_w + a, logp_l + a, ref_chosen_logp=ref_w, ref_rejected_logp=ref_l, beta=beta)
        return [Equal("a common shift", moved, loss)]

    assert verdict(steps, monkeypatch, title="DPO does not see a common shift.").verdict == "proved"
