"""The commands of the bandit as a user runs them: files, pictures, and one line for a mistake."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from derivations.evidence.pictures import STYLES
from toybandit.experiment import run
from toybandit.plots import PANELS, Curves, read_run, trajectory_figure
from toybandit.settings import Settings

QUICK = ("--seeds", "3", "--steps", "20")


def test_the_module_is_a_command(tmp_path):
    arguments = [
        "run",
        "--regularizer",
        "none",
        "--steps",
        "0",
        "--seeds",
        "2",
        "--out",
        str(tmp_path / "a"),
        "--quiet",
    ]
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-m", "toybandit", *arguments], capture_output=True, text=True, cwd=root)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "a/summary.json").exists()


def test_a_run_leaves_its_config_metrics_summary_and_picture(tmp_path, toybandit):
    done = toybandit("run", "--coefficient", "0.5", "--out", "a", "--format", "json", *QUICK)
    assert done.returncode == 0, done.stderr
    expected = run(Settings(coefficient=0.5, seeds=3, steps=20))
    summary = json.loads((tmp_path / "a/summary.json").read_text())
    assert summary.keys() >= {"gold_gain", "proxy_gain", "overoptimization", "win_rate", "kl"}
    for name, value in summary.items():
        wanted = expected.summary[name]
        assert value == {"mean": wanted.mean, "low": wanted.low, "high": wanted.high}
    assert json.loads(done.stdout)["summary"] == summary
    rows = [json.loads(line) for line in (tmp_path / "a/metrics.jsonl").read_text().splitlines()]
    assert rows == json.loads(json.dumps(expected.rows(), default=lambda value: value.item()))
    assert rows[-1].keys() >= {"step", "t", "retention/kappa", "retention/tau_low", "kl_forward_high", "entropy"}
    assert rows[-1]["t"] == pytest.approx(0.2 * 20)
    config = json.loads((tmp_path / "a/config.json").read_text())
    assert Settings(**config["config"]) == expected.settings
    assert (tmp_path / "a/figures/trajectory.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "config.json", "figures", "metrics.jsonl", "summary.json",
    ]  # fmt: skip


def test_quiet_is_silent_and_text_is_a_table_with_intervals(tmp_path, toybandit):
    quiet = toybandit("run", "--regularizer", "none", "--out", "a", "--quiet", *QUICK)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    text = toybandit("run", "--regularizer", "kl=0.2+entropy=0.1", "--out", "b", *QUICK)
    assert text.stderr == ""  # no progress bar into a file
    assert "overoptimization" in text.stdout
    assert "95 % interval" in text.stdout


def test_plot_overlays_runs_and_names_the_line_of_a_damaged_file(tmp_path, toybandit):
    for name, regularizer in (("a", "entropy"), ("b", "kl")):
        options = ("--regularizer", regularizer, "--coefficient", "0.5", "--out", name, "--quiet", *QUICK)
        assert toybandit("run", *options).returncode == 0
    runs = [read_run(tmp_path / "a"), read_run(tmp_path / "b")]
    figure = trajectory_figure(runs)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["entropy 0.5", "kl 0.5"]
    for axes, (name, label) in zip(figure.axes, PANELS, strict=True):
        assert axes.get_ylabel() == label
        for curve, line in zip(runs, axes.get_lines()[1:], strict=True):
            assert list(line.get_ydata()) == curve.columns[name][1:]
    done = toybandit("plot", "a", "b", "--out", "both.svg")
    assert done.returncode == 0
    assert done.stdout.endswith("written: both.svg\n")

    assert "not supported" in toybandit("plot", "a", "--out", "both.foo").stderr
    lines = (tmp_path / "a/metrics.jsonl").read_text().splitlines()
    (tmp_path / "a/metrics.jsonl").write_text("\n".join([*lines[:6], lines[6][:20]]))
    damaged = toybandit("plot", "a")
    assert damaged.returncode == 2
    assert "metrics.jsonl, line 7: not JSON" in damaged.stderr


def test_more_runs_than_line_styles_are_refused():
    with pytest.raises(ValueError, match="can be told apart"):
        trajectory_figure([Curves("a", {})] * (len(STYLES) + 1))


def test_every_line_style_differs_from_every_other():
    assert len({colour for colour, _ in STYLES}) == len({str(style) for _, style in STYLES}) == len(STYLES)


def test_offline_leaves_metrics_of_every_logged_step_and_the_policy_where_it_stopped(tmp_path, toybandit):
    options = (
        "--objective",
        "simpo",
        "--beta",
        "0.5",
        "--gamma",
        "0.2",
        "--seeds",
        "3",
        "--steps",
        "30",
        "--pairs",
        "60",
    )
    done = toybandit("offline", *options, "--out", "a", "--format", "json")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "a/summary.json").read_text())
    assert json.loads(done.stdout)["summary"] == summary
    rows = [json.loads(line) for line in (tmp_path / "a/metrics.jsonl").read_text().splitlines()]
    assert (rows[0]["step"], rows[-1]["step"]) == (0, 30)
    for name in ("gold", "loss", "rewards/margins", "eval/rewards/accuracies"):
        assert {name, f"{name}_low", f"{name}_high"} <= rows[0].keys()
        assert summary[name]["mean"] == rows[-1][name]
    assert summary["stopped/eval/rewards/accuracies"]["mean"] >= summary["eval/rewards/accuracies"]["mean"]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert toybandit("offline", "--objective", "maxent-pl", "--alpha", "1", "--responses", "3", "--seeds", "3",
                     "--steps", "5", "--out", "b", "--quiet").returncode == 0  # fmt: skip


def test_a_sweep_reads_its_grid_from_a_file_and_the_command_line(tmp_path, toybandit):
    (tmp_path / "grid.toml").write_text('[settings]\nseeds = 2\nsteps = 5\n[grid]\nregularizer = ["entropy", "kl"]\n')
    done = toybandit("sweep", "--file", "grid.toml", "--grid", "coefficient=0.1,0.5", "--steps", "6", "--out", "a")
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "a/config.json").read_text())["config"]
    assert config == {
        "base": {"seeds": 2, "steps": 6}, "axes": {"regularizer": ["entropy", "kl"], "coefficient": [0.1, 0.5]},
    }  # fmt: skip
    assert len((tmp_path / "a/results.csv").read_text().splitlines()) == 1 + 4 * 2


def test_an_option_given_on_the_command_line_wins_over_the_file_even_if_it_is_the_default(tmp_path, toybandit):
    (tmp_path / "grid.toml").write_text(
        '[settings]\nseeds = 2\nsteps = 5\nproxy = "exact"\n[grid]\ncoefficient = [1]\n'
    )
    done = toybandit("sweep", "--file", "grid.toml", "--proxy", "fitted", "--out", "a", "--quiet")
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "a/config.json").read_text())["config"]
    assert config["base"] == {"seeds": 2, "steps": 5}  # fitted is the standard, which the file had changed


def test_collinear_retention_is_null_in_the_summary_and_no_warning(tmp_path, toybandit):
    options = ("--knowledge", "1", "--proxy", "exact", "--coefficient", "0.5", "--format", "json", "--out", "a")
    done = toybandit("run", *options, *QUICK)
    assert (done.returncode, done.stderr) == (0, "")
    summary = json.loads(done.stdout)["summary"]
    for name in ("kappa", "tau", "kappa_error", "tau_error"):
        assert summary[f"retention/{name}"] == {"mean": None, "low": None, "high": None}
    assert summary["gold_gain"]["mean"] is not None
    grid = ("--grid", "coefficient=0.5", "--knowledge", "1", "--proxy", "exact", "--out", "b", "--quiet")
    assert toybandit("sweep", *grid, *QUICK).returncode == 0
    assert json.loads((tmp_path / "b/summary.json").read_text())[0]["retention/kappa"]["mean"] is None


def test_experiments_write_the_page_with_a_verdict(tmp_path, toybandit):
    done = toybandit("experiments", "--only", "8", "--out", "out", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("  8: running\n")  # before the work, which may take a minute
    (statement,) = json.loads(done.stdout)
    assert statement["number"] == "8"
    assert statement["verdict"] in ("reproduced", "not reproduced", "depends")
    assert f"Statement 8: {statement['verdict']}" in (tmp_path / "out/toy.md").read_text()
    assert (tmp_path / "out/toy-protocol.toml").exists()


def test_a_published_loss_is_trained_by_name_with_the_options_that_llm_train_has(tmp_path, toybandit):
    few = ("--seeds", "3", "--pairs", "30", "--held-out", "10", "--steps", "20")
    for name, given, expected in (
        ("r-dpo", (), {"beta": 0.1, "alpha": 0.05, "penalty": None}),
        ("dpop", ("--beta", "0.5", "--penalty", "2"), {"beta": 0.5, "alpha": None, "penalty": 2.0}),
        ("kto", ("--undesirable-weight", "2"), {"beta": 0.1, "desirable_weight": None, "undesirable_weight": 2.0}),
    ):
        done = toybandit("offline", "--objective", name, *given, *few, "--out", name)
        assert done.returncode == 0, done.stderr
        assert f"found: {name} stopped early" in done.stdout
        config = json.loads((tmp_path / name / "config.json").read_text())["config"]
        assert {key: config[key] for key in expected} == expected
        first, *_, last = map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines())
        assert first["loss"] == pytest.approx((1 + 2) / 4 if name == "kto" else np.log(2), abs=0.01)
        assert last["loss"] < first["loss"]
    assert read_run(tmp_path / "dpop").label == "dpop beta=0.5 penalty=2.0"
    assert read_run(tmp_path / "kto").label == "kto beta=0.1 undesirable_weight=2.0"


def test_offline_takes_sums_and_formulas_and_refuses_a_strength_beside_them(tmp_path, toybandit):
    few = ("--seeds", "3", "--pairs", "20", "--held-out", "20", "--steps", "30", "--quiet")
    named = {"named": ("--objective", "dpo", "--beta", "0.5")}
    for out, options in (
        named | {"sum": ("--regularizer", "kl=0.3+kl=0.2"), "formula": ("--regularizer", "0.5*p*log(p/q)")}
    ).items():
        done = toybandit("offline", *options, *few, "--out", out)
        assert done.returncode == 0, done.stderr
    golds = [json.loads((tmp_path / out / "summary.json").read_text())["gold"] for out in ("named", "sum", "formula")]
    assert golds[1] == pytest.approx(golds[0], rel=1e-9)
    assert golds[2] == pytest.approx(golds[0], rel=1e-9)
    refused = toybandit("offline", "--regularizer", "kl=0.5", "--beta", "1", *few, "--out", "no")
    assert refused.returncode == 2
    assert "leave --beta out" in refused.stderr
