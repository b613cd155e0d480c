"""The bandit and the language model under the same keys: the three pictures of docs/online.md that show both worlds.

They need both packages, which never import each other, so they are drawn here, from the committed results.

    python notebooks/compare_worlds.py
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from derivations.cli.command_line import run_command  # noqa: E402
from derivations.evidence.pictures import MARKERS, STYLES, band, dot, legend, panels, save_svg  # noqa: E402
from derivations.names import make_objective  # noqa: E402
from llm.experiments.online import RESULTS  # noqa: E402
from llm.experiments.online_figures import UNITS, evaluated  # noqa: E402
from llm.experiments.online_plan import PROTOCOL, Plan, read_plan  # noqa: E402
from llm.experiments.online_results import Result, load  # noqa: E402
from llm.experiments.online_verdicts import Results  # noqa: E402
from toybandit.data import draw_pairs  # noqa: E402
from toybandit.experiment import drawn, optimize  # noqa: E402
from toybandit.offline import collect, data_metrics, descend  # noqa: E402
from toybandit.settings import Settings  # noqa: E402

OFFLINE_KEYS = ("rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected")


def draw(plan: Plan, results: Results, offline: Sequence[Result], folder: Path) -> list[str]:
    """Draw what has runs into `folder`; returns the names of the pictures."""
    bandit = bandit_runs(results, plan)
    figures = {
        "kappa": kappa_figure(results, plan, bandit),
        "same-keys": same_keys_figure(results, plan, bandit),
        "same-keys-offline": same_keys_offline_figure(plan, offline),
    }
    drawn_ones = {name: figure for name, figure in figures.items() if figure is not None}
    for name, figure in drawn_ones.items():
        save_svg(figure, folder / f"{name}.svg")
    return list(drawn_ones)


def main() -> int:
    plan = read_plan(PROTOCOL)
    offline = json.loads((ROOT / "docs" / "offline.json").read_text(encoding="utf-8"))["results"]
    names = draw(plan, load(plan, RESULTS), offline, ROOT / "docs" / "_static" / "online")
    print(f"docs/_static/online: {', '.join(names)}")
    return 0


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
    figure, grid = panels(4, 2, 9.6)
    _both(results, plan, bandit, ("proxy", "gold", "kl", "retention/kappa"), grid[:2], grid[2:])
    return legend(figure, grid[0, 0], columns=1, title="bandit | language model")


def kappa_figure(results: Results, plan: Plan, bandit: Mapping[str, Any]) -> Figure | None:
    """Retention alone: the bandit (left) and the language model (right)."""
    if not bandit:
        return None
    figure, grid = panels(1, 2, 3.6)
    _both(results, plan, bandit, ("retention/kappa",), grid[:, :1], grid[:, 1:])
    return legend(figure, grid[0, 0], columns=1, title="bandit | language model")


def _both(
    results: Results, plan: Plan, bandit: Mapping[str, Any], keys: Sequence[str], left: np.ndarray, right: np.ndarray
) -> None:
    """Draw the same keys of both worlds; left, right: panels [rows, columns] of the bandit and the language model."""
    for (arm, run), (colour, style), marker in zip(bandit.items(), STYLES, MARKERS, strict=False):
        toy = plan.protocol["toy"]["pairs"][arm].replace("=", " ")
        for axes, key in zip(left.flat, keys, strict=True):
            band(axes, run.t[1:], run.metrics[key][1:], colour, style, f"{toy} | {arm}")
            axes.set_xscale("log")
        for axes, key in zip(right.flat, keys, strict=True):
            step, values = evaluated(list(results[arm].values()), key)
            band(axes, step, values, colour, style, arm, marker=marker)
    for grid, title, x in ((left, "bandit", "time t = lr × steps"), (right, "language model", "optimizer step")):
        for axes, key in zip(grid.flat, keys, strict=True):
            axes.set_ylabel(UNITS[key])
        for axes in grid[-1]:
            axes.set_xlabel(x)
        grid[0, 0].set_title(title, loc="left", fontsize=11, weight="bold")


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
        "language model": {name: [_change(run) for run in ours if run["objective"] == name] for name in objectives},
    }
    figure, grid = panels(4, 2, 7.2)
    for rows, (title, found) in zip((grid[:2], grid[2:]), changes.items(), strict=True):
        for axes, key in zip(rows.flat, OFFLINE_KEYS, strict=True):
            for place, name in enumerate(objectives):
                values = np.array([seed[key] for seed in found[name]])
                dot(axes, place, values, STYLES[place][0], MARKERS[place])
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


if __name__ == "__main__":
    run_command(main)
