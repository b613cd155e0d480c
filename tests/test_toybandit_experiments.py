"""Verdicts, the page, and the experiments run small: their checks must be able to fail."""

import copy
import tomllib

import numpy as np
import pytest

from derivations.commands import InputError
from toybandit import online
from toybandit.experiments import PROTOCOL, STATEMENTS, page, read_protocol, run_experiments, save
from toybandit.metrics import Interval
from toybandit.statements.common import Laboratory, sd_ratio, spearman
from toybandit.statements.mechanism import statement_8
from toybandit.statements.online import statement_1
from toybandit.verdicts import Statement, Table, at_least, at_most, between, number, show


def small():
    """The protocol with few worlds and steps."""
    protocol = copy.deepcopy(tomllib.loads(PROTOCOL.read_text()))
    protocol["common"] |= {"seeds": 40, "steps": 2500}
    for table in protocol.values():
        if "seeds" in table:
            table["seeds"] = min(table["seeds"], 40)
    return protocol


VALUES = np.array([0.4, 0.5, 0.6, 0.5])  # mean 0.5, half width 0.13


@pytest.mark.parametrize(
    ("check", "holds", "firm"),
    [
        (at_least("", VALUES, 0.3), True, True),
        (at_least("", VALUES, 0.45), True, False),
        (at_least("", VALUES, 0.55), False, False),
        (at_least("", VALUES, 0.7), False, True),
        (at_most("", VALUES, 0.3), False, True),
        (at_most("", VALUES, 0.55), True, False),
        (between("", VALUES, 0.3, 0.7), True, True),
        (between("", VALUES, 0.45, 0.7), True, False),
        (between("", VALUES, 0.7, 0.8), False, True),
        (at_most("", 0.0, 0), True, True),
        (at_least("", Interval(2.0, 1.0, 3.0), 2), True, False),
    ],
)
def test_a_check_is_judged_by_the_mean_and_is_firm_if_the_whole_interval_agrees(check, holds, firm):
    assert (check.holds, check.firm) == (holds, firm)


def test_a_verdict_needs_every_check_to_hold():
    good, bad = at_most("", 0.0, 1), at_most("", 2.0, 1)
    assert Statement("1", "", [good, good]).verdict == "reproduced"
    assert Statement("1", "", [good, bad]).verdict == "depends"
    assert Statement("1", "", [bad]).verdict == "not reproduced"


def test_the_page_shows_failures_and_every_table(tmp_path):
    statement = Statement(
        "1", "A sentence.", [at_most("too much", np.array([2.0, 3.0]), 1)], tables=[Table("T", ("a|b",), [["0.1"]])]
    )
    text = page([statement])
    assert "| 1 | **not reproduced** | 0 of 1 |" in text
    assert "| too much | 2.500 [-3.853, 8.853] | <= 1 | **no** † |" in text
    assert "| a\\|b |" in text
    assert "| 0.1 |" in text


def test_numbers_are_never_shown_as_a_zero_that_they_are_not():
    assert (number(0.0), number(1.5), number(-2e-7)) == ("0.000", "1.500", "-2.0e-07")
    assert show(Interval(1.0, 1.0, 1.0)) == "1.000"
    assert show(Interval(1.0, 0.5, 1.5)) == "1.000 [0.500, 1.500]"


def test_the_first_statement_is_found_in_a_small_run_and_not_with_an_optimizer_that_does_nothing(monkeypatch):
    found = statement_1(Laboratory(small()))
    assert found.verdict == "reproduced"
    monkeypatch.setattr(online, "make_update", lambda *a, **k: lambda theta: np.zeros_like(theta))
    still = statement_1(Laboratory(small()))
    assert still.verdict != "reproduced"
    assert [c.holds for c in still.checks[:4]] == [False, True, False, False]
    assert still.checks[0].measured.mean < 1e-6  # float32 of the reference


def test_the_laws_at_time_0_hold_for_every_prompt_and_fail_with_the_sign_turned(monkeypatch):
    protocol = small()
    found = statement_8(Laboratory(protocol))
    assert [c.holds for c in found.checks[:2]] == [True, True]
    protocol["s8"]["step"] = -1e-6  # descends
    assert [c.measured.mean < 0.05 for c in statement_8(Laboratory(protocol)).checks[:2]] == [True, True]


def test_every_statement_of_the_protocol_runs_and_is_saved(tmp_path):
    protocol = small()
    protocol["common"] |= {"seeds": 8, "steps": 60}
    for table in protocol.values():
        if "seeds" in table:
            table["seeds"] = 8
    protocol["s3"] |= {"time": 20.0, "lrs": [0.2, 1.0]}
    protocol["s5"]["drift_from"] = 5.0
    protocol["s9"] |= {"steps": 20, "converged_steps": 200}
    protocol["s10"] |= {"uniform_arms": 50, "uniform_seeds": 3}
    protocol["phase"] |= {"pairs": [30, 100], "prior_scales": [0.0, 1.0]}
    protocol["others"]["shared_seeds"] = 4
    seen = []
    found, lab = run_experiments(protocol, [], on_done=lambda statement, seconds: seen.append(statement.number))
    assert len(seen) == len(found) == len(STATEMENTS)
    written = save(tmp_path, "protocol", found, lab).read_text()
    for name in [name for statement in found for name in statement.figures]:
        assert (tmp_path / f"figures/toy-{name}.png").stat().st_size > 10_000
        assert f"figures/toy-{name}.png" in written
    assert sorted(lab.figures) == sorted(name for statement in found for name in statement.figures)
    for statement in found:
        assert all(np.isfinite(check.measured.mean) for check in statement.checks)


def test_a_protocol_that_lacks_a_number_is_refused_with_its_name(tmp_path):
    assert read_protocol(PROTOCOL)["s1"]["strength"] == 0.5
    (tmp_path / "p.toml").write_text(PROTOCOL.read_text().replace("strength = 0.5", "", 1))
    with pytest.raises(InputError, match=r"table \[s1\] has no 'strength'"):
        read_protocol(tmp_path / "p.toml")
    (tmp_path / "p.toml").write_text("[s1")
    with pytest.raises(InputError, match="is not TOML"):
        read_protocol(tmp_path / "p.toml")


def test_at_least_100_worlds_stand_behind_every_statement():
    protocol = tomllib.loads(PROTOCOL.read_text())
    assert protocol["common"]["seeds"] >= 100
    for name, table in protocol.items():
        for key in ("seeds", "uniform_seeds", "shared_seeds"):
            assert table.get(key, 100) >= 100, name


def test_rank_correlation_of_a_constant_is_0_and_the_ratio_of_spreads_is_that_of_the_values():
    assert spearman([1, 2, 3], [5, 5, 5]) == 0
    assert spearman([1, 2, 3], [5, 6, 9]) == 1
    values = np.random.default_rng(0).normal(size=400)
    ratio, low, high = sd_ratio(3 * values, values, seed=0)
    assert (ratio, low, high) == pytest.approx((3, 3, 3))
    ratio, low, high = sd_ratio(2 * np.random.default_rng(1).normal(size=400), values, seed=0)
    assert low < 2 < high
    assert high - low < 0.6
