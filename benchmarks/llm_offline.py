"""Offline training against TRL: time, memory, and the same loss and gradient on the same tokens.

Each arm runs in a process of its own (`benchmarks.llm_offline_worker`); the processes take turns step
by step on the same batches, so a busy machine slows both alike. Reported are the ratio of total times
with its range over data seeds, the ratio of peak memory, the largest difference of loss and gradient
norm, and the share of this machine's matrix-product peak that our arithmetic reached.

The JSON beside the table is written after every seed. The same command again goes on behind the seeds
in it (if neither settings nor code have changed); rows of cases it was not asked for stay as they are.

    python -m benchmarks.llm_offline --help
"""

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from benchmarks.device import Device, device_name, require_model, take_device, trl_at_its_best
from benchmarks.llm_offline_data import make_batches
from benchmarks.llm_offline_kept import Kept, conditions
from benchmarks.worker import Worker, turns
from derivations.cli.command_line import run_command
from derivations.cli.errors import InputError
from derivations.cli.files import write_text
from derivations.evidence import tables
from llm.engine.jsonl import print_table

Data = Literal["file", "dialogue"]
SAME = 1e-5  # of loss and gradient norm, relative, that float32 must keep to


@dataclass(frozen=True)
class Case:
    """One row of the table. trl: the form of TRL that it is held against. must: speed-up, share of memory. attention:
    ours."""

    name: str
    objective: str
    dtype: str
    lora_rank: int
    trl: str
    must: tuple[float, float]
    attention: str = "packed"


CASES = {
    case.name: case
    for case in (
        Case("simpo-float32", "simpo", "float32", 0, "plain", (3.0, 0.45)),
        Case("simpo-bf16", "simpo", "bf16", 0, "plain", (2.5, 0.5)),
        Case("simpo-bf16-checkpointing", "simpo", "bf16", 0, "checkpointing", (2.5, 0.5)),
        Case("simpo-lora-bf16", "simpo", "bf16", 16, "plain", (2.5, 0.4)),
        Case("dpo-float32", "dpo", "float32", 0, "plain", (3.5, 0.4)),
        Case("dpo-bf16", "dpo", "bf16", 0, "plain", (3.5, 0.4)),
    )
}
# On a GPU: ours in both attentions, TRL as it comes and as fast as it can be had; no slower and no larger than either.
GPU_CASES = {
    case.name: case
    for case in (
        Case(f"{objective}-{attention}-against-{trl}", objective, "bf16", 0, trl, (1.0, 1.0), attention)
        for objective in ("simpo", "dpo")
        for attention in ("packed", "flex_attention")
        for trl in ("plain", "best")
    )
}
EVERY_CASE = CASES | GPU_CASES


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Measure training against TRL 1.16 (extra `bench`)."""

    cases: tuple[str, ...] = ()
    """Which rows to measure (default: those of the device)."""
    device: Device = "cpu"
    """cuda: clocks wait for the GPU, and memory is the GPU's."""
    model: str = "bundled"
    """bundled, a local folder, or random weights of a size: random-tiny, random-135m, random-1b."""
    data: Data = "dialogue"
    """dialogue: pairs whose lengths are drawn like those of hh-rlhf (long prompts, short answers); file: --file."""
    file: Path | None = None
    """Preference data for --data file."""
    batches: int = 20
    """Optimizer steps measured for each data seed, after one that is not counted."""
    seeds: int = 3
    """How many data seeds."""
    pairs: int = 4
    """Pairs per step."""
    max_length: int = 512
    """Most tokens of prompt and response together."""
    threads: int = 1
    """Threads of each process."""
    out: Path = Path("docs/llm-offline-benchmark")
    """Where to write the table (.md) and every measured step (.json)."""

    def __post_init__(self) -> None:
        require_model(self.model)
        for name in self.cases:
            if name not in EVERY_CASE:
                raise InputError(f"no case {name!r}; there are: {', '.join(EVERY_CASE)}")
            if self.device == "cpu" and EVERY_CASE[name].attention == "flex_attention":
                raise InputError(f"the case {name} needs --device cuda")
        if self.data == "file" and (self.file is None or not self.file.is_file()):
            raise InputError("--data file needs --file, a preference file")
        if min(self.batches, self.seeds, self.pairs, self.threads) < 1:
            raise InputError("--batches, --seeds, --pairs and --threads are counts of 1 or more")

    def chosen(self) -> list[Case]:
        """The rows to measure."""
        return [EVERY_CASE[name] for name in self.cases or (GPU_CASES if self.device == "cuda" else CASES)]

    def worker_options(self, case: Case) -> str:
        """What a worker needs, as its one argument."""
        names = ("objective", "dtype", "lora_rank", "attention")
        own = {"threads": self.threads, "device": self.device, "model": self.model}
        return json.dumps({name: getattr(case, name) for name in names} | own)


def measure(case: Case, settings: Settings, seed: int) -> list[dict[str, Any]]:
    """Every arm's measurements of every step: rows with arm, step, seconds, loss, grad_norm, peak_gib."""
    batches = make_batches(settings, seed=seed)
    # the largest first, which is not timed: every arm then has the memory it needs before the clock runs
    batches.insert(0, batches.pop(max(range(len(batches)), key=lambda i: padded_tokens(batches[i]))))
    arms = ["ours", f"trl-{case.trl}"]
    # one after the other on a GPU: nobody else is on it, and two models of a size of interest do not fit
    together = [arms] if settings.device == "cpu" else [[arm] for arm in arms]
    return [row for some in together for row in take_turns(some, batches, case, settings, seed)]


def take_turns(
    arms: list[str], batches: list[list[dict[str, list[int]]]], case: Case, settings: Settings, seed: int
) -> list[dict[str, Any]]:
    """The measurements of these arms, in processes that run at the same time and work in turn."""
    workers = [Worker(arm, "benchmarks.llm_offline_worker", [settings.worker_options(case)]) for arm in arms]
    rows = []
    try:
        for step, batch in enumerate(batches):
            for worker in turns(workers, step):
                began = time.monotonic()
                answer = worker.ask(batch)
                rows.append({"case": case.name, "seed": seed, "arm": worker.arm, "step": step, **answer})
                print(f"{case.name} seed {seed} step {step} {worker.arm}: {answer['seconds']:.2f} s "
                      f"(turn {time.monotonic() - began:.2f} s), loss {answer['loss']:.6f}", flush=True)  # fmt: skip
    finally:
        for worker in workers:
            worker.close()
    return rows


def padded_tokens(pairs: list[dict[str, list[int]]]) -> int:
    """Places of the batch where every response is padded to the longest."""
    return len(pairs) * max(len(p["prompt"]) + max(len(p["chosen"]), len(p["rejected"])) for p in pairs)


def compare(case: Case, rows: list[dict[str, Any]], peak_gflops: float) -> dict[str, Any]:
    """The case's line. The first step of a seed warms up and is left out of times, not of values."""
    ratios, memory, loss, norm, reached = [], [], [], [], []
    for seed in sorted({r["seed"] for r in rows}):
        ours, trl = (
            sorted((r for r in rows if r["seed"] == seed and r["arm"] == arm), key=lambda r: r["step"])
            for arm in ("ours", f"trl-{case.trl}")
        )
        seconds = [sum(r["seconds"] for r in arm[1:]) for arm in (ours, trl)]
        ratios.append(seconds[1] / seconds[0])
        memory.append(ours[-1]["peak_gib"] / trl[-1]["peak_gib"])
        reached.append(sum(r["gflop"] for r in ours[1:]) / seconds[0] / peak_gflops)
        # only the first step starts from the same weights
        loss.append(abs(ours[0]["loss"] - trl[0]["loss"]) / abs(trl[0]["loss"]))
        norm.append(abs(ours[0]["grad_norm"] - trl[0]["grad_norm"]) / trl[0]["grad_norm"])
    return {
        "case": case.name,
        "against": case.trl,
        "speed_up": statistics.mean(ratios),
        "speed_up_range": [min(ratios), max(ratios)],
        "memory": max(memory),
        "loss_difference": max(loss),
        "grad_norm_difference": max(norm),
        "share_of_peak": statistics.mean(reached),
        "peak_gflops": peak_gflops,
        "batches": min(sum(r["seed"] == s and r["arm"] == "ours" for r in rows) - 1 for s in {r["seed"] for r in rows}),
        "seeds": len(ratios),
        "must": case.must,
        "reached": min(ratios) >= case.must[0]
        and max(memory) <= case.must[1]
        and (case.dtype != "float32" or max(loss + norm) <= SAME),
    }


def table(lines: list[dict[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of the report."""
    columns = (
        "case",
        "TRL",
        "steps x seeds",
        "speed-up (range over seeds)",
        "memory",
        "loss diff.",
        "grad diff.",
        "of peak",
        "must",
        "",
    )
    return columns, [
        (
            line["case"],
            line["against"],
            f"{line['batches']} x {line['seeds']}",
            f"{line['speed_up']:.2f} ({line['speed_up_range'][0]:.2f} to {line['speed_up_range'][1]:.2f})",
            f"{line['memory']:.2f}",
            f"{line['loss_difference']:.1e}",
            f"{line['grad_norm_difference']:.1e}",
            f"{line['share_of_peak']:.0%} of {line['peak_gflops']:.0f} GFLOP/s",
            f"{line['must'][0]:g}x at {line['must'][1]:g}",
            "reached" if line["reached"] else "missed",
        )
        for line in lines
    ]


def markdown(lines: list[dict[str, Any]], settings: Settings) -> str:
    columns, rows = table(lines)
    what = "SmolLM2-135M-Instruct" if settings.model == "bundled" else settings.model
    used = {(case.objective, case.trl) for case in settings.chosen()}
    best = [
        f"TRL at its best here, {objective}: {', '.join(trl_at_its_best(objective)[2])}."
        for objective in ("simpo", "dpo")
        if (objective, "best") in used
    ]
    source = f"the file {settings.file.name}" if settings.file else "lengths drawn like those of hh-rlhf"
    return "\n".join(
        [
            "# Offline training against TRL",
            "",
            f"{what} on {device_name(settings.device)}, {settings.threads} thread(s), {settings.pairs} pairs a step, "
            f"at most {settings.max_length} tokens, {source}; the largest batch of each data seed before the clock "
            "runs, arms taking turns step by step. Both sides use AdamW, clipping at 1 and the same token ids. "
            "Differences are relative, at the first step, from the same weights. Of peak: of the fastest matrix "
            "product the machine of the row was seen to do in its precision.",
            "",
            *tables.markdown(columns, rows),
            "",
            *(line for text in best for line in (text, "")),
        ]
    )


def machine_peak(settings: Settings) -> dict[str, float]:
    """GFLOP/s of the largest of a few matrix products the size of a layer's, by precision."""
    options = json.dumps({"threads": settings.threads, "device": settings.device})
    command = [sys.executable, "-m", "benchmarks.llm_offline_worker", "peak", options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    settings = tyro.cli(Settings, prog="python -m benchmarks.llm_offline")
    take_device(settings.device)
    peaks = machine_peak(settings)
    kept, how = Kept.read(settings.out.with_suffix(".json")), conditions(settings)
    for case in settings.chosen():
        kept.begin(case.name, how)
        for seed in range(settings.seeds):
            if seed not in kept.seeds(case.name):
                kept.steps += measure(case, settings, seed)
            line = compare(case, kept.of(case.name), peaks[case.dtype]) | {"conditions": how}
            lines = kept.put(line, list(EVERY_CASE))
            write_text(settings.out.with_suffix(".md"), markdown(lines, settings))
    lines = [kept.lines[case.name] for case in settings.chosen()]
    columns, cells = table(lines)
    print_table(f"against TRL, {settings.data}", columns, cells, quiet=False)
    return 0 if all(line["reached"] for line in lines) else 1


if __name__ == "__main__":
    run_command(main)
