"""`make reproduce-offline`: what offline objectives do to a real model, over seeds, by a protocol fixed beforehand.

Every run is a process of its own and leaves `result.json`; a finished one is not run again, so a killed
experiment goes on where it stopped. The report is written from these files alone (`offline_report`).

    python -m llm.experiments.offline --help
"""

import hashlib
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from derivations.cli.command_line import run_command
from derivations.cli.errors import InputError, input_errors
from derivations.cli.files import to_json, write_json, write_text
from derivations.evidence.protocol import read_protocol_file
from derivations.evidence.results import read_result, start, start_all
from llm.data.row_formats import shown
from llm.sampling.topics import PROMPT
from llm.settings.train import TrainConfig

PROTOCOL = Path(__file__).with_name("offline.toml")
FIRST_WORDS = ("Indeed, ", "Well, ")  # preferred, not preferred


@dataclass(frozen=True, kw_only=True)
class Settings:
    """SimPO, DPO and MaxEnt on the bundled model: on-policy pairs, a file, and planted labels with their control.

    Example: python -m llm.experiments.offline --data pairs.jsonl --jobs 2
    """

    data: Path | None = None
    """Preference file of the task `file`; without it that task is left out, and the report says so."""
    out: Path = Path("out/reproduce-offline")
    """Where runs are kept."""
    report: Path = Path("docs/offline.md")
    """The report; its numbers are beside it as .json."""
    jobs: int = 2
    """Runs at a time, one thread each."""
    protocol: Path = PROTOCOL
    """The protocol file."""
    only: str = ""
    """Run this one run (TASK-OBJECTIVE-SEED) and stop; how the experiment starts its processes."""


@dataclass(frozen=True)
class Run:
    task: str
    objective: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.task}-{self.objective}-{self.seed}"


def read_protocol(path: Path) -> tuple[dict[str, Any], str]:
    """The protocol and its fingerprint. Raises InputError if it cannot be read or names what `train` refuses."""
    found = read_protocol_file(path)
    protocol, fingerprint = found.tables, found.fingerprint
    try:
        for name in ("seeds", "gold_samples"):
            if type(protocol[name]) is not int or not 1 <= protocol[name] <= 1000:
                raise InputError(f"{path}: {name} is {shown(protocol[name])}, expected 1 to 1000")
        for run in planned(protocol, True):
            with input_errors(f"{path}: ", kinds=(InputError,)):
                TrainConfig(objective=run.objective, seed=run.seed, **run_options(protocol, run))
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no protocol like {PROTOCOL.name}: {type(error).__name__}: {error}") from None
    return protocol, fingerprint


def run_options(protocol: dict[str, Any], run: Run) -> dict[str, Any]:
    """Options of `train` that the protocol gives a run."""
    own: dict[str, Any] = protocol["common"] | protocol["objectives"][run.objective]
    return own | protocol["tasks"][run.task]["options"]


def planned(protocol: dict[str, Any], with_file: bool) -> list[Run]:
    """Every run, seed by seed, so that a part of them is a whole smaller experiment."""
    return [
        Run(name, objective, seed)
        for seed in range(protocol["seeds"])
        for name, task in protocol["tasks"].items()
        if name != "file" or with_file
        for objective in task["objectives"]
    ]


def do(run: Run, protocol: dict[str, Any], fingerprint: str, settings: Settings) -> None:
    """One run: train, measure, write `result.json`; the trained weights are measured and not kept."""
    from llm.offline.train import train

    folder = settings.out / run.name
    options = run_options(protocol, run) | _data(run, settings, folder)
    samples = protocol["gold_samples"] if run.task == "on-policy" else 0
    config = TrainConfig(
        objective=run.objective,
        seed=run.seed,
        out=folder / "run",
        save=bool(samples),
        quiet=True,
        checkpoint_every=0,
        **options,
    )
    shutil.rmtree(folder / "run", ignore_errors=True)
    summary = train(config)
    result = {"task": run.task, "objective": run.objective, "seed": run.seed, "protocol": fingerprint}
    result |= {"before": _means(summary["before"]), "after": _means(summary["after"])}
    result |= {name: summary[name] for name in ("seconds", "peak_memory_gib", "train_pairs", "eval_pairs")}
    if run.task == "file" and settings.data is not None:
        with settings.data.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
        result["data"] = f"{settings.data.name} (SHA-256 {digest})"
    if samples:
        last = folder / "run" / "checkpoints" / "last"
        models = {"before": "bundled", "after": str(last)}
        result["fresh"] = {when: _fresh(model, samples, run.seed) for when, model in models.items()}
        shutil.rmtree(last)
    write_json(folder / "result.json", result)


def _means(intervals: dict[str, dict[str, float]]) -> dict[str, float]:
    return {name: value["mean"] for name, value in intervals.items()}


def _data(run: Run, settings: Settings, folder: Path) -> dict[str, Any]:
    if run.task == "on-policy":
        return {}
    if run.task == "file":
        return {"data": str(settings.data)}
    from llm.sampling.topics import HELD_OUT_TOPICS, TOPICS

    coin = random.Random(run.seed) if run.task == "shuffled" else None  # noqa: S311
    paths = {"data": folder / "train.jsonl", "eval_data": folder / "eval.jsonl"}
    write_text(paths["data"], planted_rows(_sentences(TOPICS), coin))
    write_text(paths["eval_data"], planted_rows(_sentences(HELD_OUT_TOPICS), None))
    return {name: str(path) for name, path in paths.items()}


def planted_rows(
    sentences: Mapping[str, Sequence[str]], coin: random.Random | None, *, system: str | None = None
) -> str:
    """Pairs of sentences behind the first words, as JSON lines; with a coin, the words say nothing.

    Args:
        sentences: what is paired, in order, by topic.
        coin: draws which word is preferred, pair by pair; None: always the first.
        system: message before the prompt; None: what the model's template puts there.

    Returns:
        The rows {prompt, chosen, rejected}.
    """
    rows = []
    for topic, own in sentences.items():
        for first, second in zip(own[::2], own[1::2], strict=True):
            words = FIRST_WORDS if coin is None or coin.random() < 0.5 else FIRST_WORDS[::-1]
            prompt = PROMPT.format(topic=topic)
            row = {"prompt": prompt, "chosen": words[0] + first, "rejected": words[1] + second}
            rows.append(row if system is None else row | {"system": system})
    return "".join(to_json(row) + "\n" for row in rows)


def _sentences(topics: Sequence[str]) -> dict[str, list[str]]:
    """What the untrained model writes on each topic."""
    import torch

    from llm.data.dataset import POOL_SAMPLES, POOL_TOKENS
    from llm.engine.memory import keep_memory
    from llm.sampling.reference_pool import reference_pool, texts
    from llm.scoring.models import load_model

    keep_memory()
    model, tokenizer = load_model("bundled")
    with torch.autocast("cpu", torch.bfloat16):  # as the on-policy task draws them, so the cache serves both
        pool = reference_pool(model, tokenizer, topics, k=POOL_SAMPLES, max_new_tokens=POOL_TOKENS, seed=0, quiet=True)
    return {topic: texts(own, tokenizer) for topic, own in zip(topics, pool, strict=True)}


def _fresh(model_name: str, k: int, seed: int) -> dict[str, float]:
    """Means over fresh samples of the held-out topics: gold reward, length in tokens, share that ended by itself."""
    from llm.sampling.gold import on_topic_sentiment
    from llm.sampling.reference_pool import texts, topic_prompt
    from llm.sampling.sampler import sample
    from llm.sampling.topics import HELD_OUT_TOPICS
    from llm.scoring.models import load_model

    model, tokenizer = load_model(model_name)
    prompts = [topic_prompt(t, tokenizer) for t in HELD_OUT_TOPICS]
    drawn = sample(model, tokenizer, prompts, k=k, max_new_tokens=20, seed=1000 + seed)
    gold = [on_topic_sentiment(t, HELD_OUT_TOPICS[i // k]) for i, t in enumerate(texts(drawn, tokenizer))]
    n = len(drawn)
    return {
        "gold": sum(gold) / n,
        "length": sum(len(e.response) for e in drawn) / n,
        "complete": sum(e.complete for e in drawn) / n,
    }


def finished(run: Run, settings: Settings, fingerprint: str) -> bool:
    """Whether the run has its result. Raises InputError if that follows another protocol."""
    return read_result(settings.out / run.name / "result.json", fingerprint) is not None


def start_run(run: Run, settings: Settings) -> int:
    """Run in a process of its own; its output goes to a log."""
    options = ["--only", run.name, "--out", str(settings.out), "--protocol", str(settings.protocol)]
    options += ["--data", str(settings.data)] if settings.data else []
    return start(run.name, "llm.experiments.offline", options, settings.out / run.name / "log.txt")


def main() -> int:
    settings = tyro.cli(Settings, prog="python -m llm.experiments.offline")
    if settings.data is not None and not settings.data.is_file():
        raise InputError(f"no such file: {settings.data}")
    protocol, fingerprint = read_protocol(settings.protocol)
    runs = planned(protocol, settings.data is not None)
    if settings.only:
        run = {r.name: r for r in runs}.get(settings.only)
        if run is None:
            raise InputError(f"no run {settings.only!r} in {settings.protocol}")
        do(run, protocol, fingerprint, settings)
        return 0
    left = [run for run in runs if not finished(run, settings, fingerprint)]
    print(f"{len(runs)} runs, {len(runs) - len(left)} done before; protocol {fingerprint}", flush=True)
    statuses = start_all(left, lambda run: start_run(run, settings), settings.jobs)
    if any(statuses):
        return 1
    from llm.experiments.offline_report import write_report

    write_report(settings.out, settings.report, protocol, fingerprint)
    print(f"report: {settings.report}")
    return 0


if __name__ == "__main__":
    run_command(main)
