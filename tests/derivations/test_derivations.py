"""The checker on trial: it proves what is true, refutes what is false, and notices mistakes in the traced code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sympy as sp

from derivations.pages import text as report
from derivations.prover import claims
from derivations.prover.balls import evaluate, excludes_zero
from derivations.prover.kinds import Argued, Differs, Enumerated, Equal, InternalError, Positive, StepFailed, TendsTo
from derivations.prover.shown import formulas
from derivations.prover.theorems import THEOREMS
from derivations.prover.wrong_versions import variants
from derivations.prover.zero_test import Undecided, is_positive, is_zero

ROOT = Path(__file__).parents[2]
x, y = sp.symbols("x y", positive=True)
t = sp.Symbol("t", real=True)


@pytest.mark.parametrize(
    "expr",
    [
        sp.log(x * y) - sp.log(x) - sp.log(y),
        sp.log(6 * x**2 / y) - sp.log(2) - sp.log(3) - 2 * sp.log(x) + sp.log(y),
        sp.exp(t + sp.log(x)) - x * sp.exp(t),
        1 / (1 + sp.exp(-t)) - sp.exp(t) / (1 + sp.exp(t)),
        sp.log((x + y) ** 2 * sp.exp(t)) - 2 * sp.log(x + y) - t,
        x**t - sp.exp(t * sp.log(x)),
        (x**2 - y**2) / (x - y) - x - y,
        sp.exp(x / 2) * sp.exp(x / 2 + y / 3) - sp.exp(x + y / 3),
        sp.exp((t - 1) ** 2 / (2 * x)) / sp.exp((t + 1) ** 2 / (2 * x)) - sp.exp(-2 * t / x),
    ],
)
def test_identities_are_decided(expr):
    assert is_zero(expr)


@pytest.mark.parametrize(
    "expr", [sp.log(x + y) - sp.log(x) - sp.log(y), sp.exp(t) - 1 - t, sp.log(2) - sp.Rational(693, 1000), x - y]
)
def test_what_is_not_an_identity_is_not_proved_and_a_ball_shows_why(expr):
    assert not is_zero(expr)
    with pytest.raises(StepFailed, match="not equal"):
        Equal("planted", expr, sp.S.Zero).check()


def test_a_log_is_not_split_over_factors_of_unknown_sign():
    a, b = sp.symbols("a b", real=True)
    assert not is_zero(sp.log(a * b) - sp.log(a) - sp.log(b))  # false for a = b = -1


def test_powers_of_a_base_of_unknown_sign_are_not_called_positive():
    n, m = sp.symbols("n m", positive=True, integer=True)
    for expr in ((10 - n) ** m, t**n):
        with pytest.raises(StepFailed, match=r"undecided|not positive"):
            Positive("planted", expr).check()


def test_roots_are_algebraic_and_known_to_be():
    Equal("of one base", sp.sqrt(x + y) * sp.sqrt((x + y) ** 3), (x + y) ** 2).check()
    Equal("of a number", sp.sqrt(2) * (sp.sqrt(2) + x) - sp.sqrt(2) * x, sp.Integer(2)).check()
    assert not is_zero(sp.sqrt(x) - x)


def test_a_symbol_of_the_user_s_is_never_taken_for_a_kernel():
    for name in ("log0", "_log0", "exp0", "_exp0"):
        assert not is_zero(sp.Symbol(name, real=True) - sp.log(x))


def test_whole_powers_of_balls_are_defined_around_zero_and_below():
    n = sp.Symbol("n", positive=True, integer=True)
    at = {x: sp.Rational(8, 31), y: sp.Rational(8, 31), n: sp.Integer(3)}
    assert float(evaluate((x - y) ** 2, at)) == 0
    assert float(evaluate((x - y - 2) ** n, at)) == -8
    assert float(evaluate((x - y - 2) ** -n, at)) == -0.125
    Equal("a square", (x - y) ** 2, x**2 - 2 * x * y + y**2, unit=frozenset({x, y})).check()


def test_a_limit_that_balls_creep_towards_is_undecided_and_one_they_leave_is_an_internal_error(monkeypatch):
    with pytest.raises(StepFailed, match="too slowly"):
        TendsTo("true, but slow", sp.log(x) + 1000, x, sp.S.Zero, -sp.oo).check()
    monkeypatch.setattr(sp, "limit", lambda *_: sp.Integer(3))
    with pytest.raises(InternalError, match="do not approach"):
        TendsTo("planted", x, x, sp.S.Zero, sp.Integer(3)).check()


def test_a_counterexample_outside_of_the_hypotheses_or_an_empty_enumeration_counts_for_nothing():
    with pytest.raises(StepFailed, match="outside"):
        Differs("planted", x, y, {x: sp.S.One, y: -sp.S.One}).check()
    with pytest.raises(StepFailed, match="no case"):
        Enumerated("planted", lambda: iter(()), bool, callable, {"never": lambda case: case > 3}).check()


def test_a_proof_that_breaks_off_is_reported_under_its_claim(monkeypatch):
    monkeypatch.setattr(claims, "CLAIMS", {})

    def proof(error):
        raise error

    for error in (TypeError("planted"), ZeroDivisionError(), SystemExit(0)):
        claims.claim(repr(error), "", latex="", source="", scope="")(lambda error=error: proof(error))
    results = claims.check_claims(list(claims.CLAIMS.values()))
    assert [r.verdict for r in results] == ["failed"] * 3
    assert "the proof broke off: TypeError: planted" in results[0].problems[0]


def test_a_condition_in_words_is_none(monkeypatch):
    monkeypatch.setattr(claims, "CLAIMS", {})
    step = Equal("(x + 1)^2", (x + 1) ** 2, x**2 + 2 * x + 1, direction="both")
    claims.claim("half", "", latex="", source="", scope="", expected="iff", condition="it is Tuesday")(lambda: [step])
    (result,) = claims.check_claims(list(claims.CLAIMS.values()))
    assert "the condition 'it is Tuesday' is words" in result.problems[0]
    assert "no step decides an exact condition" in result.problems[1]


def test_what_no_procedure_decides_is_a_failure_not_a_pass():
    with pytest.raises(Undecided):
        is_zero(sp.sin(x) ** 2 + sp.cos(x) ** 2 - 1)
    with pytest.raises(StepFailed, match="undecided"):
        Positive("true, but not visibly", x**2 - x + 1).check()


def test_wrong_inequalities_limits_and_counterexamples_are_refuted():
    assert is_positive(x / (x + y))
    with pytest.raises(StepFailed, match="not positive"):
        Positive("planted", x - y).check()
    with pytest.raises(StepFailed, match="limit"):
        TendsTo("planted", sp.log(x), x, sp.S.Zero, sp.oo).check()
    with pytest.raises(StepFailed, match="not shown to differ"):
        Differs("planted", x + 1, x + 1, {x: sp.S.One}).check()


def test_balls_enclose_the_truth():
    value = evaluate(sp.log(x) * sp.exp(-y), {x: sp.Rational(3), y: sp.Rational(1, 2)})
    assert excludes_zero(value)
    assert float(value) == pytest.approx(float(sp.N(sp.log(3) * sp.exp(-sp.Rational(1, 2)))), rel=1e-14)
    assert not evaluate(sp.log(x), {x: sp.Rational(-1)}).is_finite()


def test_mutants_are_different_and_include_the_classic_slips():
    w, l = sp.symbols("r_w r_l", real=True)
    found = variants(-sp.log(1 + sp.exp(l - w)), limit=100)
    assert len(found) == len(set(found)) > 8
    assert sp.log(1 + sp.exp(l - w)) in found  # sign
    assert -sp.log(1 + sp.exp(w - l)) in found  # winner and loser swapped
    assert -sp.log(2 + 2 * sp.exp(l - w)) in found or any("log(2" in str(m) for m in found)


def test_an_equivalent_mutant_is_recognized_by_proof_only():
    step = Equal("planted", x + y, x + y)
    assert step.fate(Equal("planted", y + x, x + y)) == "equivalent"
    assert step.fate(Equal("planted", x - y, x + y)) == "refuted"
    assert step.fate(Equal("planted", sp.log(-x), x + y)) == "refuted"  # not even defined
    assert step.fate(Equal("planted", sp.sin(x) ** 2 + sp.cos(x) ** 2, sp.S.One)) == "survived"  # true, but not decided


@pytest.fixture
def results(every_claim):
    return every_claim


def test_every_claim_comes_out_as_stated_and_no_mutant_survives(results):
    assert [r.claim.id for r in results if not r.ok] == []
    assert len(results) >= 60
    made = sum(r.mutants.made for r in results)
    equivalent = sum(len(r.mutants.equivalent) for r in results)
    assert made >= 5 * len(results)
    assert equivalent <= 0.15 * made


def test_the_paper_s_step_is_refuted_with_its_exact_condition(results):
    result = next(r for r in results if r.claim.id == "length-normalized-temperature")
    assert result.verdict == "refuted"
    assert result.condition == "if and only if |l| = |w| or Z = 1"
    true, substituted = next(s for s in result.steps if isinstance(s, Differs)).numbers()
    assert (true, substituted) == (0.75, 0.6)  # odds 3 against 3 / sqrt(4)


def test_a_false_claim_fails_and_takes_what_rests_on_it_along(monkeypatch):
    monkeypatch.setattr(claims, "CLAIMS", {})
    options = {"latex": "", "source": "planted", "scope": "none"}
    true = Equal("(x + 1)^2", (x + 1) ** 2, x**2 + 2 * x + 1)
    claims.claim("false", "x = 2x", **options)(lambda: [Equal("x = 2x", 2 * x, x)])
    claims.claim("above", "x = x", depends_on=("false",), **options)(lambda: [true])
    claims.claim("words", "trust me", **options)(lambda: [Argued("summed, trust me", by="summation", uses=("false",))])
    claims.claim("no example", "x != x", expected="refuted", **options)(lambda: [true])
    verdicts = {r.claim.id: r for r in claims.check_claims(list(claims.CLAIMS.values()))}
    assert {r.verdict for r in verdicts.values()} == {"failed"}
    assert "rests on false" in verdicts["above"].problems[0]
    assert "no step was decided" in verdicts["words"].problems[0]
    assert "needs a counterexample" in verdicts["no example"].problems[0]


def test_json_of_the_command_is_complete_and_does_not_depend_on_jobs_or_hash_seed(tmp_path):
    answers = []
    for jobs, seed in (("1", "0"), ("2", "1")):
        output = tmp_path / f"{jobs}.json"
        command = [sys.executable, "-m", "derivations", "check", "--only", "*kl*", "--jobs", jobs, "--format", "json"]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        subprocess.run([*command, "--output", str(output)], check=True, env=environment, cwd=ROOT)
        answer = json.loads(output.read_text())
        for timed in (answer, *answer["claims"]):
            del timed["seconds"]
        answers.append(answer)
    assert answers[0] == answers[1]
    assert answers[0]["ok"] is True
    assert {"id", "verdict", "expected", "scope", "method", "depends_on", "steps", "mutants"} <= set(
        answers[0]["claims"][0]
    )
    assert {step["by"] for claim in answers[0]["claims"] for step in claim["steps"]} == {"decided", "argued"}


SAYS = {
    "Equal": ("lhs", "rhs", "given"),
    "Positive": ("expr",),
    "Differs": ("lhs", "rhs", "point"),
    "TendsTo": ("expr", "symbol", "place", "limit"),
    "Iff": ("lhs", "rhs", "nonzero", "factors", "at", "where", "condition"),
    "Enumerated": ("cases", "wrong"),
    "EnumeratedIff": ("cases", "wrong", "condition"),
    "Argued": ("theorem", "uses"),
}


def test_json_and_show_have_what_every_step_says_and_how_it_was_decided(results):
    data = report.as_json(results, 1.0)["claims"]
    steps = [step for claim in data for step in claim["steps"]]
    assert {step["kind"] for step in steps} == set(SAYS)
    for step in steps:
        assert {
            "statement",
            "by",
            "decided_by",
            "domain",
            "by_construction",
            "lhs",
            "rhs",
            "given",
            "kernel",
            *SAYS[step["kind"]],
        } <= set(step)
        assert step["decided_by"] or step["kind"] == "Argued"
        assert step["kernel"] is None  # it was not asked
        assert step["kind"] in ("Argued", "Enumerated", "EnumeratedIff") or (step["lhs"] and step["rhs"])
    for result in results:
        text = report.show(result)
        for step in result.steps:
            assert all(line in text for line in formulas(step))
            assert isinstance(step, Argued) or len(formulas(step)) >= 1


def test_the_summary_counts_what_was_argued_and_what_is_equal_by_construction(results):
    text = report.as_text(results, 1.0)
    equal, same = (sum(counts) for counts in zip(*(result.equalities for result in results), strict=True))
    assert 0 < same < 0.6 * equal
    assert f"{equal} equalities, {same} of them equal by construction" in text
    assert "decided, 1 step argued" in text
    assert "refuted, 2 steps argued" in text


def test_every_theorem_is_used_and_says_where_it_is_proved(results):
    used = {step.by for result in results for step in result.steps if isinstance(step, Argued)}
    assert used <= set(THEOREMS)
    assert set(THEOREMS) - used == set()
    assert all(theorem.says.endswith(".") and theorem.source for theorem in THEOREMS.values())


def test_show_prints_residual_condition_and_numbers(results):
    result = next(r for r in results if r.claim.id == "length-normalized-temperature")
    text = report.show(result)
    assert "left - right = (beta/(|l|*|w|)) * (|l| - |w|) * (log(Z)), whose first factor is never 0" in text
    assert "if and only if |l| = |w| or Z = 1" in text
    assert "beta, u, v > 0; |l|, |w| whole, >= 1; rest >= 0" in text
    assert "3/4 against 3/5" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "--only", "nothing*"], "no claim matches"),
        (["show", "repair-shanon"], "did you mean 'repair-shannon'"),
        (["check", "--jobs", "0"], "expected at least 1"),
        (["check", "--output", "/proc/no/c.json", "--only", "kl-nonnegative"], "cannot write"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, words):
    command = [sys.executable, "-m", "derivations", *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert words in run.stderr
    assert run.stderr.count("\n") == 1
