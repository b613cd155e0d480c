"""The kit on trial: every planted bug is killed, nothing correct is, and laws say what they should."""

import math

import pytest

torch = pytest.importorskip("torch", reason="the zoo's losses are written in torch")

from derivations.conformance import conform, try_laws  # noqa: E402
from derivations.conformance import trial as zoo_matrix  # noqa: E402
from derivations.conformance.backends import make_backend  # noqa: E402
from derivations.conformance.batches import examples  # noqa: E402
from derivations.conformance.contracts import NAMES, Target, family_of, options_of  # noqa: E402
from derivations.conformance.correct_losses import simpo  # noqa: E402
from derivations.conformance.families import RANKINGS  # noqa: E402
from derivations.conformance.how import read_off  # noqa: E402
from derivations.conformance.laws import Failure, all_laws, link  # noqa: E402
from derivations.conformance.loss_under_test import Subject  # noqa: E402
from derivations.conformance.planted_bugs import BUGS  # noqa: E402
from derivations.names import OBJECTIVES  # noqa: E402
from derivations.prover.claims import load_claims  # noqa: E402

OPTIONS = {
    "beta": 0.7,
    "alpha": 0.9,
    "gamma": 0.4,
    "label_smoothing": 0.15,
    "divergence": "jensen-shannon",
    "coefficient": 0.5,
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def rows():
    return zoo_matrix.run_zoo()


# ---------------------------------------------------------------- the matrix


def test_every_planted_bug_is_killed(rows):
    assert len(BUGS) >= 30
    assert [row.name for row in rows if row.bug and not row.fine] == []


def test_only_what_is_not_always_a_mistake_is_advised_on(rows):
    """No tokens, half precision, the reach of gamma/beta and of a clip; every other bug breaks a law that decides."""
    advice = {"empty-response", "half-precision", "reach", "ratio-one-only"}
    assert {law.id for law in all_laws() if law.kind == "advice"} == advice
    assert {row.advised_by for row in rows if row.bug and not row.killed_by} == {(law,) for law in advice}


def test_no_law_fails_on_a_correct_loss(rows):
    assert [(row.name, row.killed_by) for row in rows if not row.bug and row.killed_by] == []


def test_every_law_kills_a_bug_and_is_needed_or_says_why_it_is_there(rows):
    assert [law.id for law in zoo_matrix.idle(rows, all_laws())] == []
    # without its reason a law that never kills alone would be reported
    bare = [law for law in all_laws() if law.id == "swap"]
    assert zoo_matrix.idle(rows, [type(bare[0])(**{**vars(bare[0]), "why": ""})])


def test_a_bug_that_nobody_notices_makes_the_zoo_fail(rows):
    unnoticed = zoo_matrix.Row("unnoticed", "dpo", True, (), ())
    alarm = zoo_matrix.Row("a correct loss", "dpo", False, ("value",), ())
    assert zoo_matrix.ok(rows)
    assert not zoo_matrix.ok([*rows, unnoticed])
    assert not zoo_matrix.ok([*rows, alarm])
    assert "FAIL" in zoo_matrix.as_text([unnoticed])


def test_the_picture_in_the_documentation_is_the_matrix(rows, tmp_path):
    """Compared by its words: every row and column has its name there."""
    from pathlib import Path

    zoo_matrix.draw(rows, tmp_path / "zoo.svg")
    drawn, kept = (tmp_path / "zoo.svg").read_text(), (Path(__file__).parents[2] / "docs" / "zoo.svg").read_text()
    for name in [law.id for law in all_laws()] + [bug.pain.split("`")[-1] for bug in BUGS]:
        assert name in drawn
        assert name in kept, f"docs/zoo.svg is old; `make zoo` draws it again ({name})"


def test_a_change_that_does_not_fit_the_source_is_refused():
    from derivations.conformance.bugs import Bug

    with pytest.raises(ValueError, match="stands 0 times"):
        _ = Bug("x", "dpo", (("no such words", ""),)).function


# ---------------------------------------------------------------- no false alarms on our own objectives


def own(name, dtype):
    """The objective itself behind the contract, per token, computed in one precision."""
    target, known = Target(name, options_for(name)), [o for o in options_of(name) if o in OPTIONS and o != "divergence"]
    family = family_of(name)
    arrays = [n for n in examples(family)[0] if n != "ref_logps" or target.needs_reference or family is RANKINGS]
    parameters = ", ".join([*arrays, *known])
    body = ", ".join(f"{n}={n}" for n in arrays), ", ".join(f"{o}={o}" for o in known)
    source = f"def loss({parameters}):\n    return run(dict({body[0]}), dict({body[1]}))\n"

    def run(named, options):
        if dtype == "float32":
            named = {n: a.float() if a.dtype == torch.float64 else a for n, a in named.items()}
        return target.with_options(**options).losses(named)

    names = {"run": run}
    exec(source, names)  # noqa: S102
    return names["loss"]


def options_for(name):
    kept = [o for o in options_of(name) if o in OPTIONS]
    return {option: OPTIONS[option] for option in kept}


@pytest.mark.parametrize("how", ["torch float64", "torch float32", "numpy"])
@pytest.mark.parametrize("name", NAMES)
def test_no_verdict_law_fails_on_our_own_objectives(name, how):
    from derivations.conformance.loss_under_test import make_subject

    backend = make_backend(how.split()[0])
    subject = read_off(make_subject(own(name, how.split()[-1]), name, backend, options=options_for(name)))
    trials = try_laws(subject, all_laws())
    assert [(t.law.id, t.verdict) for t in trials if t.failed and t.law.kind == "verdict"] == []
    assert sum(not t.failed and not t.skipped for t in trials) >= 6


# ---------------------------------------------------------------- what laws say


def test_every_law_links_a_claim_of_the_book_and_threads_of_known_repositories():
    claims = {claim.id for claim in load_claims()}
    for law in all_laws():
        assert law.claim in claims, law.id
        for address in law.links:
            assert address.startswith("https://github.com/"), law.id
    assert len({law.id for law in all_laws()}) == len(all_laws())
    assert link("trl#1760") == "https://github.com/huggingface/trl/issues/1760"


def test_a_failure_shows_the_smallest_input_as_numbers_that_reproduce_it():
    (bug,) = [bug for bug in BUGS if bug.pain == "chosen and rejected swapped"]
    outcome = conform(bug.function, "simpo")
    (value,) = [trial.verdict for trial in outcome.broken if trial.law.id == "value"]
    assert isinstance(value, Failure)
    assert (
        value.given == "beta = 2; gamma = 1; label_smoothing = 0; chosen_logps = [[-1.63]]; rejected_logps = [[-1.51]]"
    )
    assert value.expected == f"loss {math.log1p(math.exp(-(2 * (-1.63 + 1.51) - 1))):.6g}"
    assert value.found == f"loss {math.log1p(math.exp(-(2 * (-1.51 + 1.63) - 1))):.6g}"


def test_advice_does_not_change_the_outcome():
    (bug,) = [bug for bug in BUGS if bug.pain == "an empty response goes through"]
    outcome = conform(bug.function, "simpo")
    assert outcome.ok
    assert [trial.law.id for trial in outcome.advice] == ["empty-response"]


def test_a_function_that_raises_only_on_one_law_s_input_fails_that_law_and_is_not_refused():
    def loss(chosen_logps, rejected_logps, chosen_mask, rejected_mask, beta=2.0, gamma=1.0):
        if len(chosen_logps) > 1:
            raise NotImplementedError("one pair only")
        return simpo(chosen_logps, rejected_logps, chosen_mask, rejected_mask, beta, gamma)

    outcome = conform(loss, "simpo")
    broken = {trial.law.id: trial.verdict for trial in outcome.broken}
    assert "one pair only" in broken["partition"].found
    assert "value" not in broken


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_loss_that_is_not_finite_breaks_laws_without_a_warning_or_an_exception(value):
    for name in ("dpo", "simpo-pl", "rloo-advantage"):
        leaf = family_of(name).leaves or ("rewards",)
        source = f"def loss({leaf[0]}): return {leaf[0]}.sum((*range(1, {leaf[0]}.ndim),)) * 0 + value\n"
        names = {"value": value}
        exec(source if name != "rloo-advantage" else "def loss(rewards): return rewards * 0 + value\n", names)  # noqa: S102
        outcome = conform(names["loss"], name, options={"beta": 1.0} if name != "rloo-advantage" else {})
        assert not outcome.ok
        assert not outcome.identity.known


def test_overwriting_an_input_in_place_is_reported_and_is_no_reason_to_refuse_the_function():
    """Log-probs that come out of a model may be written to, so the call works; `pure` says what it does to them."""

    def loss(chosen_logps, rejected_logps, chosen_mask, rejected_mask, beta=2.0, gamma=1.0):
        chosen_logps[~chosen_mask] = 0.0
        return simpo(chosen_logps, rejected_logps, chosen_mask, rejected_mask, beta, gamma)

    assert {trial.law.id for trial in conform(loss, "simpo").broken} == {"pure"}


def test_a_dead_gradient_is_not_taken_for_a_small_one():
    def loss(chosen_logps, rejected_logps, chosen_mask, rejected_mask, beta=2.0, gamma=1.0):
        with torch.no_grad():
            return simpo(chosen_logps, rejected_logps, chosen_mask, rejected_mask, beta, gamma)

    broken = {trial.law.id for trial in conform(loss, "simpo").broken}
    assert {"gradient", "support"} <= broken
    assert "value" not in broken


def test_the_laws_of_a_listwise_objective_are_not_tried_on_pairs():
    for name in OBJECTIVES:
        family = family_of(name)
        subject = Subject(lambda: None, Target(name, options_for(name)), None, {}, {})
        for law in all_laws():
            if law.families and family.name not in law.families:
                assert not law.applies(subject)
