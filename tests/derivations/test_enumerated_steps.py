"""Conditions and enumerations: each is decided twice, by two algorithms, and has wrong versions that are refuted."""

import functools
import types

import pytest
import sympy as sp

from derivations.pages import text as report
from derivations.proofs.symbols import beta, len_l, len_w
from derivations.prover.enumerations import reachable
from derivations.prover.kinds import (
    Enumerated,
    EnumeratedIff,
    Iff,
    StepFailed,
)
from tests.helpers.planted_claim import verdict

x, y = sp.symbols("x y", positive=True)
size = sp.Symbol("len", positive=True, integer=True)


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


def grows(case):
    return case * case >= case


def grows_again(number):
    return number * number >= number


class Grows:
    def __call__(self, case):
        return grows(case)


helper = types.ModuleType("helper")
helper.grows = grows

SECOND = {
    "through a module": lambda case: helper.grows(case),
    "the same text again": grows_again,
    "through a default": lambda case, check=grows: bool(check(case)),
    "through an object": Grows(),
    "through a table": lambda case, table=(grows,): table[0](case) or False,
}


@pytest.mark.parametrize("words", SECOND)
def test_an_enumeration_does_not_confirm_itself_by_a_detour(words, monkeypatch):
    step = Enumerated("planted", lambda: iter(range(9)), grows, SECOND[words], {"wrong": lambda case: case > 3})
    assert "no second algorithm: it shares grows" in verdict(lambda: [step], monkeypatch).problems[0]


def test_an_enumeration_looks_at_its_cases(monkeypatch):
    blind = Enumerated("planted", lambda: iter(range(9)), grows, lambda case: True, {"wrong": lambda case: case > 3})
    assert "answers without looking" in verdict(lambda: [blind], monkeypatch).problems[0]
    idle = Enumerated(
        "planted", lambda: iter(range(9)), grows, lambda case: case == 0 or case > 0, {"no": lambda case: False}
    )
    assert "no wrong version" in verdict(lambda: [idle], monkeypatch).problems[0]  # fmt: skip


def is_even(case):
    """The number is even."""
    return case % 2 == 0


def optimal(case):
    """The policy is optimal."""
    return is_even(case)


def test_a_property_is_no_condition_for_itself(monkeypatch):
    step = EnumeratedIff(
        "planted", lambda: iter(range(9)), {"wrong": lambda case: case > 3}, left=is_even, right=optimal,
        left_again=lambda case: case // 2 * 2 == case, right_again=lambda case: str(case)[-1] in "02468",
    )  # fmt: skip
    result = verdict(lambda: [step], monkeypatch, expected="iff")
    assert "both properties use is_even" in result.problems[0]


def test_a_function_that_mentions_the_class_partial_is_read_like_any_other():
    def holds(case):
        return isinstance(case, functools.partial) or case > 0

    assert holds.__code__ in reachable(holds)
