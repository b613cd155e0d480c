"""Results of the online experiment: one small JSON file per run, without weights, and the numbers read from it.

They are kept with the code, so that the experiment can go on in another checkout and on another day.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from derivations.cli.files import write_json
from derivations.cli.run_folder import versions
from derivations.evidence.results import read_result
from llm.experiments.online_plan import Plan, Run

Result = dict[str, Any]
CURVES = ("proxy", "gold", "kl", "entropy", "length")
KEPT = ("torch", "transformers", "git_commit")
DIGITS = 5  # significant digits of every number kept


def keep(run: Run, folder: Path, plan: Plan, path: Path) -> Result:
    """Condense a finished run folder of `llm online` into the run's result and write it."""
    import torch

    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    result = {"run": run.name, "arm": run.arm, "group": run.group, "seed": run.seed, "protocol": plan.fingerprint}
    result |= {name: summary[name] for name in ("regularizer", "wrong_bonus", "seconds", "peak_memory_gib")}
    result |= {"spread_ratio": summary["spread_ratio"], "proxy": summary["proxy"]}
    result["evaluations"] = [_evaluation(e) for e in summary["evaluations"]]
    result["curve"] = _curve(_rows(folder / "metrics.jsonl"))
    result["texts"] = pick_texts(_rows(folder / "samples.jsonl"), run.seed, plan.protocol["texts"])
    result["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "a CPU"
    result["versions"] = {name: value for name, value in versions().items() if name in KEPT}
    write_json(path, short(result))
    return result


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _evaluation(found: dict[str, Any]) -> dict[str, Any]:
    """Means over samples; of the retention fit the bootstrap intervals too."""
    means = {part: {name: value["mean"] for name, value in found[part].items()} for part in ("eval", "eval-train")}
    return {"step": found["step"], **means, "retention": found["retention"]}


def _curve(rows: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """The training rows' columns that are drawn."""
    steps = [row for row in rows if "loss" in row]
    return {name: [row[name] for row in steps] for name in ("step", *CURVES)}


def pick_texts(rows: Sequence[dict[str, Any]], seed: int, count: int) -> list[dict[str, Any]]:
    """The first sample of `count` held-out topics after the last step; the next seed goes on with the next topics.

    Nothing about the text decides which one is taken.
    """
    last = max(row["step"] for row in rows)
    rows = [row for row in rows if row["step"] == last and row.get("split", "eval") == "eval"]
    first = list({row["topic"]: row for row in reversed(rows)}.values())[::-1]
    chosen = [first[(seed * count + i) % len(first)] for i in range(min(count, len(first)))]
    return [{name: row[name] for name in ("topic", "response", "gold", "proxy")} for row in chosen]


def short(value: Any) -> Any:
    """The same with every number to DIGITS significant digits."""
    if isinstance(value, dict):
        return {name: short(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [short(item) for item in value]
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.{DIGITS}g}")
    return value


def load(plan: Plan, folder: Path) -> dict[str, dict[int, Result]]:
    """Results by arm and seed; arms without any are there, empty. Raises InputError for one of another protocol."""
    found: dict[str, dict[int, Result]] = {arm: {} for arm in plan.arms}
    for run in plan.runs:
        result = read_result(folder / f"{run.name}.json", plan.fingerprint)
        if result is not None:
            found[run.arm][run.seed] = result
    return found


def load_kernel(plan: Plan, folder: Path) -> list[Result]:
    """Measurements without training that are there, by seed. Raises InputError for one of another protocol."""
    found = (read_result(folder / f"{run.name}.json", plan.fingerprint) for run in plan.kernel)
    return [result for result in found if result is not None]


def value(result: Result, metric: str, when: str = "after") -> float:
    """A metric such as eval/gold or retention/kappa. when: before, half (of the steps), after. NaN if it is null."""
    evaluations = result["evaluations"]
    steps = [e["step"] for e in evaluations]
    place = {"before": 0, "after": -1}.get(when)
    if place is None:
        place = steps.index(steps[-1] // 2)
    part, _, name = metric.partition("/")
    found = evaluations[place][part][name]
    found = found["mean"] if isinstance(found, dict) else found
    return math.nan if found is None else float(found)
