"""The report of `make reproduce-online`, from the runs' result files alone, whatever they say and however many.

Pictures that show the bandit beside the language model are drawn by `notebooks/compare_worlds.py`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from derivations.cli.files import write_json, write_text
from derivations.evidence.intervals import interval
from derivations.evidence.pictures import save_svg
from derivations.evidence.tables import markdown
from llm.experiments.online_figures import curves_figure, retention_figure
from llm.experiments.online_findings import KEPT_APART, about, elsewhere, findings, kernel_made_on, made_on, missing
from llm.experiments.online_plan import Plan
from llm.experiments.online_results import Result, load, load_kernel, value
from llm.experiments.online_tables import (
    METRICS,
    after_table,
    arms_of,
    clock_table,
    drift_table,
    kappa_at_start,
    kernel_table,
    length_table,
    rate_table,
    retention_table,
    text_tables,
)
from llm.experiments.online_verdicts import Judged, Results, judge_all, predictions

FIGURES = Path("_static/online")
DRAWN = ("none", "kl-0.05", "entropy-0.05", "entropy-0.01", "length-normalized-1")
TITLES = {
    "kappa": "Retention of the reference in the bandit and in the language model",
    "curves": "Proxy, gold, KL and entropy of the training samples",
    "retention": "Retention of the reference by arm",
    "same-keys": "The bandit above, the language model below, same keys",
    "same-keys-offline": "Offline objectives: the bandit above, the language model below, same keys",
}


@dataclass(frozen=True)
class Found:
    """Everything the page is written from. known: of `about`; apart: runs of the same arms on another device."""

    plan: Plan
    results: Results
    kernel: Sequence[Result]
    claims: Sequence[Judged]
    figures: Sequence[str]
    known: Mapping[str, Any]
    apart: Sequence[Result]

    @property
    def runs(self) -> list[Result]:
        return [run for own in self.results.values() for run in own.values()]


def write_report(plan: Plan, results_folder: Path, report: Path) -> list[Judged]:
    """Write the report (Markdown), its numbers (JSON beside it) and its figures; returns the judged claims."""
    results, kernel = load(plan, results_folder), load_kernel(plan, results_folder)
    claims = judge_all(plan, results)
    own = {
        "curves": curves_figure(results, [arm for arm in DRAWN if arm in plan.arms]),
        "retention": retention_figure(results, list(plan.arms)),
    }
    drawn = {name: figure for name, figure in own.items() if figure is not None}
    for name, figure in drawn.items():
        save_svg(figure, report.parent / FIGURES / f"{name}.svg")
    both = ["kappa", "same-keys"] if any(results[arm] for arm in plan.protocol["toy"]["pairs"]) else []
    both += ["same-keys-offline"] if report.with_name("offline.json").exists() else []
    numbers = {
        "protocol": plan.fingerprint,
        "runs": {"done": sum(map(len, results.values())), "planned": len(plan.runs)},
        "claims": [asdict(claim) for claim in claims],
        "kernel": kernel,
        "arms": {arm: arm_numbers(list(own.values())) for arm, own in results.items() if own},
    }
    write_json(report.with_suffix(".json"), numbers)
    files = sorted((results_folder.parent / KEPT_APART).glob("*.json"))
    apart = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    write_text(report, page(Found(plan, results, kernel, claims, [*drawn, *both], about(results_folder), apart)))
    return claims


def arm_numbers(runs: Sequence[Result]) -> dict[str, Any]:
    """Means over seeds, with intervals, of an arm's metrics before and after."""
    names = [f"eval/{name}" for name in METRICS]
    names += [f"retention/{name}" for name in ("kappa", "tau", "r2_level", "r2_change")]
    return {"seeds": len(runs)} | {
        when: {name: interval(np.array([value(r, name, when) for r in runs])) for name in names}
        for when in ("before", "after")
    }


def page(found: Found) -> str:
    """The Markdown page."""
    remarks = found.known.get("remarks", {})
    lines = ["# Regularizers online, on a real model", "", *head(found), ""]
    if told := findings(found.results, found.kernel, found.claims):
        lines += ["## What it shows", "", *picture(found, "kappa"), *told, ""]
    lines += ["## Verdicts", "", RULES, ""]
    lines += verdict_table([claim for claim in found.claims if not claim.group], remarks)
    for title, body in (sections(found) if found.runs else {}).items():
        lines += ["", f"## {title}", "", *body]
    return "\n".join([*lines, ""])


def sections(found: Found) -> dict[str, Sequence[str]]:
    """Everything below the verdicts: title -> lines."""
    plan, results, kernel, claims = found.plan, found.results, found.kernel, found.claims

    return {
        "What training did": (
            *picture(found, "curves"),
            "Trailing means over 5 steps, bands 95 % intervals over seeds. After the last step, on held-out topics:",
            "",
            *after_table(results),
        ),
        "Drift and spread of KL": (
            "KL(π‖reference) on training topics; in the last column 1 would be a plateau and 2 a straight line.",
            "",
            *drift_table(results, plan),
        ),
        "Is the reference forgotten?": (
            *picture(found, "retention"),
            "Bars are 95 % intervals over seeds, ticks are the seeds. The fit is log π = κ log q + τ r + an effect of "
            "the prompt, by least squares on a fixed set of reference samples. Before training κ is "
            f"{kappa_at_start(results)}.",
            "",
            *retention_table(results),
        ),
        "Longer completions: length": length_table(results, plan),
        "Half the learning rate, twice the steps": rate_table(results, plan),
        "Why two clocks?": clocks(plan, results, kernel, [claim for claim in claims if claim.group == "clocks"]),
        "The same metrics in the bandit and in the language model": (
            *picture(found, "same-keys"),
            f"Above, {plan.protocol['toy']['seeds']} worlds where everything is exact; below, held-out topics. Bands "
            "are 95 % intervals over seeds. Strengths differ because they are per nat: log q deviates by about 2 nats "
            "between the bandit's arms and by about 17 between responses.",
            "",
            *(
                (
                    *picture(found, "same-keys-offline"),
                    "Offline objectives on on-policy pairs, held-out pairs, changes by training "
                    "(`make reproduce-offline`).",
                )
                if "same-keys-offline" in found.figures
                else ("The offline half is drawn here once `make reproduce-offline` has run.",)
            ),
        ),
        "The same arms on another device": (
            "A CPU instead of the GPU, by the protocol as it stood before its number of seeds was raised from three to "
            "six. Samples differ by device, so proxies do too: these are other draws, not the same runs again. No "
            "verdict uses them. After the last step:",
            "",
            *elsewhere(found.apart),
        )
        if found.apart
        else ("Not run.",),
        "What is written after training": (
            "The first sample of a held-out topic, whatever it says; topics go on from seed to seed.",
            *text_tables(results),
        ),
    }


def picture(found: Found, name: str) -> list[str]:
    """The line of a figure, if it was drawn."""
    return [f"![{TITLES[name]}]({FIGURES.as_posix()}/{name}.svg)", ""] if name in found.figures else []


def head(found: Found) -> list[str]:
    """What was run and where, and what is missing."""
    plan, runs, common = found.plan, found.runs, found.plan.protocol["common"]
    text = (
        f"SmolLM2-135M-Instruct, {len(runs)} of {len(plan.runs)} planned runs ({plan.protocol['seeds']} seeds per arm "
        f"are planned), {common['max_steps']} steps of {common['prompts_per_step']} prompts with {common['samples']} "
        f"samples of up to {common['max_new_tokens']} tokens. The protocol (`llm/experiments/online.toml`, "
        f"{plan.fingerprint}) with every bound was fixed before the first run. Intervals are 95 % Student intervals "
        "over seeds; with three seeds Student's quantile is 4.3, so they are wide: three seeds do not know more."
    )
    lines = [text]
    if runs:
        lines += ["", made_on(runs, found.known)]
        if found.kernel:
            lines[-1] += f" {kernel_made_on(found.kernel, found.known)}"
    left = len(plan.runs) - len(runs) + len(plan.kernel) - len(found.kernel)
    if left:
        lines += ["", f"**{left} runs are missing**; `make reproduce-online` goes on with them."]
        lines += ["", *missing(plan, found.results)] if runs else []
    return lines


def verdict_table(claims: Sequence[Judged], remarks: Mapping[str, str]) -> list[str]:
    """Claims with the effects that they rest on and their verdicts, and below, folded, every check with its bound.

    remarks: what a bound turned out to measure, beside the verdict, which it does not change.
    """
    rows = [
        [
            claim.says,
            "<br>".join(f"{c.what}: {c.shown}" for c in claim.checks if c.role == "headline"),
            f"**{claim.verdict}**" + (f"<br>{remarks[claim.says]}" if claim.says in remarks else ""),
        ]
        for claim in claims
    ]
    checks = [[c.what, c.shown, c.role, c.target, c.outcome] for claim in claims for c in claim.checks]
    return [
        *markdown(["claim", "effect", "verdict"], rows),
        "",
        "<details><summary>Every check: what was measured, its bound, and whether it holds</summary>",
        "",
        *markdown(["effect", "mean and interval", "role", "bound", "outcome"], checks),
        "",
        "</details>",
    ]


RULES = (
    "A check holds if its whole interval keeps the bound, fails if the whole interval breaks it, and is open between. "
    "`reproduced`: every check holds; `not reproduced`: a headline fails and none holds; `depends`: anything else. A "
    "control would hold too if nothing happened, and without its condition a claim would be about nothing: both can "
    "spoil a claim, not earn one. Effects are those of the headlines."
)


def clocks(plan: Plan, results: Results, kernel: Sequence[Result], claims: Sequence[Judged]) -> list[str]:
    """The experiment on the two clocks: its words from the protocol, then what came out."""
    if not arms_of(plan, "clocks"):
        return ["Not in this protocol."]
    words = plan.protocol["groups"]["clocks"]
    lines = ["Question, hypothesis, rivals and what decides were written before the first run.", ""]
    for name in ("question", "hypothesis", "rivals", "decides"):
        lines += [f"*{name.capitalize()}.* {words[name].strip()}", ""]
    lines += [*clock_table(results, plan), "", *verdict_table(claims, {})]
    if not kernel:
        return [*lines, "", "The kernel itself was not measured yet."]
    return [
        *lines,
        "",
        f"The kernel itself, at the untrained model ({len(kernel)} of {len(plan.kernel)} seeds): the weights are moved "
        "a little along a gradient, and κ and τ are fitted on other reference samples. Natural gradient would answer "
        "g(log q) with κ alone and g(r) with τ alone, at one rate.",
        "",
        *kernel_table(kernel, predictions(plan, kernel)),
    ]
