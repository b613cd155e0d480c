"""The report of `make reproduce-offline`: tables and verdicts from the runs' result files, whatever they say.

Intervals are 95 % Student intervals over seeds (runs), not over samples. A claim is `reproduced` if the
interval of its effect lies on the claimed side, `not reproduced` if it does not, and `depends` if the
objectives disagree.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from derivations.cli.files import write_json, write_text
from derivations.evidence.intervals import interval
from derivations.evidence.tables import markdown
from derivations.evidence.verdicts import verdict

Result = dict[str, Any]
Effect = Callable[[Result], float]


def _change(name: str) -> Effect:
    return lambda r: r["after"][name] - r["before"][name]


def _fresh(name: str) -> Effect:
    return lambda r: r["fresh"]["after"][name] - r["fresh"]["before"][name]


EFFECTS: dict[str, Effect] = {
    "held-out accuracy": _change("rewards/accuracies"),
    "held-out loss": _change("loss"),
    "log-prob of chosen": _change("logps/chosen"),
    "log-prob of rejected": _change("logps/rejected"),
    "per token, chosen": _change("logps_per_token/chosen"),
    "per token, rejected": _change("logps_per_token/rejected"),
}
FRESH: dict[str, Effect] = {
    "gold of fresh samples": _fresh("gold"),
    "length of fresh samples": _fresh("length"),
    "share that ends by itself": _fresh("complete"),
}
# (claim, task, effect, sign: +1 above 0, -1 below 0, 0 the interval holds 0)
CLAIMS: tuple[tuple[str, str, Effect, int], ...] = (
    ("planted labels are learned: held-out loss falls", "planted", EFFECTS["held-out loss"], -1),
    ("shuffled labels give no gain in held-out accuracy", "shuffled", EFFECTS["held-out accuracy"], 0),
    ("on-policy pairs: held-out loss falls", "on-policy", EFFECTS["held-out loss"], -1),
    ("on-policy pairs: gold of fresh samples rises", "on-policy", FRESH["gold of fresh samples"], 1),
    ("on-policy pairs: chosen responses become less likely", "on-policy", EFFECTS["log-prob of chosen"], -1),
    ("file: held-out loss falls", "file", EFFECTS["held-out loss"], -1),
    ("file: chosen responses become less likely", "file", EFFECTS["log-prob of chosen"], -1),
)


def holds(effect: dict[str, float], sign: int) -> bool:
    """Whether an interval lies on the claimed side of 0 (sign 0: contains 0)."""
    if sign == 0:
        return effect["low"] <= 0 <= effect["high"]
    return effect["low"] > 0 if sign > 0 else effect["high"] < 0


def write_report(runs: Path, report: Path, protocol: dict[str, Any], fingerprint: str) -> dict[str, Any]:
    """Write the report (Markdown) and its numbers (JSON beside it); returns the numbers."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(runs.glob("*/result.json"))]
    tasks = [task for task in protocol["tasks"] if any(r["task"] == task for r in results)]
    numbers: dict[str, Any] = {"protocol": fingerprint, "seeds": protocol["seeds"], "tasks": {}, "claims": []}
    for task in tasks:
        effects = EFFECTS | (FRESH if task == "on-policy" else {})
        numbers["tasks"][task] = {
            objective: {
                "runs": len(own),
                "effects": {name: asdict(interval(effect(r) for r in own)) for name, effect in effects.items()},
                "accuracy": {w: asdict(interval(r[w]["rewards/accuracies"] for r in own)) for w in ("before", "after")},
            }
            for objective in protocol["tasks"][task]["objectives"]
            if (own := [r for r in results if (r["task"], r["objective"]) == (task, objective)])
        }
    for claim, task, effect, sign in CLAIMS:
        by_objective = {
            objective: asdict(interval(effect(r) for r in results if (r["task"], r["objective"]) == (task, objective)))
            for objective in numbers["tasks"].get(task, {})
        }
        if by_objective:
            outcomes = [holds(e, sign) for e in by_objective.values()]
            numbers["claims"].append(
                {
                    "claim": claim,
                    "effect": by_objective,
                    "verdict": verdict(("headline", holds, not holds) for holds in outcomes),
                }
            )
    write_json(report.with_suffix(".json"), numbers | {"results": results})
    write_text(report, _markdown(numbers, results, protocol))
    return numbers


def _number(value: dict[str, float]) -> str:
    return f"{value['mean']:+.3f} [{value['low']:+.3f}, {value['high']:+.3f}]"


def _markdown(numbers: dict[str, Any], results: list[Result], protocol: dict[str, Any]) -> str:
    hours = sum(r["seconds"] for r in results) / 3600
    lines = [
        "# Offline objectives on a real model",
        "",
        f"SmolLM2-135M-Instruct, {len(results)} runs ({numbers['seeds']} seeds an arm), {hours:.1f} hours of one "
        f"thread in training, at most {max(r['peak_memory_gib'] for r in results):.1f} GiB. The protocol "
        f"(`llm/experiments/offline.toml`, {numbers['protocol']}) was fixed before the first run. Intervals are 95 % "
        "Student intervals over seeds. Log-probs in nats.",
        "",
        "## Verdicts",
        "",
        *markdown(
            ["claim", "effect by objective", "verdict"],
            [
                [c["claim"], "; ".join(f"{o} {_number(e)}" for o, e in c["effect"].items()), c["verdict"]]
                for c in numbers["claims"]
            ],
        ),
    ]
    if "file" not in numbers["tasks"]:
        lines += ["", "The task `file` was not run: no `--data` was given."]
    for task, objectives in numbers["tasks"].items():
        columns = ["change", *objectives]
        names = next(iter(objectives.values()))["effects"]
        rows = [
            ["accuracy before", *(f"{o['accuracy']['before']['mean']:.3f}" for o in objectives.values())],
            ["accuracy after", *(f"{o['accuracy']['after']['mean']:.3f}" for o in objectives.values())],
            *([name, *(_number(o["effects"][name]) for o in objectives.values())] for name in names),
        ]
        options = ", ".join(f"{k} {v}" for k, v in (protocol["common"] | protocol["tasks"][task]["options"]).items())
        lines += ["", f"## Task `{task}`", "", f"{options}.", "", *markdown(columns, rows)]
    return "\n".join([*lines, ""])
