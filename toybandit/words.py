"""What a run or a sweep found, in words, and the command that comes next: the last lines of each command."""

import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from derivations.evidence.intervals import Interval
from toybandit.settings import Settings

LOST = 0.05  # reward units; less gold lost after the peak is called nothing


def show(value: Interval) -> str:
    """`0.57 [0.53, 0.61]`."""
    return f"{value.mean:.2f} [{value.low:.2f}, {value.high:.2f}]"


def options(settings: Settings, **changed: Any) -> str:
    """The options that give these settings, those at their default left out; changed: values in place of theirs."""
    values = {field.name: changed.get(field.name, getattr(settings, field.name)) for field in fields(Settings)}
    standard = {field.name: field.default for field in fields(Settings)}
    given = {name: value for name, value in values.items() if value != standard[name]}
    return shlex.join(word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value)))


def run_in_words(settings: Settings, summary: Mapping[str, Interval], out: Path) -> str:
    """Two lines on an online run: what became of the gold reward, and the control beside which to read it."""
    gold, lost, proxy = (summary[name] for name in ("gold_gain", "overoptimization", "proxy_gain"))
    if lost.low > 0 and lost.mean > LOST:
        then = f"{show(lost)} below its peak while the proxy still rose to {proxy.mean:.2f}: it is overoptimized"
    else:
        then = "and hardly anything was lost while the proxy rose"
    found = f"found: under {settings.label} the true reward (gold) ends {show(gold)} above the reference, {then}."
    name = "none" if settings.regularizer != "none" else "kl"
    strength = None if name == "none" else 0.5
    other = out.with_name(f"{out.name}-{name}")
    command = f"python -m toybandit run {options(settings, regularizer=name, coefficient=strength)}"
    which = "the control without regularizer" if name == "none" else "the same under KL"
    return f"{found}\nnext: {which}, and both in one picture:\n" + (
        f"  {command} --out {shlex.quote(str(other))}\n"
        f"  python -m toybandit plot {shlex.quote(str(out))} {shlex.quote(str(other))}"
    )


def offline_in_words(name: str, summary: Mapping[str, Interval], out: Path) -> str:
    """Two lines on an offline run: gold where early stopping stops and at the end, and what to look at."""
    stopped, end = summary["stopped/gold"], summary["gold"]
    accuracy = summary["stopped/eval/rewards/accuracies"]
    return (
        f"found: {name} stopped early gains {show(stopped)} of true reward (gold) with held-out accuracy "
        f"{show(accuracy)}; trained to the end, {show(end)}.\n"
        f"next: see it fall or rise on the way: python -m toybandit plot {shlex.quote(str(out))}"
    )
