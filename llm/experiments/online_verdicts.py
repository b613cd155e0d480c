"""Verdicts of the online experiment: what the protocol claims against what the runs found, over seeds.

A check is one effect with its bound. It holds if the whole 95 % interval over seeds keeps the bound, fails if
the whole interval breaks it, and is open between. A claim is `reproduced` if all its checks hold; `not
reproduced` if no headline holds and one fails; `too few seeds` while runs are missing; else `depends`. A
control would hold too if nothing happened, and without its condition a claim would be about nothing: both
can spoil a claim and not earn it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from derivations.evidence.intervals import Interval, interval
from derivations.evidence.verdicts import Check, at_least, at_most, between, show_over_seeds
from derivations.evidence.verdicts import verdict as verdict_of
from llm.experiments.online_plan import Plan
from llm.experiments.online_results import Result, value

Results = Mapping[str, Mapping[int, Result]]
TOO_FEW = "too few seeds"


@dataclass(frozen=True)
class Outcome:
    """A check with what was found: one effect per seed, their interval, and whether it holds, fails or is open."""

    what: str
    role: str
    seeds: int
    found: Interval | None
    target: str
    outcome: str

    @property
    def shown(self) -> str:
        return "-" if self.found is None else show_over_seeds(self.found)


@dataclass(frozen=True)
class Judged:
    """A claim with its checks and its verdict."""

    says: str
    group: str
    checks: tuple[Outcome, ...]
    verdict: str


def judge_all(plan: Plan, results: Results) -> list[Judged]:
    """Every claim of the protocol, in its order."""
    return [judge(claim, plan, results) for claim in plan.protocol["claims"]]


def judge(claim: Mapping[str, Any], plan: Plan, results: Results) -> Judged:
    """One claim."""
    checks = tuple(_outcome(check, plan, results) for check in claim["checks"])
    return Judged(claim["says"], claim.get("group", ""), checks, verdict(checks))


def verdict(checks: tuple[Outcome, ...]) -> str:
    """The verdict that follows from the checks' outcomes."""
    if any(check.outcome == TOO_FEW for check in checks):
        return TOO_FEW
    return verdict_of((check.role, check.outcome == "holds", check.outcome == "fails") for check in checks)


def _outcome(check: Mapping[str, Any], plan: Plan, results: Results) -> Outcome:
    effects = effect(check, results, plan.protocol["least"])
    found = over_seeds(effects, check, plan.protocol["least"])
    (expected,) = (name for name in ("at_least", "at_most", "between") if name in check)
    bound = check[expected]
    probe = found or Interval(math.nan, math.nan, math.nan)
    judged = {
        "at_least": lambda: at_least("", probe, bound),
        "at_most": lambda: at_most("", probe, bound),
        "between": lambda: between("", probe, *bound),
    }[expected]()
    # NaN keeps no bound and breaks none: an undefined effect is open
    outcome = said_of(judged)
    if len(effects) < plan.protocol["least_seeds"]:
        outcome = TOO_FEW
    return Outcome(describe(check), check.get("role", "headline"), len(effects), found, judged.target, outcome)


def said_of(check: Check) -> str:
    """holds, fails or open."""
    return ("holds" if check.holds else "fails") if check.firm else "open"


def describe(check: Mapping[str, Any]) -> str:
    """A check's effect in words."""
    how, metric = check.get("how", "change"), check["metric"]
    arm, other = (str(check.get(side, "")).replace("@half", " at half of its steps") for side in ("arm", "minus"))
    if how == "spread":
        return f"deviation of {metric} over seeds, {arm} / {other}"
    if how == "kept":
        return f"1 - {metric}, {arm} / {other}"
    name = {
        "change": f"change of {metric}",
        "after": metric,
        "drift": f"{metric} at the end / at half of the steps",
        "clock": "c = alpha tau / (1 - kappa)",
    }[how]
    return f"{name}, {arm}" + (f" minus {other}" if other else "")


def effect(check: Mapping[str, Any], results: Results, least: Mapping[str, float]) -> dict[int, Any]:
    """One effect per seed that has all its runs; for a spread the pair of both arms' values."""
    sides = [check[side] for side in ("arm", "minus") if side in check]
    runs = [results[side.removesuffix("@half")] for side in sides]
    seeds = sorted(set.intersection(*(set(own) for own in runs)))
    how = check.get("how", "change")
    found: dict[int, Any] = {}
    for seed in seeds:
        values = [
            measure(own[seed], check, "half" if side.endswith("@half") else "after", least)
            for own, side in zip(runs, sides, strict=True)
        ]
        if how == "spread":
            found[seed] = tuple(values)
        elif how == "kept":
            found[seed] = ratio(values[0], values[1], least["forgotten"])
        else:
            found[seed] = values[0] - (values[1] if len(values) > 1 else 0.0)
    return found


def measure(result: Result, check: Mapping[str, Any], when: str, least: Mapping[str, float]) -> float:
    """The number of one run that a check is about."""
    how, metric = check.get("how", "change"), check["metric"]
    if how == "change":
        return value(result, metric, when) - value(result, metric, "before")
    if how == "drift":
        return ratio(value(result, metric), value(result, metric, "half"), least["kl"])
    if how == "clock":
        forgotten = 1 - value(result, "retention/kappa", when)
        return ratio(check["alpha"] * value(result, "retention/tau", when), forgotten, least["forgotten"])
    if how == "kept":
        return 1 - value(result, metric, when)
    return value(result, metric, when)  # after, spread


def ratio(above: float, below: float, least: float) -> float:
    """above / below; NaN where `below` is no more than `least`, because a ratio to nothing says nothing."""
    return above / below if below > least else math.nan


def over_seeds(effects: Mapping[int, Any], check: Mapping[str, Any], least: Mapping[str, float]) -> Interval | None:
    """Mean and 95 % Student interval over seeds, or the ratio of deviations; None without a seed."""
    values = np.array(list(effects.values()))
    if check.get("how") == "spread":
        return deviation_ratio(*values.T, least=least["spread"]) if len(values) > 1 else None
    return interval(values) if len(values) else None


def deviation_ratio(above: np.ndarray, below: np.ndarray, *, least: float) -> Interval:
    """Ratio of standard deviations over seeds, [seeds] each, with the 95 % interval that normal values have.

    A bootstrap of three values would know nothing of a fourth. 1 where neither deviation exceeds `least`.
    """
    if max(np.std(above), np.std(below)) <= least:
        return Interval(1.0, 1.0, 1.0)
    with np.errstate(divide="ignore"):
        found = float(np.std(above) / np.std(below))
    freedom = len(above) - 1
    return Interval(found, *(float(found / stats.f.ppf(q, freedom, freedom) ** 0.5) for q in (0.975, 0.025)))


def predictions(plan: Plan, results: Sequence[Result]) -> list[Check]:
    """The hypothesis's predictions about the kernel, over seeds."""
    settings = plan.protocol["kernel"]
    said = (
        ("rate of τ along r / rate of κ along log q", "ratio", "ratio_at_most"),
        ("c of the first step along the gradient", "clock", "clock_at_most"),
        ("c of the first step along the gradient's signs (AdamW's)", "clock_signs", "clock_at_most"),
    )
    return [
        at_most(what, interval(np.array([result[name] for result in results])), settings[bound])
        for what, name, bound in said
    ]
