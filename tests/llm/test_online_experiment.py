"""The online experiment's protocol, resumption, verdicts and report, on results whose answer is known."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from derivations.cli.errors import InputError
from derivations.cli.files import write_json
from derivations.evidence.intervals import Interval
from llm.experiments.online import Settings, choose, describe_left, expected_seconds, named
from llm.experiments.online_plan import PROTOCOL, read_plan
from llm.experiments.online_results import load, pick_texts, short, value
from llm.experiments.online_verdicts import Outcome, deviation_ratio, judge_all, verdict

METRICS = ("gold", "sentiment", "on_topic", "fluency", "logq_per_token", "length", "complete", "proxy")
METRICS += ("proxy_accuracy", "kl", "kl_k1", "kl_reverse", "entropy", "distinct_2")
START = {name: 0.5 for name in METRICS} | {
    "entropy": 50.0,
    "length": 18.0,
    "logq_per_token": -2.5,
    "kl": 0.0,
    "kl_k1": 0.0,
}


@pytest.fixture(scope="module")
def plan():
    return read_plan(PROTOCOL)


def evaluation(step, metrics, kappa=1.0, tau=0.0):
    fit = {"kappa": kappa, "tau": tau, "r2_level": 1.0, "r2_change": None if step == 0 else 0.3}
    around = {name: {"mean": x, "low": x, "high": x} for name, x in fit.items()}
    return {"step": step, "eval": dict(metrics), "eval-train": dict(metrics), "retention": around}


def make_result(plan, run, *, change=(), kappa=1.0, tau=0.0):
    """A result whose metrics moved by `change` in the end and by half of it in the middle."""
    shifts = dict(change)
    shifts["kl_k1"] = shifts.get("kl", 0.0)  # two estimators of one number
    moved = {name: START[name] + shift for name, shift in shifts.items()}
    half = {name: START[name] + shift / 2 for name, shift in shifts.items()}
    last = run.options["max_steps"]
    points = (
        (0, START, 1.0, 0.0),
        (last // 4, START, 1.0, 0.0),
        (last // 2, START | half, (1 + kappa) / 2, tau / 2),
        (last, START | moved, kappa, tau),
    )
    steps = list(range(1, last + 1))
    return {
        "run": run.name, "arm": run.arm, "group": run.group, "seed": run.seed, "protocol": plan.fingerprint,
        "regularizer": "none", "wrong_bonus": 0.0, "seconds": 60.0, "peak_memory_gib": 4.0, "spread_ratio": 0.8,
        "proxy": {"accuracy": 0.66}, "evaluations": [evaluation(*point) for point in points],
        "curve": {"step": steps} | {n: [START[n]] * last for n in ("proxy", "gold", "kl", "entropy", "length")},
        "texts": [{"topic": "snow", "response": f"A | `b`\n{run.name}", "gold": 0.1, "proxy": 0.2}],
    }  # fmt: skip


def write_results(plan, folder, changes=lambda run: {}, keep=lambda run: True):
    for run in filter(keep, plan.runs):
        write_json(folder / f"{run.name}.json", make_result(plan, run, **changes(run)))
    return load(plan, folder)


def verdicts(plan, results):
    return {claim.says: claim.verdict for claim in judge_all(plan, results)}


# ---- the protocol


def test_the_protocol_holds_the_arms_and_settings_that_were_asked_for(plan):
    assert len(plan.runs) == 120
    by_arm = {run.arm: run.config(Path("x")) for run in plan.runs}
    shared = [by_arm[a] for a, group in plan.arms.items() if group in ("main", "weak")]
    assert {(c.max_steps, c.lr, c.dtype, c.prompts_per_step, c.samples) for c in shared} == {(40, 5e-5, "bf16", 8, 4)}
    assert {c.proxy_pairs for a, c in by_arm.items() if a.endswith("-weak")} == {100}
    assert {c.proxy_pairs for a, c in by_arm.items() if not a.endswith("-weak")} == {1000}
    for arm, group in plan.arms.items():
        if group == "rate":
            slow, full = by_arm[arm], by_arm[arm.removesuffix("-slow")]
            assert slow.lr * slow.max_steps == pytest.approx(full.lr * full.max_steps)
            assert slow.lr == full.lr / 2
    assert by_arm["wrong-bonus"].wrong_bonus == 0.05
    assert sum(c.wrong_bonus > 0 for c in by_arm.values()) == 1
    for run in plan.runs:  # every evaluation that a check or table reads is made
        config = run.config(Path("x"))
        assert config.max_steps // 2 % config.eval_every == 0


def test_runs_come_group_by_group_and_in_a_group_seed_by_seed(plan):
    order = [(list(plan.protocol["groups"]).index(run.group), run.seed) for run in plan.runs]
    assert order == sorted(order)
    assert plan.runs[0].name == "none-seed0"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"none" = { regularizer = "none" }', '"none" = { regularizer = "nothing" }', "arm none: .*nothing"),
        ("lr = 5e-5", "rate = 5e-5", "rate"),
        ("lr = 5e-5", "lr = -1.0", "lr"),
        ('arm = "none-weak", metric', 'arm = "none-week", metric', "unknown arm 'none-week'"),
        ('how = "drift"', 'how = "drifts"', "unknown how 'drifts'"),
        ('metric = "eval/entropy", at_least', 'metric = "entropy", at_least', "metric is 'entropy'"),
        ("at_least = 1.2", "least = 1.2", "needs one of at_least"),
        ('"kl-0.05" = "kl=0.5"', '"kl-0.06" = "kl=0.5"', r"\[toy\]: unknown arm 'kl-0.06'"),
        ('"none-weak" = {', '"none" = {', "arm stands in two groups"),
        ("[least]", "[lesat]", "has no 'least'"),
        ("[common]", "[common", "cannot read the protocol"),
    ],
)
def test_a_protocol_that_could_not_be_run_or_judged_is_refused_before_anything_runs(tmp_path, old, new, message):
    text = PROTOCOL.read_text()
    assert old in text
    (tmp_path / "p.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        read_plan(tmp_path / "p.toml")


# ---- resuming


def test_finished_runs_are_not_left_and_what_is_left_is_estimated_from_them(plan, tmp_path):
    results = write_results(plan, tmp_path, keep=lambda run: run.group == "main" and run.seed < 2)
    left = [run for run in plan.runs if run.seed not in results[run.arm]]
    assert len(left) == 120 - 16
    *lines, total = describe_left(left, plan, results, jobs=2)
    assert [line.split()[0] for line in lines] == [run.name for run in left]
    first = plan.runs[0]  # a minute each was taken, so the scale is a minute over what was expected of that run
    scale = 60 / expected_seconds(first, plan)
    assert float(lines[0].split()[1]) == pytest.approx(scale * expected_seconds(left[0], plan) / 60, abs=0.05)
    hours = sum(scale * expected_seconds(run, plan) for run in left) / 2 / 3600
    assert f"104 of 123 runs left, about {hours:.1f} hours" in total
    assert "from 16 finished runs" in total
    assert "from the protocol's figures" in describe_left(left, plan, {arm: {} for arm in plan.arms}, jobs=1)[-1]


def test_longer_runs_are_expected_to_take_longer(plan):
    seconds = {arm: expected_seconds(named(plan, f"{arm}-seed0"), plan) for arm in plan.arms}
    known = plan.protocol["seconds"]
    assert seconds["none"] == known["start"] + 40 * known["step"] + 5 * known["evaluation"]
    assert seconds["entropy-0.05-16-samples"] - seconds["none"] == pytest.approx(3 * 40 * known["step"])
    assert seconds["none-long"] - known["start"] == pytest.approx(2 * (seconds["none"] - known["start"]))


def test_results_of_another_protocol_or_damaged_ones_are_refused(plan, tmp_path):
    path = tmp_path / "none-seed0.json"
    for text, message in (
        (json.dumps({"protocol": "another"}), "follows another protocol"),
        ("{", "not the result of a run"),
        ("{}", "not the result of a run"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            load(plan, tmp_path)


def test_runs_are_chosen_by_name_or_pattern(plan):
    assert [run.name for run in choose(plan, ("kl-0.3-seed1",))] == ["kl-0.3-seed1"]
    assert {run.arm for run in choose(plan, ("*-weak-seed0",))} == {a for a, g in plan.arms.items() if g == "weak"}
    assert choose(plan, ()) == [*plan.runs, *plan.kernel]
    with pytest.raises(InputError, match="no such run"):
        choose(plan, ("kl-9-*",))
    with pytest.raises(InputError, match="no run 'kl-9'"):
        named(plan, "kl-9")
    with pytest.raises(InputError, match="--jobs is 0"):
        Settings(jobs=0)


def test_a_dozen_texts_an_arm_are_taken_without_looking_at_them():
    rows = [{"step": s, "topic": f"t{i}", "response": f"{s}{i}{k}", "gold": 0, "proxy": 1, "split": split}
            for s in (0, 9) for split in ("eval", "eval-train") for i in range(8) for k in range(2)]  # fmt: skip
    taken = [[t["response"] for t in pick_texts(rows, seed, 4)] for seed in range(3)]
    assert taken == [["900", "910", "920", "930"], ["940", "950", "960", "970"], ["900", "910", "920", "930"]]


def test_numbers_are_kept_to_five_digits_and_nothing_else_changes():
    assert short({"a": [1.23456789e-7, 3, "x", None, math.inf], "b": True}) == {
        "a": [1.2346e-7, 3, "x", None, math.inf],
        "b": True,
    }


# ---- verdicts


def outcome(role, said):
    return Outcome("", role, 3, Interval(0, 0, 0), "", said)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([("headline", "holds"), ("control", "holds")], "reproduced"),
        ([("headline", "holds"), ("control", "open")], "depends"),
        ([("headline", "holds"), ("headline", "fails")], "depends"),
        ([("headline", "open"), ("control", "holds")], "depends"),
        ([("headline", "fails"), ("control", "holds")], "not reproduced"),  # a control earns nothing
        ([("headline", "fails"), ("headline", "open")], "not reproduced"),
        ([("headline", "holds"), ("control", "too few seeds")], "too few seeds"),
    ],
)
def test_a_verdict_follows_from_its_checks(said, expected):
    assert verdict(tuple(outcome(*pair) for pair in said)) == expected


def test_an_optimizer_that_does_nothing_reproduces_no_claim(plan, tmp_path):
    found = verdicts(plan, write_results(plan, tmp_path))
    clocks = {c["says"] for c in plan.protocol["claims"] if any(k.get("how") in ("clock", "kept") for k in c["checks"])}
    assert {says for says, said in found.items() if said == "depends"} == clocks  # undefined: nothing was forgotten
    assert {said for says, said in found.items() if says not in clocks} == {"not reproduced"}


def jitter(run):
    """A change of its own for every run, so that no interval has width 0."""
    return 0.003 * (1 + run.seed + len(run.arm) % 5)


def as_the_trial_saw(run):
    """Effects of the trial that the protocol's bounds were taken from, and clocks that the kernel decides."""
    arm, x = run.arm.removesuffix("-slow"), jitter(run)
    forgetful = {"entropy-0.05": (0.76, 95.0), "length-normalized-1": (0.77, 90.0), "entropy-0.05-sgd": (0.8, 60.0)}
    forgetful |= {"entropy-0.05-16-samples": (0.7, 99.0), "entropy-0.05-on-topic": (0.75, 80.0)}
    if arm in forgetful:
        kappa, entropy = forgetful[arm]
        change = {"entropy": entropy + x, "gold": -0.4 + x, "proxy": -0.5 + x, "logq_per_token": -2.0 + x, "kl": 30 + x}
        return {"change": change, "kappa": kappa + x, "tau": 0.2}
    if arm == "none-weak":
        return {"change": {"length": -15.0 + x, "gold": -0.2 + x}, "kappa": 1 + x}
    if arm.endswith("-long"):
        return {"change": {"length": (6.0 if "entropy" in arm else 0.0) + x}}
    gold = -0.1 if arm == "entropy-0.01" else -0.05 if arm == "kl-0.05-weak" else 0.1
    change = {"proxy": 1.0 + x, "gold": gold + x, "kl": (5.0 if arm == "kl-0.3" else 20.0) + 10 * x}
    return {"change": change, "kappa": (0.94 if arm in ("entropy-0.01", "entropy-0.02") else 1.0) + x}


def test_the_trial_s_effects_are_found_and_each_claim_can_come_out_both_ways(plan, tmp_path):
    found = verdicts(plan, write_results(plan, tmp_path, as_the_trial_saw))
    others = {
        "KL spreads 2 to 4 times as much over seeds as entropy": "depends",  # three seeds cannot tell
        "Natural gradient's law kappa = 1 - alpha tau holds in the network, within a factor of 2": "not reproduced",
        "Rival: the optimizer (SGD raises c by 0.25)": "not reproduced",
        "Rival: noise (4 times the samples raise c by 0.25)": "not reproduced",
        "Rival: leaving the topic (entropy on on-topic samples alone stops most of the forgetting)": "not reproduced",
    }
    assert {says: said for says, said in found.items() if said != "reproduced"} == others


def test_the_clock_is_that_of_the_law_and_undefined_where_nothing_was_forgotten(plan, tmp_path):
    law = {"entropy-0.05": {"kappa": 0.8, "tau": 4.0}}  # kappa = 1 - alpha tau
    results = write_results(plan, tmp_path, lambda run: law.get(run.arm, {}))
    clocks = [c for claim in judge_all(plan, results) for c in claim.checks if c.what.startswith("c = ")]
    own = next(c for c in clocks if c.what.endswith(", entropy-0.05"))
    assert own.found.mean == pytest.approx(1)
    assert own.outcome == "holds"  # between 0.5 and 2
    sgd = next(c for c in clocks if c.what.endswith(", entropy-0.05-sgd"))
    assert math.isnan(sgd.found.mean)
    assert (sgd.outcome, sgd.shown) == ("open", "undefined")


def test_differences_are_taken_seed_by_seed(plan, tmp_path):
    """Seeds that differ by much in both arms alike leave the difference sharp."""
    results = write_results(
        plan, tmp_path,
        lambda run: {"kappa": 0.5 * run.seed + (0.3 if run.arm == "kl-0.05" else 0.0)},
    )  # fmt: skip
    checks = [c for claim in judge_all(plan, results) for c in claim.checks]
    (paired,) = (c for c in checks if c.what == "retention/kappa, kl-0.05 minus entropy-0.05")
    assert (paired.found.mean, paired.found.high - paired.found.low) == pytest.approx((0.3, 0.0), abs=1e-12)


def test_half_of_the_steps_is_half_of_an_arm_s_own_steps(plan, tmp_path):
    results = write_results(plan, tmp_path, as_the_trial_saw)
    slow, full = results["kl-0.05-slow"][0], results["kl-0.05"][0]
    assert value(slow, "eval-train/kl_k1", "half") == pytest.approx(value(slow, "eval-train/kl_k1") / 2)
    assert slow["evaluations"][2]["step"] == full["evaluations"][3]["step"] == 40


def test_the_interval_of_a_ratio_of_deviations_covers_the_truth_95_times_in_100():
    rng = np.random.default_rng(0)
    draws = [deviation_ratio(3 * rng.normal(size=3), rng.normal(size=3), least=0.001) for _ in range(2000)]
    covered = np.mean([found.low <= 3 <= found.high for found in draws])
    assert abs(covered - 0.95) < 4 * (0.95 * 0.05 / 2000) ** 0.5  # four standard errors
    one = deviation_ratio(np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 4.0]), least=0.001)
    assert one.mean == pytest.approx(0.5)
    assert one.high / one.mean == pytest.approx(stats.f.ppf(0.975, 2, 2) ** 0.5)
    assert deviation_ratio(np.zeros(3), np.full(3, 1e-9), least=0.001) == Interval(1, 1, 1)
