"""What the online experiment found, in sentences whose numbers come from the results, and where they were made."""

import statistics
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from derivations.evidence.tables import markdown
from llm.experiments.online_plan import Plan
from llm.experiments.online_results import Result
from llm.experiments.online_tables import of, over_seeds
from llm.experiments.online_verdicts import Judged, Results

ABOUT = "about.toml"  # beside the results: what they do not say themselves
KEPT_APART = "online-cpu"  # the same arms on another device, by the protocol before its number of seeds was raised
CLOCK = "c = alpha tau / (1 - kappa), entropy-0.05"


def about(folder: Path) -> dict[str, Any]:
    """Where results that name no device were made, and remarks on claims; nothing if the folder has no such file."""
    path = folder / ABOUT
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def made_on(runs: Sequence[Result], known: Mapping[str, Any]) -> str:
    """A sentence: how many runs were made on which device, with which versions, and how long each took."""
    by_device: dict[str, list[Result]] = {}
    for run in runs:
        told = known.get("elsewhere", {}).get(run["run"], known.get("made_on", "a device that was not recorded"))
        by_device.setdefault(run.get("device", told), []).append(run)
    parts = []
    for device, own in by_device.items():
        used = {
            f"{name} {run['versions'][name].partition('+')[0]}"
            for run in own
            for name in ("torch", "transformers")
            if name in run.get("versions", {})
        }
        took = statistics.median(run["seconds"] for run in own)
        parts.append(f"{len(own)} on {device} ({', '.join([*sorted(used), f'{took:.0f} s each'])})")
    return f"Runs were made: {'; '.join(parts)}."


def kernel_made_on(kernel: Sequence[Result], known: Mapping[str, Any]) -> str:
    """A sentence: where the measurements without training were made."""
    return f"The {len(kernel)} measurements without training were made on {known.get('kernel_made_on', 'a CPU')}."


def missing(plan: Plan, results: Results) -> list[str]:
    """The table of what has run, group by group; nothing is left out in silence."""
    rows = []
    for name, group in plan.protocol["groups"].items():
        planned = [run for run in plan.runs if run.group == name]
        done = sum(run.seed in results[run.arm] for run in planned)
        seeds = sorted({seed for arm in group["arms"] for seed in results[arm]})
        rows.append([name, group["says"], f"{done} of {len(planned)}", ", ".join(map(str, seeds)) or "none"])
    return markdown(["group", "what it is", "runs", "seeds with a run"], rows)


def findings(results: Results, kernel: Sequence[Result], claims: Sequence[Judged]) -> list[str]:
    """The results in a few sentences; each stands only if the arms it is about have run."""

    def shown(arm: str, metric: str, when: str = "after") -> str:
        return over_seeds(results[arm].values(), of(metric, when))

    lines = []
    if all(results.get(arm) for arm in ("entropy-0.05", "length-normalized-1", "kl-0.05")):
        lines += [
            f"- **Entropy forgets the reference, KL keeps it.** Entropy 0.05 takes the entropy of a response from "
            f"{shown('entropy-0.05', 'eval/entropy', 'before')} to {shown('entropy-0.05', 'eval/entropy')} nats and "
            f"the retention κ from 1 to {shown('entropy-0.05', 'retention/kappa')}. Length-normalized 1, the online "
            f"counterpart of SimPO, takes κ to {shown('length-normalized-1', 'retention/kappa')}. KL 0.05 keeps it at "
            f"{shown('kl-0.05', 'retention/kappa')}.",
        ]
    clock = next((check for claim in claims for check in claim.checks if check.what == CLOCK), None)
    if clock is not None and clock.found is not None:
        lines += [
            f"- **The quantitative law does not carry over.** Natural gradient has c = ατ/(1 − κ) = 1; training has "
            f"c = {clock.shown}.",
        ]
    if kernel:
        ratios = [f"{run['ratio']:.2f}" for run in kernel]
        lines += [
            f"- **A network need not keep it.** Measured at the reference, without training: a step along the reward "
            f"moves τ only {', '.join(ratios)} times as fast as a step along log q moves κ (one number per seed). "
            "Natural gradient moves both at one rate.",
        ]
    if all(results.get(arm) for arm in ("none-weak", "kl-0.05-weak")):
        lines += [
            f"- **Nothing collapses to a word under the weak proxy.** Length goes from "
            f"{shown('none-weak', 'eval/length', 'before')} to {shown('none-weak', 'eval/length')} tokens without a "
            f"regularizer. Diversity falls: distinct-2 ends at {shown('none-weak', 'eval/distinct_2')}, and at "
            f"{shown('kl-0.05-weak', 'eval/distinct_2')} under KL 0.05.",
        ]
    return lines


def elsewhere(runs: Sequence[Result]) -> list[str]:
    """The table of the same arms on another device: another draw of proxies and samples, not the same numbers."""
    arms: dict[str, list[Result]] = {}
    for run in runs:
        arms.setdefault(run["arm"], []).append(run)
    columns = {"κ": "retention/kappa", "entropy (nats)": "eval/entropy", "gold": "eval/gold", "proxy": "eval/proxy"}
    rows = [[arm, *(over_seeds(own, of(metric)) for metric in columns.values())] for arm, own in arms.items()]
    return markdown(["arm", *columns], rows)
