"""Pictures of the online experiment: SVG, colour-blind safe, told apart by line style and marker too, and with
letters that can still be read where a page is 390 pixels wide."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from derivations.commands import write_text
from derivations.names import make_objective
from experiments.online_plan import Plan
from experiments.online_results import Result, value
from experiments.online_verdicts import Results, mean_over_seeds
from toybandit.data import draw_pairs
from toybandit.experiment import drawn, optimize
from toybandit.offline import collect, data_metrics, descend
from toybandit.plots import STYLES
from toybandit.settings import Settings

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH = 5.4  # inches; at 390 pixels, letters of 10 points are as large as 10 pixels
SMOOTH = 5  # steps of the trailing mean that a curve shows
UNITS = {
    "proxy": "proxy gain\n(reward units)",
    "gold": "gold gain\n(reward units)",
    "kl": "KL(π‖reference)\n(nats)",
    "entropy": "entropy\n(nats per response)",
    "retention/kappa": "retention κ",
}
OFFLINE_KEYS = ("rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected")
GAINS = ("proxy", "gold")


def save(figure: Figure, path: Path) -> None:
    """Write an SVG whose bytes depend on nothing but the picture."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    write_text(path, "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n")


def curves_figure(results: Results, arms: Sequence[str]) -> Figure | None:
    """Proxy, gold, KL and entropy of the training samples against the step; None if no arm has run."""
    present = [arm for arm in arms if results[arm]][: len(STYLES)]
    if not present:
        return None
    figure, panels = _panels(2, 2, 5.6)
    for axes, name in zip(panels.flat, ("proxy", "gold", "kl", "entropy"), strict=True):
        for arm, (colour, style) in zip(present, STYLES, strict=False):
            step, values = _smoothed(list(results[arm].values()), name)
            _band(axes, step, values, colour, style, arm)
        axes.set_ylabel(UNITS[name].replace("gain", "mean"))
    for axes in panels[-1]:
        axes.set_xlabel("optimizer step")
    return _legend(figure, panels[0, 0], columns=2)


def _smoothed(runs: Sequence[Result], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps [times] and trailing means over SMOOTH steps [times, runs]; runs of unequal length are cut to the first."""
    length = min(len(run["curve"]["step"]) for run in runs)
    step = np.array(runs[0]["curve"]["step"][:length])
    columns = np.array([run["curve"][name][:length] for run in runs], dtype=float).T
    window = min(SMOOTH, length)
    means = np.lib.stride_tricks.sliding_window_view(columns, window, axis=0).mean(-1)
    return step[window - 1 :], means


def retention_figure(results: Results, arms: Sequence[str]) -> Figure | None:
    """kappa after the last step for each arm: every seed, and mean with interval; None if no arm has run."""
    present = [arm for arm in arms if results[arm]]
    if not present:
        return None
    figure, panels = _panels(1, 1, 0.9 + 0.32 * len(present))
    axes = panels[0, 0]
    for place, arm in enumerate(reversed(present)):
        values = np.array([value(r, "retention/kappa") for r in results[arm].values()])
        axes.plot(values, np.full(len(values), place), linestyle="", marker="|", markersize=9, color="0.55")
        _dot(axes, place, values, STYLES[0][0], "o")
    axes.set_yticks(range(len(present)), reversed(present))
    axes.axvline(1, color="0.4", linewidth=0.8, linestyle=":")
    axes.set_xlabel("retention κ of the reference (1: all of it)")
    return figure


def bandit_runs(results: Results, plan: Plan) -> dict[str, Any]:
    """The bandit's run beside each arm of the language model that has run."""
    toy = plan.protocol["toy"]
    pairs = {arm: name for arm, name in toy["pairs"].items() if results[arm]}
    settings = {arm: Settings(regularizer=name, seeds=toy["seeds"], steps=toy["steps"]) for arm, name in pairs.items()}
    return {arm: optimize(drawn(own), own) for arm, own in settings.items()}


def same_keys_figure(results: Results, plan: Plan, bandit: Mapping[str, Any]) -> Figure | None:
    """The bandit (above) and the language model (below) under one set of keys and regularizers."""
    if not bandit:
        return None
    figure, panels = _panels(4, 2, 9.6)
    _both(results, plan, bandit, ("proxy", "gold", "kl", "retention/kappa"), panels[:2], panels[2:])
    return _legend(figure, panels[0, 0], columns=1, title="bandit | language model")


def kappa_figure(results: Results, plan: Plan, bandit: Mapping[str, Any]) -> Figure | None:
    """Retention alone: the bandit (left) and the language model (right)."""
    if not bandit:
        return None
    figure, panels = _panels(1, 2, 3.6)
    _both(results, plan, bandit, ("retention/kappa",), panels[:, :1], panels[:, 1:])
    return _legend(figure, panels[0, 0], columns=1, title="bandit | language model")


def _both(
    results: Results, plan: Plan, bandit: Mapping[str, Any], keys: Sequence[str], left: np.ndarray, right: np.ndarray
) -> None:
    """Draw the same keys of both worlds; left, right: panels [rows, columns] of the bandit and the language model."""
    for (arm, run), (colour, style), marker in zip(bandit.items(), STYLES, MARKERS, strict=False):
        toy = plan.protocol["toy"]["pairs"][arm].replace("=", " ")
        for axes, key in zip(left.flat, keys, strict=True):
            _band(axes, run.t[1:], run.metrics[key][1:], colour, style, f"{toy} | {arm}")
            axes.set_xscale("log")
        for axes, key in zip(right.flat, keys, strict=True):
            step, values = _evaluated(list(results[arm].values()), key)
            _band(axes, step, values, colour, style, arm, marker=marker)
    for panels, title, x in ((left, "bandit", "time t = lr × steps"), (right, "language model", "optimizer step")):
        for axes, key in zip(panels.flat, keys, strict=True):
            axes.set_ylabel(UNITS[key])
        for axes in panels[-1]:
            axes.set_xlabel(x)
        panels[0, 0].set_title(title, loc="left", fontsize=11, weight="bold")


def same_keys_offline_figure(plan: Plan, offline: Sequence[Result]) -> Figure | None:
    """The same for objectives offline: changes on held-out pairs under TRL's keys; None without runs.

    offline: `results` of the offline experiment's report.
    """
    ours = [run for run in offline if run["task"] == "on-policy"]
    trained = {run["objective"] for run in ours}
    objectives = [name for name in plan.protocol["toy"]["offline"]["objectives"] if name in trained]
    if not objectives:
        return None
    changes = {
        "bandit": _bandit_changes(plan, objectives),
        "language model": {
            name: [
                {key: r["after"][key] - r["before"][key] for key in OFFLINE_KEYS}
                for r in ours
                if r["objective"] == name
            ]
            for name in objectives
        },
    }
    figure, panels = _panels(4, 2, 7.2)
    for rows, (title, found) in zip((panels[:2], panels[2:]), changes.items(), strict=True):
        for axes, key in zip(rows.flat, OFFLINE_KEYS, strict=True):
            for place, name in enumerate(objectives):
                values = np.array([seed[key] for seed in found[name]])
                _dot(axes, place, values, STYLES[place][0], MARKERS[place])
            axes.set_yticks(range(len(objectives)), objectives)
            axes.axvline(0, color="0.4", linewidth=0.8, linestyle=":")
            axes.set_xlabel(f"change of {key}")
        rows[0, 0].set_title(title, loc="left", fontsize=11, weight="bold")
    return figure


def _change(run: Result) -> dict[str, float]:
    return {key: run["after"][key] - run["before"][key] for key in OFFLINE_KEYS}


def _bandit_changes(plan: Plan, objectives: Sequence[str]) -> dict[str, list[dict[str, float]]]:
    """Changes on held-out pairs by training on each objective, one row a world."""
    toy = plan.protocol["toy"]["offline"]
    bandit = drawn(Settings(regularizer="none", seeds=plan.protocol["toy"]["seeds"]))
    world = bandit.world
    held_out = draw_pairs(world, bandit.streams, count=toy["held_out"], held_out=True)
    found = {}
    for name in objectives:
        objective = make_objective(name, **toy["objectives"][name])
        after = descend(world, bandit.pairs, objective=objective, held_out=held_out, steps=toy["steps"]).logp
        old, new = (data_metrics(world, collect(held_out), objective, logp) for logp in (world.ref_logp, after))
        change = {key: new[key] - old[key] for key in OFFLINE_KEYS}
        found[name] = [{key: float(values[i]) for key, values in change.items()} for i in range(len(world.gold))]
    return found


def _dot(axes: Axes, place: int, values: np.ndarray, colour: str, marker: str) -> None:
    """Mean over seeds at a height, with its 95 % interval where there is one."""
    found = mean_over_seeds(values)
    if np.isfinite(found.low):
        axes.plot([found.low, found.high], [place, place], color=colour, linewidth=2)
    axes.plot([found.mean], [place], marker=marker, color=colour)


def _evaluated(runs: Sequence[Result], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps [times] and a metric of the evaluations on held-out topics [times, runs]; gains over the start."""
    step = np.array([e["step"] for e in runs[0]["evaluations"]])
    if key.startswith("retention/"):
        table = [[e["retention"][key.partition("/")[2]]["mean"] for e in run["evaluations"]] for run in runs]
    else:
        table = [[e["eval"][key] for e in run["evaluations"]] for run in runs]
    values = np.array(table, dtype=float).T
    return step, values - values[:1] if key in GAINS else values


def _band(
    axes: Axes, x: np.ndarray, values: np.ndarray, colour: str, style: Any, label: str, *, marker: str = ""
) -> None:
    """Mean and 95 % band over seeds of values [times, seeds]; with one seed the line alone."""
    found = [mean_over_seeds(v) for v in values]
    mean, low, high = (np.array([getattr(f, end) for f in found]) for end in ("mean", "low", "high"))
    if np.isfinite(low).all():
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(x, mean, color=colour, linestyle=style, linewidth=1.8, label=label, marker=marker or None, markersize=5)


def _panels(rows: int, columns: int, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat:
        axes.set_axisbelow(True)
        axes.grid(color="0.9", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _legend(figure: Figure, axes: Axes, *, columns: int, title: str = "") -> Figure:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper left", ncols=columns, frameon=False, handlelength=3, title=title or None
    )
    return figure
