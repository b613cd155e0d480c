"""The language model of `make report`: effects that a minute shows, by the very functions of `train` and `online`.

    python -m llm.experiments.live offline    SimPO on a planted preference, and on the same with shuffled labels
    python -m llm.experiments.live online     no regularizer, entropy and KL against a fitted proxy

Each part is one process that loads the model once and leaves ordinary run folders. What holds over seeds is measured
by `llm.experiments.offline` and `llm.experiments.online`.
"""

import copy
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from derivations.cli.command_line import run_command
from derivations.cli.files import write_text
from llm.experiments.offline import planted_rows
from llm.sampling.topics import HELD_OUT_TOPICS, TOPICS
from llm.settings.online import OnlineConfig
from llm.settings.threads import sleep_while_waiting
from llm.settings.train import Count, TrainConfig

WRITTEN = 12  # tokens of a sentence, at most: enough for a first word and for what the regularizers do to a text
COEFFICIENT = 0.05  # of entropy and of KL, as in the experiment over seeds


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The two parts of the report on the language model.

    Example: python -m llm.experiments.live online --out out/runs
    """

    part: Annotated[Literal["offline", "online"], tyro.conf.Positional]
    """Which part."""
    out: Path = Path("out/runs")
    """Where the run folders are made."""
    model: str = "bundled"
    """`bundled`, a local folder, or a hub id."""
    steps: Count | None = None
    """Optimizer steps of a run; None: 6 offline, 4 online."""
    gold: str = "on-topic-sentiment"
    """The true reward, online."""


def offline(settings: Settings) -> None:
    """Planted and shuffled labels, evaluated on the same planted pairs of topics that were not trained on."""
    from llm.engine.memory import keep_memory
    from llm.offline.train import train

    keep_memory()
    model, tokenizer = _load(settings.model)
    sentences = _sentences(model, tokenizer)
    own, held = ({t: sentences[t] for t in topics} for topics in (TOPICS, HELD_OUT_TOPICS))
    folder = settings.out / "pairs"  # without the usual message of the system, which is most of a prompt
    write_text(folder / "planted.jsonl", planted_rows(own, None, system=""))
    write_text(folder / "shuffled.jsonl", planted_rows(own, random.Random(0), system=""))  # noqa: S311
    write_text(folder / "held-out.jsonl", planted_rows(held, None, system=""))
    for labels in ("planted", "shuffled"):
        config = TrainConfig(
            objective="simpo",
            data=str(folder / f"{labels}.jsonl"),
            eval_data=str(folder / "held-out.jsonl"),
            model=settings.model,
            max_steps=settings.steps or 6,
            batch_size=8,
            lr=3e-5,
            samples=0,
            save=False,
            checkpoint_every=0,
            quiet=True,
            out=settings.out / f"offline-{labels}",
        )
        summary = train(config, loaded=(copy.deepcopy(model), tokenizer))
        before, after = (summary[when]["rewards/accuracies"] for when in ("before", "after"))
        said = f"{before['mean']:.2f} to {after['mean']:.2f} [{after['low']:.2f}, {after['high']:.2f}]"
        print(f"    {labels} labels: held-out accuracy from {said}", flush=True)


def online(settings: Settings) -> None:
    """One run a regularizer, from the same weights, with the same proxy and the same random numbers."""
    from llm.online.train import online as train

    model, tokenizer = _load(settings.model)
    start: Any = None
    for regularizer in ("none", "entropy", "kl"):
        config = OnlineConfig(
            regularizer=regularizer,
            coefficient=None if regularizer == "none" else COEFFICIENT,
            gold=settings.gold,
            model=settings.model,
            max_steps=settings.steps or 4,
            prompts_per_step=4,
            samples=4,
            max_new_tokens=WRITTEN,
            lr=1e-4,
            eval_on="held-out",
            save=False,
            quiet=True,
            out=settings.out / f"online-{regularizer}",
        )
        summary = train(config, loaded=(copy.deepcopy(model), tokenizer), start=start)
        start = start or (summary["before"], _first_samples(config.out))
        entropy = (summary[when]["eval"]["entropy"]["mean"] for when in ("before", "after"))
        moved = "{:.1f} to {:.1f} nats".format(*entropy)
        kappa = summary["after"]["retention"]["kappa"]["mean"]
        print(f"    {regularizer}: entropy of a text from {moved}, kappa {kappa:.2f}", flush=True)


def _load(name: str) -> tuple[Any, Any]:
    from llm.scoring.models import load_model

    print("    loading the model (the bundled one is converted once)", flush=True)
    return load_model(name)


def _sentences(model: Any, tokenizer: Any) -> dict[str, list[str]]:
    """What the untrained model writes on each topic, from the pool that the online part uses, too."""
    from llm.online.setup import POOL_SAMPLES
    from llm.sampling.reference_pool import reference_pool, texts

    topics = (*TOPICS, *HELD_OUT_TOPICS)
    pool = reference_pool(model, tokenizer, topics, k=POOL_SAMPLES, max_new_tokens=WRITTEN, seed=0, quiet=True)
    return {topic: texts(own, tokenizer) for topic, own in zip(topics, pool, strict=True)}


def _first_samples(out: Path) -> list[dict[str, Any]]:
    """The rows of samples of the evaluation before training."""
    from llm.engine.jsonl import read_rows

    return [row for row in read_rows(out / "samples.jsonl") if row["step"] == 0]


def main() -> None:
    sleep_while_waiting()
    settings = tyro.cli(Settings, prog="python -m llm.experiments.live")
    {"offline": offline, "online": online}[settings.part](settings)


if __name__ == "__main__":
    run_command(main)
