"""The offline experiment's plan and verdicts, and the benchmark's arithmetic, on numbers whose answer is known."""

import json

import pytest

from benchmarks.llm_offline import CASES, Settings, compare
from benchmarks.llm_offline_data import make_batches
from derivations.cli.errors import InputError
from derivations.evidence.verdicts import verdict
from llm.experiments.offline import PROTOCOL, Run, finished, planned, read_protocol
from llm.experiments.offline import Settings as Experiment
from llm.experiments.offline_report import judged, write_report
from llm.settings.train import TrainConfig


def test_the_protocol_names_settings_that_train_takes():
    protocol, fingerprint = read_protocol(PROTOCOL)
    assert len(fingerprint) == 12
    for run in planned(protocol, with_file=True):
        task, objective = protocol["tasks"][run.task], protocol["objectives"][run.objective]
        TrainConfig(objective=run.objective, seed=run.seed, **(protocol["common"] | objective | task["options"]))
    assert len(planned(protocol, with_file=True)) == 36
    assert {r.task for r in planned(protocol, with_file=False)} == {"on-policy", "planted", "shuffled"}
    assert [r.seed for r in planned(protocol, with_file=True)] == sorted(r.seed for r in planned(protocol, True))


def test_a_protocol_that_train_refuses_is_named(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(PROTOCOL.read_text().replace("alpha = 0.05", "alpha = 0.0"))
    with pytest.raises(InputError, match=r"a\.toml: objective maxent: alpha is 0\.0, expected"):
        read_protocol(path)


def test_results_of_another_protocol_are_not_mixed_in(tmp_path):
    settings = Experiment(out=tmp_path)
    run = Run("planted", "dpo", 0)
    assert not finished(run, settings, "abc")
    (tmp_path / run.name).mkdir()
    (tmp_path / run.name / "result.json").write_text(json.dumps({"protocol": "abc"}))
    assert finished(run, settings, "abc")
    with pytest.raises(InputError, match="follows another protocol"):
        finished(run, settings, "def")


@pytest.mark.parametrize(
    ("low", "high", "rises", "falls", "nothing"),
    [(0.1, 0.2, True, False, False), (-0.2, -0.1, False, True, False), (-0.1, 0.1, False, False, True)],
)
def test_a_verdict_needs_the_whole_interval_on_its_side(low, high, rises, falls, nothing):
    effect = {"mean": (low + high) / 2, "low": low, "high": high}
    assert [judged(effect, sign) == "holds" for sign in (1, -1, 0)] == [rises, falls, nothing]


def test_a_control_that_is_too_wide_to_exclude_the_effect_is_open():
    def outcome(low, high):
        return judged({"mean": (low + high) / 2, "low": low, "high": high}, 0, size=0.5)

    assert [outcome(-0.4, 0.4), outcome(-1.1, 1.2), outcome(-0.4, 0.6), outcome(0.1, 0.2)] == [
        "holds",
        "open",
        "open",
        "fails",
    ]


def test_objectives_that_disagree_make_a_verdict_depend():
    assert [verdict(("headline", ok, not ok) for ok in x) for x in ([True, True], [True, False], [False, False])] == [
        "reproduced",
        "depends",
        "not reproduced",
    ]


def result(task, objective, seed, *, loss, accuracy):
    names = ("rewards/accuracies", "loss", "logps/chosen", "logps/rejected")
    names += ("logps_per_token/chosen", "logps_per_token/rejected")
    before = dict.fromkeys(names, 0.5)
    after = before | {"loss": 0.5 + loss, "rewards/accuracies": 0.5 + accuracy}
    extra = {"train_pairs": 4, "eval_pairs": 2, "seconds": 1.0, "peak_memory_gib": 1.0, "protocol": "x"}
    return {"task": task, "objective": objective, "seed": seed, "before": before, "after": after} | extra


def test_the_report_says_what_the_runs_say(tmp_path):
    protocol, _ = read_protocol(PROTOCOL)
    for seed in range(3):
        for objective in ("simpo", "dpo", "maxent"):
            learned = -0.3 - 0.01 * seed if objective != "dpo" else 0.1 * (seed - 1)  # dpo does not
            rows = (("planted", learned, 0.4), ("shuffled", 0.0, 0.1 * (seed - 1)))
            for task, loss, accuracy in rows:
                folder = tmp_path / f"{task}-{objective}-{seed}"
                folder.mkdir()
                own = result(task, objective, seed, loss=loss, accuracy=accuracy)
                (folder / "result.json").write_text(json.dumps(own))
    numbers = write_report(tmp_path, tmp_path / "offline.md", protocol, "x")
    assert [(c["verdict"], c["claim"].split(":")[0]) for c in numbers["claims"]] == [
        ("depends", "planted labels are learned"),
        ("reproduced", "shuffled labels give no gain in held-out accuracy"),
    ]
    effect = numbers["tasks"]["planted"]["simpo"]["effects"]["held-out loss"]
    # -0.30, -0.31, -0.32: standard error 0.01/sqrt(3), and Student's quantile 4.302653 with 2 degrees of freedom
    assert effect["mean"] == pytest.approx(-0.31)
    assert effect["high"] - effect["mean"] == pytest.approx(4.302653 * 0.01 / 3**0.5, rel=1e-6)
    text = (tmp_path / "offline.md").read_text()
    assert "The task `file` was not run" in text
    assert "| accuracy after | 0.900 | 0.900 | 0.900 |" in text
    assert len(json.loads((tmp_path / "offline.json").read_text())["results"]) == 18


# ---- the benchmark


def test_dialogue_lengths_pad_and_supervise_as_their_description_says():
    batches = make_batches(Settings(batches=300), seed=0)
    assert len(batches) == 301
    sizes = [[(len(p["prompt"]), len(p[s])) for p in b for s in ("chosen", "rejected")] for b in batches]
    padded = sum(max(map(sum, b)) * len(b) for b in sizes)
    real = sum(sum(map(sum, b)) for b in sizes)
    supervised = sum(r for b in sizes for _, r in b)
    assert padded / real == pytest.approx(1.9, abs=0.1)
    assert supervised / padded == pytest.approx(0.14, abs=0.02)
    assert max(p + r for b in sizes for p, r in b) <= 512
    assert make_batches(Settings(batches=2), seed=0) != make_batches(Settings(batches=2), seed=1)


@pytest.mark.parametrize(
    ("difference", "case", "reached"),
    [(9e-6, "simpo-float32", True), (2e-5, "simpo-float32", False), (2e-5, "simpo-bf16", True)],
)
@pytest.mark.parametrize("name", ["loss", "grad_norm"])
def test_a_fast_step_that_computes_something_else_has_not_reached_its_row(difference, case, reached, name):
    rows = []
    for step in range(2):
        shared = {"seed": 0, "step": step, "gflop": 1.0, "loss": 2.0, "grad_norm": 2.0}
        rows.append(shared | {"arm": "ours", "seconds": 1.0, "peak_gib": 1.0, name: 2.0 * (1 + difference)})
        rows.append(shared | {"arm": f"trl-{CASES[case].trl}", "seconds": 9.0, "peak_gib": 9.0})
    assert compare(CASES[case], rows, peak_gflops=1.0)["reached"] is reached


def test_the_table_compares_total_times_and_the_first_step_s_values():
    rows = []
    for seed, factor in ((0, 2.0), (1, 4.0)):
        for step in range(4):
            own = 1.0 + 0.1 * step
            shared = {"seed": seed, "step": step, "gflop": own * 50}
            rows.append(shared | {"arm": "ours", "seconds": own, "loss": 1.0, "grad_norm": 2.0, "peak_gib": 2.0})
            trl = {
                "seconds": own * factor if step else 99.0,
                "loss": 1.0 + 1e-5 + step,
                "grad_norm": 2.0,
                "peak_gib": 8.0,
            }
            rows.append(shared | {"arm": "trl-plain"} | trl)
    line = compare(CASES["simpo-float32"], rows, peak_gflops=100.0)
    assert line["speed_up"] == pytest.approx(3.0)  # the slow first step is left out
    assert line["speed_up_range"] == pytest.approx([2.0, 4.0])
    assert line["memory"] == 0.25
    assert line["loss_difference"] == pytest.approx(1e-5, rel=1e-4)
    assert line["share_of_peak"] == pytest.approx(0.5)
    assert line["reached"] is False  # its slowest seed is below 3
