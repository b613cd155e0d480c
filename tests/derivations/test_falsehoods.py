"""Claims that must not be certified: what a person who wants to be believed could write, each refused by a rule.

Every rule has at least one claim that it alone stands in the way of; the reason that is given is part of the test.
"""

import functools
import random

import pytest
import sympy as sp

from derivations.objectives import dpo, kl_k1, pair_loss, simpo
from derivations.pages import text as report
from derivations.proofs.symbols import beta, len_l, len_w, logp_l, logp_w, p, positives, q, r_l, r_w
from derivations.prover import claims
from derivations.prover.derivatives import watching, wrong_derivatives
from derivations.prover.kinds import (
    Argued,
    Differs,
    Enumerated,
    EnumeratedIff,
    Equal,
    Iff,
    InternalError,
    Positive,
    StepFailed,
    TendsTo,
)
from derivations.prover.sampling import points
from derivations.prover.tracing import trace

x, y, c = sp.symbols("x y c", positive=True)
a, b = sp.symbols("a b", real=True)
PAIR = sp.symbols("p_1 p_2", positive=True)
n = sp.Symbol("n", positive=True, integer=True)
size = sp.Symbol("len", positive=True, integer=True)
SQUARE = Equal("(x + 1)^2", (x + 1) ** 2, x**2 + 2 * x + 1)


def verdict(steps, monkeypatch, *, title="planted", scope="as the steps say", **options):
    """What a run says of one claim with these steps."""
    monkeypatch.setattr(claims, "CLAIMS", {})
    options = {"latex": "", "source": "planted", "scope": scope, **options}
    claims.claim("planted", title, **options)(steps if callable(steps) else lambda: steps)
    (result,) = claims.check_claims(list(claims.CLAIMS.values()))
    return result


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

    def by_hand():
        margin = beta * logp_w / len_w - beta * logp_l / len_l
        return [Equal("planted", simpo_loss(), sp.log(1 + sp.exp(-margin)))]

    assert verdict(by_hand, monkeypatch).problems == []

    def shifted():
        return [Equal("planted", trace(pair_loss, r_w + a, r_l + a), trace(pair_loss, r_w, r_l))]

    assert verdict(shifted, monkeypatch).problems == []
    assert trace(pair_loss, r_w, r_l) == sp.log(1 + sp.exp(r_l - r_w))  # the code is as it was


def residual_iff(factors, nonzero=None):
    z = sp.Symbol("Z", positive=True)
    gap = (beta / len_w - beta / len_l) * sp.log(z)
    nonzero = beta / (len_w * len_l) if nonzero is None else nonzero
    at = {beta: 1, len_w: 1, len_l: 2, z: 2}
    return Iff("planted", gap, sp.S.Zero, nonzero, factors, at), z


def test_half_of_a_condition_is_no_condition():
    z = sp.Symbol("Z", positive=True)
    whole, _ = residual_iff((len_l - len_w, sp.log(z)))
    whole.check()
    assert whole.condition == "if and only if |l| = |w| or Z = 1"
    half, _ = residual_iff((len_l - len_w,))
    with pytest.raises(StepFailed, match="not equal"):
        half.check()
    with pytest.raises(StepFailed, match="not positive"):  # the other half hidden where nothing may vanish
        residual_iff((len_l - len_w,), nonzero=beta * sp.log(z) / (len_w * len_l))[0].check()
    with pytest.raises(StepFailed, match="do not make a condition"):
        residual_iff(())[0].check()


def test_a_factor_that_cannot_vanish_is_no_condition():
    step = Iff("planted", x * (y + 1), sp.S.Zero, x, (y + 1,), {x: 1, y: 1})
    with pytest.raises(StepFailed, match="no place is found"):
        step.check()


def test_a_condition_needs_a_counterexample_inside_the_hypotheses():
    with pytest.raises(StepFailed, match="outside of the hypotheses"):
        Iff("planted", x, y, sp.S.One, (x - y,), {x: -1, y: 2}).check()
    with pytest.raises(StepFailed, match="not shown to differ"):
        Iff("planted", x, y, sp.S.One, (x - y,), {x: 2, y: 2}).check()


def test_wrong_conditions_are_among_the_mutants():
    z = sp.Symbol("Z", positive=True)
    step, _ = residual_iff((len_l - len_w, sp.log(z)))
    fates = {" ".join(map(str, mutant.says)): mutant.fate for mutant in step.mutants(3)}
    assert fates["if and only if |l| = |w|"] == "refuted"
    assert fates["if and only if Z = 1"] == "refuted"


def even(number):
    """The number is even."""
    return number % 2 == 0


def ends_in_an_even_digit(number):
    """Its last digit is even."""
    return str(number)[-1] in "02468"


def through_even(number):
    return even(number)


def halves(number):
    return number // 2 * 2 == number


def digit(number):
    return int(str(number)[-1]) in (0, 2, 4, 6, 8)


def upto():
    return iter(range(50))


def test_an_enumeration_whose_cases_break_off_is_a_failed_claim_in_every_format(monkeypatch):
    def broken():
        raise ValueError("no such case")
        yield 0

    step = Enumerated("planted", broken, even, halves, {"never": lambda case: case < 0})
    result = verdict([step], monkeypatch)
    assert result.problems == ["the proof broke off: ValueError: no such case"]
    for form in report.FORMATS.values():
        assert "no such case" in form([result], 1.0)


@pytest.mark.parametrize(
    "confirm",
    [even, through_even, functools.partial(through_even)],
    ids=("itself", "another that calls it", "a partial of that"),
)
def test_an_enumeration_may_not_confirm_itself(confirm):
    with pytest.raises(StepFailed, match="no second algorithm: it shares even"):
        Enumerated("planted", upto, even, confirm, {"never": lambda case: False}).check()


def test_an_enumeration_needs_a_wrong_version_and_a_condition_that_changes():
    with pytest.raises(StepFailed, match="no wrong version"):
        Enumerated("planted", upto, lambda case: case < 50, halves, {}).check()
    wrong = {"odd": lambda case: even(case) != ends_in_an_even_digit(case)}
    twins = {"left_again": halves, "right_again": digit}
    good = EnumeratedIff("planted", upto, wrong, left=even, right=ends_in_an_even_digit, **twins)
    good.check()
    assert good.condition == "in each of 50 cases: the number is even if and only if its last digit is even"
    with pytest.raises(StepFailed, match="it is none"):
        EnumeratedIff("planted", lambda: iter((2, 4)), wrong, left=even, right=ends_in_an_even_digit, **twins).check()


def test_a_wrong_derivative_is_caught_by_power_series(monkeypatch):
    right = sp.diff
    monkeypatch.setattr(sp, "diff", lambda expr, *by: right(expr, *by) + 1)

    def steps():
        return [Equal("planted", sp.diff(sp.log(x) + x**2, x), 1 / x + 2 * x + 1)]

    result = verdict(steps, monkeypatch)
    assert any("the power series differs" in problem for problem in result.problems)
    monkeypatch.undo()
    result = verdict(lambda: [Equal("planted", sp.diff(sp.log(x) * x, x), 1 + sp.log(x))], monkeypatch)
    assert result.verdict == "proved"


def test_second_and_mixed_derivatives_are_confirmed_one_variable_at_a_time():
    with watching() as taken:
        sp.diff(sp.exp(x * y) / (1 + x), x, 2, y)
    assert [(item.symbol, item.order) for item in taken] == [(x, 2), (y, 1)]
    assert wrong_derivatives(taken) == []
    wrong = taken[0]._replace(answer=taken[0].answer + sp.Rational(1, 10**9))
    assert "differs" in wrong_derivatives([wrong])[0]


def test_breaking_sympy_s_diff_fails_the_claims_that_take_derivatives(monkeypatch):
    right = sp.diff
    monkeypatch.setattr(sp, "diff", lambda expr, *by: 2 * right(expr, *by))
    (result,) = claims.check_claims(
        [c for c in claims.load_claims("loss-gradients") if c.id == "loss-gradients"], mutants=False
    )
    assert any("the power series differs" in problem for problem in result.problems)


def test_balls_look_at_each_side_by_itself(monkeypatch):
    """A subtraction that always gives 0 deceives the field of kernels, and not the balls."""
    monkeypatch.setattr(Equal, "residual", lambda self: sp.S.Zero)
    with pytest.raises(InternalError, match="field says 0, balls say not"):
        Equal("planted", x + 1, x + 2, {x: y}).check()


def test_places_reach_long_responses_both_sides_of_thresholds_and_the_ends_of_the_unit_interval():
    found = [point for point, _ in points([10 - x, p, size - 500], [x, p, size], random.Random(0), 60)]  # noqa: S311
    assert max(point[size] for point in found) > 1000
    assert min(point[x] for point in found) < 1e-2
    assert max(point[x] for point in found) > 1e3
    assert min(point[p] for point in found) < 1e-3
    assert {point[size] for point in found} >= {500, 501}
    assert any(8 < point[x] < 10 for point in found)
    assert any(10 < point[x] < 12 for point in found)


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
