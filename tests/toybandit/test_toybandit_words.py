"""What commands say at their ends: the best strength of a sweep, pictures of sweeps and offline runs, the next step."""

import csv
import itertools
import json
import shlex

import numpy as np
import pytest

from derivations.cli.errors import InputError
from toybandit import progress as told
from toybandit.plots import OFFLINE, read_run, trajectory_figure
from toybandit.settings import Settings
from toybandit.sweep_figures import sweep_figure
from toybandit.sweep_results import SweepResults, read_sweep, sweep_in_words, sweep_table
from toybandit.words import options

QUICK = ("--seeds", "3", "--steps", "20")


def results(axes, gold, noise=0.0):
    """Results of 8 worlds whose gold reward is a function of the cell, with noise that all cells share."""
    cells = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    world = noise * np.random.default_rng(0).standard_normal(8)
    values = [gold(**cell) + world + 1e-6 * np.arange(8) * i for i, cell in enumerate(cells)]
    return SweepResults(axes, cells, {"gold_gain": values, "overoptimization": values, "kl": values})


AXES = {"coefficient": [0.1, 0.5, 1.0], "regularizer": ["entropy", "kl"]}


def test_the_table_names_the_best_strength_of_each_group_and_what_is_not_told_apart(tmp_path):
    # worlds differ by far more than cells do: only world by world are the cells told apart
    found = results(AXES, lambda coefficient, regularizer: -abs(coefficient - 0.5) + (regularizer == "kl"), noise=5.0)
    columns = [list(column.cells) for column in sweep_table(found).columns]
    assert columns[:3] == [["kl", "entropy"], ["0.5", "0.5"], ["-", "-"]]
    words = sweep_in_words(found, tmp_path, drawn=False)
    assert "highest at coefficient=0.5 regularizer=kl" in words
    assert "not told apart" not in words
    assert "add coefficient 0" in words
    flat = results(AXES, lambda coefficient, regularizer: 0.0)
    flat.metrics["gold_gain"] = list(np.random.default_rng(1).standard_normal((6, 8)))
    assert "cells are not told apart from it" in sweep_in_words(flat, tmp_path, drawn=False)


def test_a_sweep_is_drawn_as_curves_maps_or_points_with_its_own_numbers():
    gold = lambda **cell: sum(v for v in cell.values() if not isinstance(v, str))  # noqa: E731
    curves = sweep_figure(results(AXES, gold))
    assert [text.get_text() for text in curves.legends[0].get_texts()] == ["regularizer=entropy", "regularizer=kl"]
    drawn = curves.axes[0].containers[0].lines[0]
    assert list(drawn.get_xdata()) == AXES["coefficient"]
    assert drawn.get_ydata() == pytest.approx(AXES["coefficient"], abs=1e-4)
    maps = sweep_figure(results({"pairs": [10, 30], "coefficient": [1.0, 0.5], "regularizer": ["kl", "entropy"]}, gold))
    first = maps.axes[0]
    assert [text.get_text() for text in first.get_xticklabels()] == ["0.5", "1"]
    assert [text.get_text() for text in first.texts] == ["10.50", "11.00", "30.50", "31.00"]
    points = sweep_figure(results({"regularizer": ["entropy=1", "kl=1"]}, lambda regularizer: len(regularizer)))
    assert [text.get_text() for text in points.axes[0].get_yticklabels()] == [
        "regularizer=entropy=1",
        "regularizer=kl=1",
    ]
    with pytest.raises(ValueError, match="8 curves in one picture: up to 7"):
        sweep_figure(results({"coefficient": [0.1, 1.0], "proxy": list("abcdefgh")}, gold))


def test_sweep_prints_its_table_draws_itself_and_is_plotted_later(tmp_path, toybandit):
    grid = ("--grid", "coefficient=0,2", "regularizer=entropy,kl", "--out", "s", *QUICK)
    done = toybandit("sweep", *grid, "--plot")
    assert done.returncode == 0, done.stderr
    assert "best strength by final gold reward" in done.stdout
    assert done.stdout.splitlines()[-2].startswith("found: gold ends highest at coefficient=")
    assert (tmp_path / "s/figures/sweep.png").read_bytes().startswith(b"\x89PNG")
    again = toybandit("plot", "s", "--out", "s.svg")
    assert (again.returncode, again.stdout) == (0, "written: s.svg\n")
    read = read_sweep(tmp_path / "s")
    rows = list(csv.DictReader((tmp_path / "s/results.csv").open()))
    for cell, gold in zip(read.cells, read.metrics["gold_gain"], strict=True):
        mine = [float(r["gold_gain"]) for r in rows if all(r[name] == str(value) for name, value in cell.items())]
        assert gold.tolist() == mine
    assert toybandit("run", "--out", "r", *QUICK).returncode == 0
    assert "plot it alone" in toybandit("plot", "r", "s").stderr
    (tmp_path / "s/results.csv").unlink()
    with pytest.raises(InputError, match="not finished"):
        read_sweep(tmp_path / "s")


def test_an_offline_run_is_plotted_and_not_together_with_an_online_one(tmp_path, toybandit):
    offline = toybandit("offline", "--out", "off", *QUICK)
    assert offline.returncode == 0, offline.stderr
    assert "found: dpo stopped early gains" in offline.stdout
    assert json.loads((tmp_path / "off/config.json").read_text())["config"]["beta"] == 0.5  # the stated default
    drawn = read_run(tmp_path / "off")
    assert (drawn.label, drawn.kind) == ("dpo beta=0.5", OFFLINE)
    figure = trajectory_figure([drawn])
    assert [axes.get_ylabel() for axes in figure.axes] == [title for _, title in OFFLINE.panels]
    assert list(figure.axes[1].get_lines()[1].get_ydata()) == drawn.columns["gold"][1:]
    assert toybandit("plot", "off", "--out", "off.png").returncode == 0
    assert toybandit("run", "--out", "on", *QUICK).returncode == 0
    assert "plot them apart" in toybandit("plot", "on", "off").stderr


def test_run_alone_has_defaults_and_the_commands_it_ends_with_work(tmp_path, toybandit):
    done = toybandit("run", *QUICK)
    assert done.returncode == 0, done.stderr
    assert "--regularizer entropy --coefficient 0.5" in done.stdout
    found, _, *commands = done.stdout.splitlines()[-4:]
    assert found.startswith("found: under entropy 0.5 the true reward (gold) ends ")
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command)
        assert words[:3] == ["python", "-m", "toybandit"]
        last = toybandit(*words[3:])
        assert last.returncode == 0, last.stderr
    assert last.stdout.startswith("found: gold ends at ")


def test_the_options_of_settings_give_them_again(toybandit, tmp_path):
    settings = Settings(regularizer="0.5*p*log(p/q)", seeds=3, steps=2, proxy="iid", noise=0.5)
    assert toybandit("run", *shlex.split(options(settings)), "--out", "a").returncode == 0
    assert Settings(**json.loads((tmp_path / "a/config.json").read_text())["config"]) == settings


def test_work_in_a_pipe_says_every_few_seconds_how_far_it_is(capsys, monkeypatch):
    clock = iter([0.0, 2.0, 6.0, 7.0, 12.0, 20.0])
    monkeypatch.setattr(told.time, "monotonic", lambda: next(clock))
    with told.progress("fitting") as advance:
        for share in (0.1, 0.25, 0.3, 0.5, 1.0):
            advance(share)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["fitting: 25% after 6 s, about 18 s left", "fitting: 50% after 12 s, about 12 s left"]
