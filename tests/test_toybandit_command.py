"""The commands of the bandit as a user runs them: files, pictures, and one line for a mistake."""

import json
import subprocess
import sys

import pytest

from toybandit.experiment import run
from toybandit.plots import PANELS, STYLES, Curves, read_run, trajectory_figure
from toybandit.settings import Settings

QUICK = ("--seeds", "3", "--steps", "20")


def toybandit(*arguments, cwd):
    return subprocess.run([sys.executable, "-m", "toybandit", *arguments], capture_output=True, text=True, cwd=cwd)


def test_a_run_leaves_its_config_metrics_summary_and_picture(tmp_path):
    done = toybandit("run", "--coefficient", "0.5", "--out", "a", "--format", "json", *QUICK, cwd=tmp_path)
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


def test_quiet_is_silent_and_text_is_a_table_with_intervals(tmp_path):
    quiet = toybandit("run", "--regularizer", "none", "--out", "a", "--quiet", *QUICK, cwd=tmp_path)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    text = toybandit("run", "--regularizer", "kl=0.2+entropy=0.1", "--out", "b", *QUICK, cwd=tmp_path)
    assert text.stderr == ""  # no progress bar into a file
    assert "overoptimization" in text.stdout
    assert "95 % interval" in text.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--regularizer", "entrpy", "--coefficient", "1"], "did you mean 'entropy'?"),
        (["run", "--proxy", "fited", "--coefficient", "1"], "did you mean 'fitted'?"),
        (["run", "--world", "round", "--coefficient", "1"], "unknown world 'round'"),
        (["run", "--regularizer", "kl", "--coefficient", "-1"], "coefficient is -1.0"),
        (["run", "--regularizer", "kl"], "has no coefficient"),
        (["run", "--regularizer", "none", "--seeds", "1"], "--seeds is 1, expected a finite number >= 2"),
        (["run", "--regularizer", "none", "--lr", "0"], "--lr is 0.0"),
        (["run", "--regularizer", "none", "--prior-scale", "nan"], "--prior-scale is nan"),
        (["run", "--regularizer", "none", "--out", "taken/a"], "cannot write taken/a/config.json"),
        (["plot"], "no run folder given"),
        (["plot", "nowhere"], "nowhere/metrics.jsonl: No such file"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, arguments, message):
    (tmp_path / "taken").write_text("a file, not a folder")
    done = toybandit(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_plot_overlays_runs_and_names_the_line_of_a_damaged_file(tmp_path):
    for name, regularizer in (("a", "entropy"), ("b", "kl")):
        options = ("--regularizer", regularizer, "--coefficient", "0.5", "--out", name, "--quiet", *QUICK)
        assert toybandit("run", *options, cwd=tmp_path).returncode == 0
    runs = [read_run(tmp_path / "a"), read_run(tmp_path / "b")]
    figure = trajectory_figure(runs)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["entropy 0.5", "kl 0.5"]
    for axes, (name, label) in zip(figure.axes, PANELS, strict=True):
        assert axes.get_ylabel() == label
        for curve, line in zip(runs, axes.get_lines()[1:], strict=True):
            assert list(line.get_ydata()) == curve.columns[name][1:]
    done = toybandit("plot", "a", "b", "--out", "both.svg", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "written: both.svg\n")

    assert "not supported" in toybandit("plot", "a", "--out", "both.foo", cwd=tmp_path).stderr
    lines = (tmp_path / "a/metrics.jsonl").read_text().splitlines()
    (tmp_path / "a/metrics.jsonl").write_text("\n".join([*lines[:6], lines[6][:20]]))
    damaged = toybandit("plot", "a", cwd=tmp_path)
    assert damaged.returncode == 2
    assert "metrics.jsonl, line 7: not JSON" in damaged.stderr


def test_more_runs_than_line_styles_are_refused():
    with pytest.raises(ValueError, match="can be told apart"):
        trajectory_figure([Curves("a", {})] * (len(STYLES) + 1))


def test_every_line_style_differs_from_every_other():
    assert len({colour for colour, _ in STYLES}) == len({str(style) for _, style in STYLES}) == len(STYLES)
