"""Verdicts, the page, and the experiments run small: their checks must be able to fail."""

import copy
import hashlib
import tomllib

import numpy as np
import pytest

from derivations.cli.errors import InputError
from derivations.evidence.intervals import Interval
from derivations.evidence.tables import Table
from derivations.evidence.verdicts import Statement, at_least, at_most, between, control, number, show
from toybandit.experiments import scaling
from toybandit.experiments.common import Laboratory, sd_ratio, spearman, spearman_interval
from toybandit.experiments.mechanism import statement_6, statement_7, statement_8
from toybandit.experiments.online import statement_1, statement_2, statement_4, statement_5
from toybandit.experiments.protocol import PROTOCOL, Protocol, read_protocol
from toybandit.experiments.run import FOLDER, STATEMENTS, page, run_experiments


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


GOOD, BAD = at_most("", 0.0, 1), at_most("", 2.0, 1)
UNSURE = at_most("", np.array([0.0, 4.0]), 1)  # the mean of 2 is too much, and its interval says little


@pytest.mark.parametrize(
    ("checks", "verdict"),
    [
        ([GOOD, control(GOOD)], "reproduced"),
        ([GOOD, BAD], "depends"),
        ([GOOD, control(BAD)], "depends"),
        ([BAD, control(GOOD)], "not reproduced"),  # what holds by definition earns nothing
        ([BAD, UNSURE], "not reproduced"),
        ([UNSURE, control(GOOD)], "depends"),
    ],
)
def test_a_verdict_follows_from_its_headlines_and_controls_can_only_spoil_it(checks, verdict):
    assert Statement("1", "", checks).verdict == verdict


def test_the_page_shows_failures_and_every_table(tmp_path):
    statement = Statement(
        "1", "A sentence.", [at_most("too much", np.array([2.0, 3.0]), 1)], tables=[Table("T", ("a|b",), [["0.1"]])]
    )
    text = page([statement], read_protocol(PROTOCOL))
    assert "| 1 | **depends** | 0 of 1 | 0 of 0 |  |" in text
    assert "| headline | too much | 2.500 [-3.853, 8.853] | <= 1 | **no** † |" in text
    assert "the packaged one" in text
    assert hashlib.sha256(PROTOCOL.read_bytes()).hexdigest() in text
    firm = Statement("2", "", [at_most("spread", 3.0, 1), at_most("b", 0.0, 1)])
    changed = page([firm], Protocol("other", {}))
    assert "| 2 | **depends** | 1 of 2 | 0 of 0 | spread (3.000) |" in changed
    assert "| headline | spread | 3.000 | <= 1 | **not reproduced** |" in changed
    assert "fixed before" not in changed
    assert "| a\\|b |" in text
    assert "| 0.1 |" in text


def test_numbers_are_never_shown_as_a_zero_that_they_are_not():
    assert (number(0.0), number(1.5), number(-2e-7)) == ("0.000", "1.500", "-2.0e-07")
    assert show(Interval(1.0, 1.0, 1.0)) == "1.000"
    assert show(Interval(1.0, 0.5, 1.5)) == "1.000 [0.500, 1.500]"


def test_the_first_statement_is_found_in_a_small_run():
    assert statement_1(Laboratory(small())).verdict == "reproduced"


def still_protocol():
    """Every learning rate so small that nothing is learned."""
    protocol = small()
    protocol["common"] |= {"seeds": 12, "steps": 200, "lr": 1e-12}
    for table in protocol.values():
        table |= {name: 1e-12 for name in ("natural_lr", "adam_lr", "natural_none_lr") if name in table}
        table |= {name: 12 for name in ("seeds", "shared_seeds") if name in table}
    protocol["s5"]["drift_from"] = 5e-11
    return protocol


@pytest.mark.parametrize("experiment", [statement_1, statement_2, statement_4, statement_5, statement_6, statement_7])
def test_an_optimizer_that_does_nothing_reproduces_no_effect(experiment):
    found = experiment(Laboratory(still_protocol()))
    assert found.verdict == "not reproduced"
    assert not any(check.holds for check in found.checks if check.role == "headline")


def test_an_optimizer_that_does_nothing_shows_no_phase_and_nothing_in_other_worlds():
    protocol = still_protocol()
    protocol["phase"] |= {"pairs": [30, 100], "prior_scales": [0.0, 1.0]}
    assert scaling.phases(Laboratory(protocol)).verdict == "not reproduced"
    assert scaling.other_worlds(Laboratory(protocol)).verdict == "not reproduced"


def test_the_laws_at_time_0_hold_for_every_prompt_and_fail_with_the_sign_turned(monkeypatch):
    protocol = small()
    found = statement_8(Laboratory(protocol))
    assert [c.holds for c in found.checks[:2]] == [True, True]
    protocol["s8"]["step"] = -1e-6  # descends
    assert [c.measured.mean < 0.05 for c in statement_8(Laboratory(protocol)).checks[:2]] == [True, True]


def tiny():
    """The protocol so small that all of it runs in seconds."""
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
    return Protocol("tiny", protocol)


def test_every_statement_of_the_protocol_runs_and_is_saved(tmp_path):
    seen = []
    found = run_experiments(tiny(), [], tmp_path, on_done=lambda statement, seconds: seen.append(statement.number))
    assert len(seen) == len(found) == len(STATEMENTS)
    written = (tmp_path / "toy.md").read_text()
    for name in [name for statement in found for name in statement.figures]:
        assert (tmp_path / f"figures/toy-{name}.png").stat().st_size > 10_000
        assert f"figures/toy-{name}.png" in written
    for statement in found:
        assert all(np.isfinite(check.measured.mean) for check in statement.checks)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures", "toy-protocol.toml", "toy.json", "toy.md"]


def test_a_killed_run_goes_on_with_what_it_finished_and_writes_the_page_of_an_uninterrupted_one(tmp_path, monkeypatch):
    def run(out, protocol=None):
        seen = []
        only = ("7", "8")
        run_experiments(protocol or tiny(), only, out, on_done=lambda statement, seconds: seen.append(statement.number))
        return seen

    assert run(tmp_path / "whole") == ["7", "8"]
    with monkeypatch.context() as broken:
        broken.setitem(STATEMENTS, "8", lambda lab: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed")
    assert not (tmp_path / "killed/toy-protocol.toml").exists()  # nothing there to be taken for a result
    assert (tmp_path / "killed" / FOLDER / "7.json").exists()
    assert run(tmp_path / "killed") == ["8"]
    for name in ("toy.md", "toy.json", "toy-protocol.toml"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "killed" / FOLDER).exists()

    with monkeypatch.context() as broken:
        broken.setitem(STATEMENTS, "8", lambda lab: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "other")
    other = tiny()
    assert run(tmp_path / "other", Protocol("another protocol", other.tables)) == ["7", "8"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("strength = 0.5\n", "", r"table \[s1\] has no 'strength'"),
        ("[common]", "[s1", "cannot read the protocol"),
        ("seeds = 200", 'seeds = "x"', r"\[common\]: seeds is 'x', expected a number like 200"),
        ("seeds = 200", "seeds = 2.5", r"seeds is 2.5"),
        ("seeds = 200", "seeds = 1", r"--seeds is 1, expected"),
        ("2.0, 3.0, 4.0]", "3.0]", r"\[s2\]: turned_alpha = 2.0 is not one of alphas"),
        ("strength = 0.5\n", "strength = 0.55\n", r"strength = 0.55 is not one of strengths"),
        ("entropy_loses = 0.45, ", "", r"\[s1\], bounds has no 'entropy_loses'"),
        ("spread = [2.0, 4.0]", "spread = [2.0]", r"spread is \[2.0\], expected a list"),
        ("steps = 2500", "steps = 0", r"\[common\]: steps is 0, and every statement needs a run"),
        ("drift_from = 50.0", "drift_from = 500.0", r"drift_from is 500.0, expected a time within lr"),
        ("least_effect = 0.001", "least_effect = nan", "least_effect is nan"),
    ],
)
def test_a_protocol_that_cannot_be_run_is_refused_with_the_number_that_is_wrong(tmp_path, old, new, message):
    text = PROTOCOL.read_text()
    assert read_protocol(PROTOCOL).packaged
    assert old in text
    (tmp_path / "p.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        read_protocol(tmp_path / "p.toml")


def test_a_table_of_the_protocol_that_is_none_is_refused(tmp_path):
    (tmp_path / "p.toml").write_text("common = 3\n")
    with pytest.raises(InputError, match=r"table \[common\] is 3, expected a table"):
        read_protocol(tmp_path / "p.toml")


def test_a_label_names_the_number_of_the_protocol():
    protocol = still_protocol()
    protocol["s1"] |= {"strength": 0.7}
    protocol["s1"]["bounds"]["entropy_loses"] = 0.123
    first = statement_1(Laboratory(protocol)).checks[0]
    assert (first.what, first.target) == ("overoptimization, entropy 0.7", ">= 0.123")


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
    assert sd_ratio(1e-9 * values, np.zeros(400), seed=0, least=1e-3) == (1, 1, 1)
    assert spearman([1, 2, 3], [5, 5 + 1e-6, 5 + 2e-6], least=1e-3) == 0
    rising = np.arange(4)[:, None] + values
    assert spearman_interval(range(4), rising, seed=0, least=0) == Interval(1, 1, 1)
    noise = np.random.default_rng(2).normal(size=(4, 400))
    assert spearman_interval(range(4), noise, seed=0, least=0).high - spearman(range(4), noise.mean(-1)) > 0.1
    ratio, low, high = sd_ratio(2 * np.random.default_rng(1).normal(size=400), values, seed=0)
    assert low < 2 < high
    assert high - low < 0.6
