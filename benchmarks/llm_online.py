"""Online training against TRL's RLOOTrainer with KL: seconds a step, peak memory, and the reward curves overlaid.

Same model, prompts, samples a prompt, proxy reward, KL strength, optimizer and precision; each side in a
process of its own, taking turns step by step, so a busy machine slows both alike. Reported are ratios of
ours to TRL's over data seeds: of all time, of time without TRL's reward function, of peak memory.

    python -m benchmarks.llm_online --help
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from matplotlib.figure import Figure

from benchmarks.device import Device, device_name, require_model, take_device, trl_at_its_best
from benchmarks.worker import Worker, turns
from derivations.cli.command_line import run_command
from derivations.cli.errors import InputError
from derivations.cli.files import write_json, write_text
from derivations.evidence import tables
from derivations.evidence.intervals import interval
from derivations.evidence.pictures import STYLES
from llm.engine.jsonl import print_table
from toybandit.plots import save_figure

FORMS = {
    "plain": "all samples in one batch",
    "accumulated": "one prompt's samples at a time",
    "best": "all samples in one batch, as fast as it can be had here",
}
AIM = (0.7, 0.6)  # time, memory
WORKER = "benchmarks.llm_online_worker"
DIFFERENCES = (
    "TRL scores the samples twice more before it learns: once for the log-probs that its clipped ratio divides by "
    "(the ratio is 1 with one update a batch) and once for the reward function, which is not shown the pass of the "
    "reference that the KL needs.",
    "TRL pads, and repeats the prompt for every sample where it generates and where it scores; we run one copy of it.",
    "Under bf16 TRL generates through autocast, which narrows the weights at every token; we generate with a narrow "
    "copy (its memory is counted).",
    "TRL's log-probs come from bf16 logits where autocast makes them so, ours from float32 ones; samples differ, "
    "since random numbers are spent differently; rewards agree in law and not draw by draw.",
    "Gradient checkpointing, which TRL turns on by default, is off.",
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Measure online training against TRL 1.16's RLOOTrainer (extra `bench`)."""

    forms: tuple[Literal["plain", "accumulated", "best"], ...] = ("plain", "accumulated")
    """TRL with all samples in one batch, with one prompt's samples at a time (less memory), or in one batch with
    Liger's kernels and flash attention where they are installed."""
    device: Device = "cpu"
    """cuda: clocks wait for the GPU, and memory is the GPU's."""
    sampler: Literal["transformers", "static"] = "transformers"
    """Engine that draws our samples."""
    steps: int = 10
    """Optimizer steps measured for each seed, after one that is not counted."""
    seeds: int = 3
    """How many seeds of prompts and samples."""
    prompts: int = 8
    """Prompts a step."""
    samples: int = 4
    """Samples a prompt."""
    tokens: int = 20
    """Most new tokens."""
    beta: float = 0.05
    """Strength of KL, reward units per nat."""
    lr: float = 5e-5
    """Learning rate of AdamW."""
    dtype: Literal["bf16", "float32"] = "bf16"
    """Precision of both sides."""
    model: str = "bundled"
    """bundled, a local folder, or random weights of a size: random-tiny, random-135m, random-1b."""
    gold: str | None = None
    """The gold reward that the proxy is fitted to (default: on-topic-sentiment; of random weights, whose text has none,
    fluency)."""
    threads: int = 1
    """Threads of each process."""
    out: Path = Path("docs/llm-online-benchmark")
    """Where to write the table (.md), every measured step (.json) and the reward curves (.svg)."""

    def __post_init__(self) -> None:
        require_model(self.model)
        if min(self.steps, self.seeds, self.prompts, self.tokens, self.threads) < 1 or self.samples < 2:
            raise InputError("--steps, --seeds, --prompts, --tokens and --threads are 1 or more, --samples 2 or more")

    def worker_options(self, seed: int, proxy: Path) -> str:
        """What a worker needs, as its one argument."""
        names = ("samples", "beta", "lr", "dtype", "model", "gold", "threads", "device", "sampler")
        options = {name: getattr(self, name) for name in names} | {"seed": seed, "proxy": str(proxy)}
        options["gold"] = self.gold or ("fluency" if self.model.startswith("random-") else "on-topic-sentiment")
        options |= {"prompts_per_step": self.prompts, "max_new_tokens": self.tokens, "steps": self.steps + 1}
        return json.dumps(options)


def measure(form: str, settings: Settings, seed: int, proxy: Path) -> list[dict[str, Any]]:
    """Every step of both sides: rows with form, seed, arm, step, seconds, reward_seconds, reward, length, peak_gib."""
    workers = [Worker(arm, WORKER, [settings.worker_options(seed, proxy)]) for arm in ("ours", f"trl-{form}")]
    rows = []
    try:
        for step in range(1, settings.steps + 2):
            for worker in turns(workers, step):
                found = worker.ask(step)
                rows.append({"form": form, "seed": seed, "arm": worker.arm.partition("-")[0], "step": step, **found})
                print(f"{form} seed {seed} step {step} {worker.arm}: {found['seconds']:.2f} s, reward "
                      f"{found['reward']:+.2f}, {found['peak_gib']:.2f} GiB", flush=True)  # fmt: skip
    finally:
        for worker in workers:
            worker.close()
    return rows


def compare(form: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Ratios of ours to TRL's, a seed each with mean and 95 % interval; the first step of a seed warms up."""
    own = [row for row in rows if row["form"] == form]
    ratios: dict[str, list[float]] = {"time": [], "time_without_reward": [], "memory": []}
    for seed in sorted({row["seed"] for row in own}):
        sides = {arm: [r for r in own if r["seed"] == seed and r["arm"] == arm] for arm in ("ours", "trl")}
        counted = {arm: [r for r in side if r["step"] > 1] for arm, side in sides.items()}
        time = {arm: sum(r["seconds"] for r in side) for arm, side in counted.items()}
        reward = sum(r["reward_seconds"] for r in counted["trl"])
        ratios["time"].append(time["ours"] / time["trl"])
        ratios["time_without_reward"].append(time["ours"] / (time["trl"] - reward))
        peak = {arm: max(r["peak_gib"] for r in side) for arm, side in sides.items()}
        ratios["memory"].append(peak["ours"] / peak["trl"])
    seconds = {arm: float(np.mean([r["seconds"] for r in own if r["arm"] == arm and r["step"] > 1]))
               for arm in ("ours", "trl")}  # fmt: skip
    reached = max(ratios["time"]) <= AIM[0] and max(ratios["memory"]) <= AIM[1]
    found = {name: asdict(interval(values)) | {"seeds": values} for name, values in ratios.items()}
    return {"form": form, "seconds": seconds, **found, "reached": reached}


def table(lines: Sequence[dict[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of the report."""
    columns = ("TRL with", "ours (s a step)", "TRL's", "time", "without TRL's reward pass", "peak memory", "aim", "")
    rows = [
        (
            FORMS[line["form"]],
            f"{line['seconds']['ours']:.2f}",
            f"{line['seconds']['trl']:.2f}",
            *(_ratio(line[name]) for name in ("time", "time_without_reward", "memory")),
            f"{AIM[0]:g} at {AIM[1]:g}",
            "reached" if line["reached"] else "missed",
        )
        for line in lines
    ]
    return columns, rows


def _ratio(found: dict[str, Any]) -> str:
    values = found["seeds"]
    spread = f" [{found['low']:.2f}, {found['high']:.2f}]" if len(values) > 1 else " (1 seed)"
    return f"{found['mean']:.2f}{spread}"


def markdown(lines: Sequence[dict[str, Any]], settings: Settings) -> str:
    """The report."""
    columns, rows = table(lines)
    what = "SmolLM2-135M-Instruct" if settings.model == "bundled" else settings.model
    best = ["", f"TRL as fast as it can be had here: {', '.join(trl_at_its_best('rloo')[2])}."]
    return "\n".join(
        [
            "# Online training against TRL",
            "",
            f"{what} on {device_name(settings.device)}, {settings.threads} thread(s), {settings.dtype}, "
            f"{settings.prompts} prompts with {settings.samples} samples of up to {settings.tokens} tokens a step, "
            f"KL {settings.beta:g}, AdamW {settings.lr:g}, clipping at 1; {settings.steps} steps for each of "
            f"{settings.seeds} seeds, sides taking turns step by step. Ratios are ours over TRL 1.16's RLOOTrainer, "
            "with 95 % intervals over seeds; memory is the most a process held, its start included.",
            "",
            *tables.markdown(columns, rows),
            *(best if "best" in settings.forms else []),
            "",
            f"![Mean reward of the samples by step, ours and TRL's]({settings.out.name}.svg)",
            "",
            "What differs:",
            "",
            *(f"- {text}" for text in DIFFERENCES),
            "",
        ]
    )


def reward_figure(rows: Sequence[dict[str, Any]]) -> Figure:
    """Mean proxy reward of the samples by step, a line a seed and form."""
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.subplots()
    for arm, (colour, style) in zip(("ours", "trl"), STYLES, strict=False):
        label: str | None = {"ours": "ours", "trl": "TRL"}[arm]
        for key in sorted({(row["form"], row["seed"]) for row in rows}):
            own = [row for row in rows if (row["form"], row["seed"], row["arm"]) == (*key, arm)]
            steps, rewards = [row["step"] for row in own], [row["reward"] for row in own]
            axes.plot(steps, rewards, color=colour, linestyle=style, linewidth=1.4, label=label)
            label = None
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("mean proxy reward of the samples")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, handlelength=3)
    return figure


def main() -> int:
    settings = tyro.cli(Settings, prog="python -m benchmarks.llm_online")
    take_device(settings.device)
    proxy = Path("out/bench-online/proxy")
    command = [sys.executable, "-m", WORKER, "proxy", settings.worker_options(0, proxy)]
    subprocess.run(command, check=True)
    rows: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    for form in settings.forms:
        for seed in range(settings.seeds):
            rows += measure(form, settings, seed, proxy)
        lines.append(compare(form, rows))
        write_json(settings.out.with_suffix(".json"), {"lines": lines, "steps": rows})
        write_text(settings.out.with_suffix(".md"), markdown(lines, settings))
        save_figure(reward_figure(rows), settings.out.with_suffix(".svg"))
    columns, cells = table(lines)
    print_table("ours over TRL's RLOOTrainer", columns, cells, quiet=False)
    return 0 if all(line["reached"] for line in lines) else 1


if __name__ == "__main__":
    run_command(main)
