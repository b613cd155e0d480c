"""The picture of a run: four panels against time, from the files of run folders alone.

Online proxy gain, gold gain, win rate and KL, offline gold gain, held-out accuracy, loss and KL: mean over
seeds with the 95 % band; several runs are overlaid. Overoptimization is a gold curve that turns down while
the proxy curve, or the held-out accuracy, rises.
"""

import contextlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from derivations.cli.errors import InputError, input_errors
from derivations.cli.files import read_json
from derivations.evidence.pictures import STYLES
from toybandit.settings import Settings


@dataclass(frozen=True)
class Kind:
    """What is drawn of a kind of run: columns and titles, the column of time, what a guess or the reference has."""

    panels: tuple[tuple[str, str], ...]
    time: str
    time_title: str
    neutral: Mapping[str, float]


PANELS = (
    ("proxy", "proxy gain (reward units)"),
    ("gold", "gold gain (reward units)"),
    ("win_rate", "win rate against reference"),
    ("kl", "KL(policy || reference) (nats)"),
)
ONLINE = Kind(PANELS, "t", "time t = lr × steps", {"proxy": 0.0, "gold": 0.0, "win_rate": 0.5, "kl": 0.0})
OFFLINE = Kind(
    (
        ("eval/rewards/accuracies", "held-out accuracy (share)"),
        ("gold", "gold gain (reward units)"),
        ("loss", "training loss (nats)"),
        ("kl", "KL(policy || reference) (nats)"),
    ),
    "step",
    "gradient step",
    {"eval/rewards/accuracies": 0.5, "gold": 0.0, "loss": math.log(2), "kl": 0.0},
)


@dataclass(frozen=True)
class Curves:
    """One run as it is drawn: its label, and each column of metrics.jsonl as a list over logged times."""

    label: str
    columns: dict[str, list[float]]
    kind: Kind = ONLINE


def read_run(folder: Path) -> Curves:
    """Curves of a folder of `toybandit run` or `offline`. Raises InputError if it is not one or is damaged."""
    config, metrics = folder / "config.json", folder / "metrics.jsonl"
    for path in (metrics, config):
        if not path.is_file():
            raise InputError(f"{path}: No such file; pass a folder that `toybandit run` wrote")
    found = read_json(config)
    settings = found.get("config") if isinstance(found, dict) else None
    if not isinstance(settings, dict):
        raise InputError(f"{config} is not the config of a run; run it again")
    kind = OFFLINE if "held_out" in settings else ONLINE
    wanted = {kind.time} | {name + end for name, _ in kind.panels for end in ("", "_low", "_high")}
    try:
        lines = metrics.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {metrics}: {error}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{metrics}, line {number}: not JSON ({error}); run it again") from error
        if not isinstance(row, dict) or (missing := sorted(wanted - row.keys())):
            what = f"no {missing[0]!r}" if isinstance(row, dict) else "not an object"
            raise InputError(f"{metrics}, line {number}: {what}; pass a folder that `toybandit run` wrote")
        try:  # null is NaN
            rows.append({name: math.nan if row[name] is None else math.ldexp(row[name], 0) for name in wanted})
        except (TypeError, OverflowError) as error:
            raise InputError(f"{metrics}, line {number}: not all of it are numbers ({error}); run it again") from error
    if not rows:
        raise InputError(f"{metrics} is empty; run it again")
    with input_errors(f"{config}: "):
        label = _offline_label(settings) if kind is OFFLINE else _online_label(settings, config)
    return Curves(label, {name: [row[name] for row in rows] for name in wanted}, kind)


def _online_label(settings: dict[str, Any], config: Path) -> str:
    try:
        return Settings(**settings).label
    except TypeError as error:
        raise InputError(f"{config}: not the config of `toybandit run` ({error})") from error


def _offline_label(settings: dict[str, Any]) -> str:
    """`simpo beta=0.5 gamma=0.3`."""
    objective = settings.get("regularizer") or settings.get("objective") or "dpo"
    options = ("beta", "alpha", "gamma", "divergence", "order", "label_smoothing", "penalty")
    weights = ("desirable_weight", "undesirable_weight")
    given = [f"{name}={settings[name]}" for name in (*options, *weights) if settings.get(name) is not None]
    return " ".join([str(objective), *given])


def trajectory_figure(runs: list[Curves]) -> Figure:
    """Four panels against time on a log axis; runs of one kind, no more than there are STYLES, else ValueError."""
    kind = runs[0].kind if runs else ONLINE
    if any(run.kind is not kind for run in runs):
        raise ValueError("online and offline runs have no time in common; plot them apart")
    if not 1 <= len(runs) <= len(STYLES):
        raise ValueError(f"{len(runs)} runs in one picture: from 1 to {len(STYLES)} can be told apart")
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True).flat
    for axes, (name, title) in zip(panels, kind.panels, strict=True):
        axes.axhline(kind.neutral[name], color="0.6", linewidth=0.8)
        for run, (colour, style) in zip(runs, STYLES, strict=False):
            # Step 0 is the reference, known without a picture, and has no place on a log axis.
            t, mean, low, high = (run.columns[key][1:] for key in (kind.time, name, f"{name}_low", f"{name}_high"))
            axes.fill_between(t, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(t, mean, color=colour, linestyle=style, linewidth=1.8, label=run.label)
        axes.set_xscale("log")
        axes.set_ylabel(title)
        axes.grid(color="0.9", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in figure.axes[2:]:
        axes.set_xlabel(kind.time_title)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(runs)), frameon=False, handlelength=3.5)
    return figure


def save_figure(figure: Figure, path: Path, *, dpi: int = 150) -> None:
    """Write the picture whole (temporary file, then rename); the ending of `path` gives the format."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    if path.exists() and not path.is_file():
        raise InputError(f"cannot write {path}: it is no file; give the name of one")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with input_errors(f"cannot write {path}: "):
            figure.savefig(temporary, dpi=dpi)
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # never written, or renamed already
            temporary.unlink()
