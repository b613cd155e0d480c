"""The commands that are killed and repeated: small enough for seconds, long enough to be hit anywhere."""

import json
import random
from pathlib import Path

from tests.stress.kill import Job
from tests.stress.tiny import save_tiny

LETTERS = "abcdefghij "
TWO = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0")


def write_pairs(path: Path, n: int, *, seed: int) -> Path:
    """n pairs of random text of mixed lengths; only the first letter tells chosen from rejected."""
    rng = random.Random(seed)  # noqa: S311

    def text(low: int, high: int) -> str:
        return "".join(rng.choices(LETTERS, k=rng.randrange(low, high)))

    rows = [{"prompt": text(3, 9), "chosen": "x" + text(1, 16), "rejected": "y" + text(1, 16)} for _ in range(n)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def train_arguments(folder: Path, **options: object) -> tuple[str, ...]:
    """`llm train` of the tiny model on data that is written into `folder`, without its run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "tiny"
    if not model.exists():
        save_tiny(model)
    data, held = write_pairs(folder / "train.jsonl", 24, seed=0), write_pairs(folder / "eval.jsonl", 6, seed=1)
    given = {"objective": "dpo", "model": model, "data": data, "eval-data": held, "lr": 1e-2} | options
    return (
        "-m",
        "llm",
        "train",
        *(word for name, value in given.items() for word in (f"--{name}", str(value))),
        "--quiet",
    )


def train_job(folder: Path, *, steps: int = 60) -> Job:
    options = {"max-steps": steps, "checkpoint-every": 3, "eval-every": 5, "batch-size": 4}
    command = (*train_arguments(folder, **options), "--out", "{out}")
    files = ("metrics.jsonl", "examples.jsonl", "samples.jsonl", "summary.json", "checkpoints/last/model.safetensors")
    return Job("llm train", command, (*command, "--resume"), files, aim="checkpoints/.resume.new")


def shard_job(folder: Path, *, steps: int = 40) -> Job:
    """Two processes that hold half of the model each. The third of five comparisons leaves one process a pass short."""
    options = {"max-steps": steps, "checkpoint-every": 2, "eval-every": 5, "batch-size": 5, "micro-batch-size": 1}
    command = (*TWO, *train_arguments(folder, **options), "--shard", "--out", "{out}")
    files = ("metrics.jsonl", "examples.jsonl", "samples.jsonl", "summary.json", "checkpoints/last/model.safetensors")
    return Job("llm train --shard, 2 processes", command, (*command, "--resume"), files, aim="checkpoints/.resume.new")


def online_job(folder: Path, *, steps: int = 12) -> Job:
    model = folder / "tiny"
    if not model.exists():
        save_tiny(model)
    command = ("-m", "llm", "online", "--regularizer", "kl", "--coefficient", "0.05", "--model", str(model), "--quiet")
    command += ("--max-steps", str(steps), "--prompts-per-step", "2", "--samples", "4", "--max-new-tokens", "6")
    command += ("--gold", "length", "--proxy-pairs", "200")
    command += ("--checkpoint-every", "2", "--eval-every", "4", "--eval-samples", "2", "--lr", "1e-2", "--out", "{out}")
    files = ("metrics.jsonl", "samples.jsonl", "summary.json", "checkpoints/last/model.safetensors")
    return Job("llm online", command, (*command, "--resume"), files, aim="checkpoints/.resume.new")


def sweep_job(*, steps: int = 4000) -> Job:
    command = ("-m", "toybandit", "sweep", "--grid", "coefficient=0.1,0.5", "prior-scale=0,0.2,0.4,0.6,0.8,1")
    command += ("--seeds", "3", "--steps", str(steps), "--out", "{out}", "--quiet")
    return Job("toybandit sweep", command, command, ("config.json", "results.csv", "summary.json"), aim="blocks/.*.tmp")


def all_jobs(folder: Path) -> list[Job]:
    """Every command that goes on after a kill."""
    folder.mkdir(parents=True, exist_ok=True)
    return [train_job(folder), shard_job(folder), sweep_job(), report_job(folder), online_job(folder)]


def small_jobs(folder: Path) -> list[Job]:
    """Those that keep something to go on with, in fewer steps: what they write is what matters."""
    folder.mkdir(parents=True, exist_ok=True)
    return [train_job(folder, steps=12), online_job(folder, steps=6), sweep_job(steps=400)]


def report_job(folder: Path) -> Job:
    """The stages of `make report`, each made small; the driver is the report's own."""
    command = ("-m", "tests.stress.small_report", "{out}", str(folder))
    files = ("claims.json.verdicts.json", "runs/toy-kl/metrics.jsonl", "runs/toy-kl/summary.json")
    files += ("runs/offline-dpo/metrics.jsonl", "runs/offline-dpo/summary.json")
    return Job("make report, its stages small", command, command, files, first="stages", aim="stages/.*.tmp", often=1)
