"""The comparisons of a run: from files or hub data sets, or written by the model itself and ranked by gold."""

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from derivations.cli.command_line import command_line
from derivations.cli.errors import InputError
from derivations.published import UNPAIRED, Trained, Unpaired
from llm.data.chat import control_text_warning
from llm.data.files import Skipped, Source, by_reason, read_source, require_usable
from llm.data.lengths import choose_length, said_length
from llm.data.split import held_out, split_off
from llm.data.spool import Spool
from llm.data.tokens import Group, Whole, fit, require_any, tokenize
from llm.data.unpair import unpaired
from llm.engine.engine import Engine
from llm.sampling.reference_pool import ranked_responses, reference_pool, require_room_to_sample
from llm.sampling.topics import HELD_OUT_TOPICS, TOPICS
from llm.scoring.adapters import note
from llm.settings.train import TrainConfig
from llm.settings.words import objective_words

POOL_SAMPLES = 8  # responses of the model itself to each topic
POOL_TOKENS = 20  # their longest
OWN = "written by the model, ranked by the gold reward"
POOL_LENGTH = 256  # room for a topic and what the model writes on it
LISTED = 5  # reasons shown on the terminal; the file has every row


@dataclass(frozen=True)
class Data:
    """Comparisons to train on and to evaluate, where they come from in one line, what was skipped, and what else the
    user is told (choices made from the data, warnings).

    max_length: most tokens of a sequence, as given or chosen.
    """

    train: Sequence[Group]
    evaluation: Sequence[Group]
    note: str
    skipped: Skipped
    max_length: int
    told: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """Hash of every token, so that a resumed run is known to see the same data."""
        digest = hashlib.sha256()
        for part in (self.train, self.evaluation):
            for n, group in enumerate(part):
                digest.update(f"{', ' if n else '['}{[(e.prompt, e.response) for e in group.examples]}".encode())
            digest.update(b"]")
        return digest.hexdigest()[:16]


def read_sources(config: TrainConfig) -> dict[str, Source]:
    """The files of the config, read before the model is loaded. Raises InputError for a broken one."""
    names = dict.fromkeys(name for name in (config.data, config.eval_data) if name is not None)
    sources = {name: read_source(name, shape=config.shape, mapping=config.map, keep=Spool) for name in names}
    if config.objective in UNPAIRED:
        sources = {name: unpaired(source) for name, source in sources.items()}
    for source in sources.values():
        require_usable(source)
    return sources


def load_data(
    config: TrainConfig,
    objective: Trained,
    sources: dict[str, Source],
    engine: Engine,
    tokenizer: Any,
    *,
    limit: int | None,
) -> Data:
    """Data as the config asks for, on disk where they are large.

    Args:
        config, objective, engine, tokenizer: of the run.
        sources: what `read_sources` gave; emptied, so that the texts go once they are tokens.
        limit: the longest sequence of the model.

    Raises:
        InputError: nothing usable remains.
    """
    if config.data is None and config.eval_data is None:
        length = config.max_length or min(POOL_LENGTH, limit or POOL_LENGTH)
        own, test = (_own(config, objective, engine, tokenizer, t, length) for t in (TOPICS, HELD_OUT_TOPICS))
        return Data(own, test[: config.eval_size], f"{OWN}; evaluation on held-out topics", [], length)
    told = [*filter(None, (control_text_warning(s.name, s.comparisons, tokenizer) for s in sources.values()))]
    told += [_tools(source) for source in sources.values() if source.tools]
    encoded = {name: _Encoded.of(sources.pop(name), tokenizer, limit) for name in list(sources)}
    first = encoded[config.data or str(config.eval_data)]
    needs = array("Q", (whole.need for whole in first.wholes)) or array("Q", [2])
    length = config.max_length or choose_length(needs, limit=limit)
    if config.data is None and config.max_length is None:
        length = max(length, min(POOL_LENGTH, limit or POOL_LENGTH))
    told += [] if config.max_length else [said_length(length, needs, limit=limit)]
    parts = {name: encoded.pop(name).cut(objective, length) for name in list(encoded)}
    skipped = Spool(row for _, _, rows in parts.values() for row in rows)
    train: Sequence[Group]
    held: Sequence[Group]
    if config.data is None:
        train = _own(config, objective, engine, tokenizer, TOPICS, length)
        note = OWN
    else:
        train, note, _ = parts[config.data]
    if config.eval_data is not None:
        held, eval_note, _ = parts[config.eval_data]
        return Data(train, held, f"{note}; evaluation: {eval_note}", skipped, length, tuple(told))
    if held_out(config.eval_size, len(train)) < config.eval_size:
        told.append(f"--eval-size {config.eval_size} is lowered to a fifth of the data")
    train, held = split_off(train, eval_size=config.eval_size, seed=config.seed, prompt=lambda g: g.examples[0].prompt)
    if train[0].examples[0].prompt == held[0].examples[0].prompt:  # then all are, for no prompt is on both sides
        told.append("warning: all comparisons have one prompt, so evaluation is on what is trained on")
    return Data(train, held, note, skipped, length, tuple(told))


def _tools(source: Source) -> str:
    return f"note: {source.name}: the tools of {source.tools} rows are left out; the model is not told of them"


def _own(
    config: TrainConfig, objective: Trained, engine: Engine, tokenizer: Any, topics: Sequence[str], length: int
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
    if longest > length:
        raise InputError(f"--max-length is {length}, but the model's own comparisons take up to {longest}")
    return groups


@dataclass(frozen=True)
class _Encoded:
    """A source as tokens, before they are cut to a length. given: rows of the source, usable or not."""

    shape: str
    given: int
    wholes: Sequence[Whole]
    skipped: Skipped

    @classmethod
    def of(cls, source: Source, tokenizer: Any, limit: int | None) -> "_Encoded":
        wholes, unusable = tokenize(source.comparisons, tokenizer, most=limit, keep=Spool)
        given = len(source.comparisons) + len(source.skipped)
        return cls(source.shape, given, wholes, Spool(chain(source.skipped, unusable)))

    def cut(self, objective: Trained, length: int) -> tuple[Sequence[Group], str, Skipped]:
        """Comparisons, how they came about, and every row that was skipped. Raises InputError if none remains."""
        groups, unusable = fit(
            self.wholes, max_length=length, pairs_only=not objective.listwise, top=objective.top, keep=Spool
        )
        skipped = Spool(chain(self.skipped, unusable))
        require_any(groups, skipped, self.given)
        cut = sum(not e.complete for g in groups for e in g.examples)
        what = "single responses" if isinstance(objective, Unpaired) else "comparisons"
        said = f"{self.shape}, {len(groups)} {what} used, {len(skipped)} skipped, {cut} responses truncated"
        return groups, said, skipped


def announce(config: TrainConfig, objective: Trained, data: Data, runs_on: str) -> None:
    """What will be trained on what, before the long work starts."""
    print(f"settings: {command_line(config)}", flush=True)
    if said := note(config.model):
        print(said)
    reasons = by_reason(data.skipped)
    for reason, count, first in reasons[:LISTED]:
        print(f"skipped {count}: {reason} (first: {first})")
    if reasons:
        more = f"{len(reasons) - LISTED} more reasons; " if len(reasons) > LISTED else ""
        print(f"{more}{config.out / 'skipped.jsonl'} lists every skipped row")
    for line in data.told:
        print(line)
    print(f"objective: {objective_words(objective)}\ndata: {data.note}")
    print(f"{len(data.train)} to train on, {len(data.evaluation)} to evaluate")
    print(f"runs on: {runs_on}")
