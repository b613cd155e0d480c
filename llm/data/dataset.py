"""The comparisons of a run: from files or hub data sets, or written by the model itself and ranked by gold."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from derivations.cli.command_line import command_line
from derivations.cli.errors import InputError
from derivations.objectives import Objective
from llm.data.chat import control_text_warning
from llm.data.files import Skipped, Source, read_source, require_usable, split_off
from llm.data.tokens import Group, encode
from llm.engine.engine import Engine
from llm.sampling.reference_pool import ranked_responses, reference_pool, require_room_to_sample
from llm.sampling.topics import HELD_OUT_TOPICS, TOPICS
from llm.scoring.adapters import note
from llm.settings.train import TrainConfig

POOL_SAMPLES = 8  # responses of the model itself to each topic
POOL_TOKENS = 20  # their longest
LISTED = 5  # skipped rows shown on the terminal; the file has all


@dataclass(frozen=True)
class Data:
    """Comparisons to train on and to evaluate, where they come from in one line, what was skipped, and warnings."""

    train: list[Group]
    evaluation: list[Group]
    note: str
    skipped: Skipped
    warnings: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """Hash of every token, so that a resumed run is known to see the same data."""
        digest = hashlib.sha256()
        for part in (self.train, self.evaluation):
            digest.update(repr([[(e.prompt, e.response) for e in g.examples] for g in part]).encode())
        return digest.hexdigest()[:16]


def read_sources(config: TrainConfig) -> dict[str, Source]:
    """The files of the config, read before the model is loaded. Raises InputError for a broken one."""
    names = dict.fromkeys(name for name in (config.data, config.eval_data) if name is not None)
    return {name: read_source(name, shape=config.shape) for name in names}


def load_data(
    config: TrainConfig, objective: Objective, sources: dict[str, Source], engine: Engine, tokenizer: Any
) -> Data:
    """Data as the config asks for. Raises InputError if nothing usable remains."""
    skipped: Skipped = []
    found = (control_text_warning(source.name, source.comparisons, tokenizer) for source in sources.values())
    warnings = tuple(filter(None, found))
    if config.data is None:
        train = _own(config, objective, engine, tokenizer, TOPICS)
        note = "written by the model, ranked by the gold reward"
    else:
        train, note, skipped = _encode_source(config, objective, sources[config.data], tokenizer)
    if config.eval_data is not None:
        held_out, eval_note, also = _encode_source(config, objective, sources[config.eval_data], tokenizer)
        return Data(train, held_out, f"{note}; evaluation: {eval_note}", skipped + also, warnings)
    if config.data is None:
        held_out = _own(config, objective, engine, tokenizer, HELD_OUT_TOPICS)[: config.eval_size]
        return Data(train, held_out, f"{note}; evaluation on held-out topics", skipped)
    return Data(*split_off(train, eval_size=config.eval_size, seed=config.seed), note, skipped, warnings)


def _own(
    config: TrainConfig, objective: Objective, engine: Engine, tokenizer: Any, topics: Sequence[str]
) -> list[Group]:
    """Comparisons the untrained model writes on the topics (cached): pairs, or rankings for a listwise objective."""
    mend = "pass --data or another --model"
    require_room_to_sample(engine.transformer, tokenizer, topics, max_new_tokens=POOL_TOKENS, mend=mend)
    with engine.accelerator.main_process_first(), engine.autocast():
        pool = reference_pool(
            engine.transformer,
            tokenizer,
            topics,
            k=POOL_SAMPLES,
            max_new_tokens=POOL_TOKENS,
            seed=0,
            quiet=config.quiet or not engine.is_main,
        )
    groups = ranked_responses(pool, topics, tokenizer, listwise=objective.listwise)
    groups = [g for g in groups if objective.top is None or objective.top < len(g.examples)]
    if not groups:
        raise InputError(f"model {config.model!r} wrote no two responses that the gold reward tells apart; pass --data")
    longest = max(len(e) for g in groups for e in g.examples)
    if longest > config.max_length:
        raise InputError(f"--max-length is {config.max_length}, but the model's own comparisons take up to {longest}")
    return groups


def _encode_source(
    config: TrainConfig, objective: Objective, source: Source, tokenizer: Any
) -> tuple[list[Group], str, Skipped]:
    require_usable(source)
    groups, unusable = encode(
        source.comparisons,
        tokenizer,
        max_length=config.max_length,
        pairs_only=not objective.listwise,
        top=objective.top,
    )
    skipped = source.skipped + unusable
    cut = sum(not e.complete for g in groups for e in g.examples)
    note = f"{source.shape}, {len(groups)} comparisons used, {len(skipped)} skipped, {cut} responses truncated"
    return groups, note, skipped


def announce(config: TrainConfig, objective: Objective, data: Data, runs_on: str) -> None:
    """What will be trained on what, before the long work starts."""
    print(f"settings: {command_line(config)}")
    if said := note(config.model):
        print(said)
    for where, reason in data.skipped[:LISTED]:
        print(f"skipped {where}: {reason}")
    if len(data.skipped) > LISTED:
        print(f"skipped {len(data.skipped) - LISTED} more; {config.out / 'skipped.jsonl'} lists all of them")
    for warning in data.warnings:
        print(warning)
    print(f"{objective}\ndata: {data.note}\n{len(data.train)} to train on, {len(data.evaluation)} to evaluate")
    print(f"runs on: {runs_on}")
