"""The report of `make reproduce-offline`: tables and verdicts from the runs' result files, whatever they say.

Intervals are 95 % Student intervals over seeds (runs), not over samples. A claim is `reproduced` if the
interval of its effect lies on the claimed side, `not reproduced` if it does not, and `depends` if the
objectives disagree. That nothing happens is a control: its interval must hold 0 and be narrow enough to exclude the
gain that the same objective has where something happens; one that is too wide says nothing and is open.
"""

import json
import math
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
DATA = {
    "on-policy": "Responses that the untrained model writes on 40 topics, ranked by the gold reward; 8 are held out.",
    "planted": "The same responses behind a first word that is the label: “Indeed,” is preferred to “Well,”.",
    "shuffled": "As `planted`, with the label of each training pair drawn by a coin; evaluated like `planted`.",
}
CONTROLLED = {"shuffled": "planted"}  # the task whose effect a control must exclude
# (claim, task, effect, sign: +1 above 0, -1 below 0, 0 nothing happens)
CLAIMS: tuple[tuple[str, str, Effect, int], ...] = (
    ("planted labels are learned: held-out loss falls", "planted", EFFECTS["held-out loss"], -1),
    ("shuffled labels give no gain in held-out accuracy", "shuffled", EFFECTS["held-out accuracy"], 0),
    ("on-policy pairs: held-out loss falls", "on-policy", EFFECTS["held-out loss"], -1),
    ("on-policy pairs: gold of fresh samples rises", "on-policy", FRESH["gold of fresh samples"], 1),
    ("on-policy pairs: chosen responses become less likely", "on-policy", EFFECTS["log-prob of chosen"], -1),
    ("file: held-out loss falls", "file", EFFECTS["held-out loss"], -1),
    ("file: chosen responses become less likely", "file", EFFECTS["log-prob of chosen"], -1),
)


def judged(effect: dict[str, float], sign: int, *, size: float = math.inf) -> str:
    """`holds`, `fails` or `open`: where an interval lies.

    Args:
        effect: {mean, low, high}.
        sign: +1 or -1: it holds on that side of 0, and fails elsewhere. 0: a control.
        size: of a control, the effect it must exclude on both sides: it holds within that and around 0, fails without
            0, and is open where it is wider.

    Returns:
        The outcome.
    """
    if sign != 0:
        return "holds" if (effect["low"] if sign > 0 else -effect["high"]) > 0 else "fails"
    if not effect["low"] <= 0 <= effect["high"]:
        return "fails"
    return "holds" if -size < effect["low"] and effect["high"] < size else "open"


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
            sizes = _sizes(results, CONTROLLED.get(task), effect)
            outcomes = {o: judged(e, sign, size=sizes.get(o, 0.0)) for o, e in by_objective.items()}
            found = {"claim": claim, "effect": by_objective, "outcome": outcomes}
            said = verdict(("headline", outcome == "holds", outcome == "fails") for outcome in outcomes.values())
            numbers["claims"].append(found | {"verdict": said} | ({"must_exclude": sizes} if sign == 0 else {}))
    write_json(report.with_suffix(".json"), numbers | {"results": results})
    write_text(report, _markdown(numbers, results, protocol))
    return numbers


def _sizes(results: list[Result], task: str | None, effect: Effect) -> dict[str, float]:
    """Mean size of an effect in a task, by objective."""
    own = [r for r in results if r["task"] == task]
    names = dict.fromkeys(r["objective"] for r in own)
    return {name: abs(interval(effect(r) for r in own if r["objective"] == name).mean) for name in names}


def _effects(claim: dict[str, Any]) -> str:
    """The effect of every objective; of a control what it must exclude, too."""
    words = []
    for objective, effect in claim["effect"].items():
        limit = claim.get("must_exclude", {}).get(objective)
        bound = f" ({claim['outcome'][objective]}: must exclude ±{limit:.3f})" if limit is not None else ""
        words.append(f"{objective} {_number(effect)}{bound}")
    return "; ".join(words)


def _about(task: str, results: list[Result]) -> list[str]:
    """What the comparisons of a task are."""
    if task != "file":
        return [DATA[task], ""]
    own = [r for r in results if r["task"] == task]
    counts = " and ".join(
        f"{own[0][key]} {words}" for key, words in (("train_pairs", "trained on"), ("eval_pairs", "held out"))
    )
    named = sorted({r["data"] for r in own if "data" in r})
    source = (
        f"The file {', '.join(named)}" if named else "A file of the user's own, whose name these results do not hold"
    )
    tokens = own[0]["before"]["tokens/chosen"]
    return [f"{source}: {counts}; {tokens:.0f} tokens in a chosen response, on average.", ""]


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
            [[c["claim"], _effects(c), c["verdict"]] for c in numbers["claims"]],
        ),
        "",
        "Controls: that shuffled labels give no gain is reproduced only where the interval holds 0 and lies within the "
        "gain, up or down, that the same objective has with planted labels. A wider one is open: it says nothing.",
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
        lines += [
            "",
            f"## Task `{task}`",
            "",
            *_about(task, results),
            f"Settings: {options}.",
            "",
            *markdown(columns, rows),
        ]
    return "\n".join([*lines, ""])
