"""Offline preference optimization: one loop, the objective is an argument.

Each step averages the objective's loss over `batch_size` pairs. Micro-batches divide by the number of
pairs of the whole step, so any split gives the same gradient. Reference log-probs, if the objective
needs them, come from the untrained model and are computed once.
"""

import random
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from derivations.commands import InputError, start_run, write_json
from derivations.objectives import Objective, preference_metrics
from llm.config import TrainConfig
from llm.data import EncodedPair, encode_pairs, read_pairs, split_pairs
from llm.engine import Engine, Records, print_table, progress
from llm.logprobs import lengths, sequence_logps
from llm.models import load_model, save_model
from llm.sampling import HELD_OUT_TOPICS, TOPICS, ranked_pairs, reference_pool, sample, texts

LISTED = 5  # skipped rows shown on the terminal; the file has all


def train(config: TrainConfig) -> dict[str, Any]:
    """Train on preference pairs; returns the summary (also in `summary.json`). Raises InputError on bad input."""
    began = time.monotonic()
    objective = config.make_objective()
    files = {path: read_pairs(path) for path in (config.data, config.eval_data) if path is not None}
    model, tokenizer = load_model(config.model)
    engine = Engine(
        model,
        lr=config.lr,
        dtype=config.dtype,
        max_grad_norm=config.max_grad_norm,
        seed=config.seed,
        schedule=config.schedule,
        steps=config.max_steps,
    )
    model = engine.unwrapped
    data = _load_data(config, files, engine, tokenizer)
    train_pairs, eval_pairs = data.train, data.evaluation
    out = start_run(config.out, {**vars(config), "objective_resolved": objective, "data_note": data.note})
    Records(out / "skipped.jsonl").add(*({"where": where, "reason": reason} for where, reason in data.skipped))
    _announce(config, objective, data)
    metrics, samples = Records(out / "metrics.jsonl"), Records(out / "samples.jsonl")

    schedule = _schedule(len(train_pairs), config)
    references: dict[int, Tensor] = {}
    eval_reference = None
    if objective.regularizer.needs_reference:
        used = sorted({i for step in schedule for i in step})
        table = _logps_no_grad(engine, [train_pairs[i] for i in used])
        references = dict(zip(used, table, strict=True))
        eval_reference = _logps_no_grad(engine, eval_pairs)

    before = _evaluate(engine, objective, eval_pairs, eval_reference)
    metrics.add({"step": 0} | _prefixed(before))
    samples.add(*_continuations(engine, tokenizer, eval_pairs, step=0, seed=config.seed))

    for step, indices in enumerate(progress(schedule, objective.name, quiet=config.quiet), start=1):
        rows: list[dict[str, Tensor]] = []
        for start in range(0, len(indices), config.micro_batch_size):
            part = indices[start : start + config.micro_batch_size]
            pairs = [train_pairs[i] for i in part]
            with engine.autocast():
                logp = _logps(engine, pairs)  # [pairs, 2]
            reference = torch.stack([references[i] for i in part]) if references else None
            rewards = objective.rewards(logp, length=_lengths(pairs).to(logp.device), ref_logp=reference)
            loss = objective.loss(rewards)
            engine.backward(loss.sum() / len(indices))
            rows.append(_per_pair(rewards.detach(), logp.detach(), loss.detach()))
        row = {name: torch.cat([r[name] for r in rows]).mean().item() for name in rows[0]}
        metrics.add({"step": step, "lr": engine.lr, "grad_norm": engine.step(), **row})

    after = _evaluate(engine, objective, eval_pairs, eval_reference)
    metrics.add({"step": config.max_steps} | _prefixed(after))
    samples.add(*_continuations(engine, tokenizer, eval_pairs, step=config.max_steps, seed=config.seed))
    if config.save:
        save_model(model, tokenizer, out / "checkpoints" / "last")
    summary = {
        "objective": objective.name,
        "before": {name: interval(values) for name, values in before.items()},
        "after": {name: interval(values) for name, values in after.items()},
        "change": {name: interval(after[name] - before[name]) for name in before},
        "train_pairs": len(train_pairs),
        "eval_pairs": len(eval_pairs),
        "seconds": time.monotonic() - began,
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    write_json(out / "summary.json", summary)
    _print_summary(summary, config)
    return summary


@dataclass(frozen=True)
class Data:
    """Pairs to train on and to evaluate, where they come from in one line, and (place, reason) of skipped rows."""

    train: list[EncodedPair]
    evaluation: list[EncodedPair]
    note: str
    skipped: list[tuple[str, str]]


def _load_data(config: TrainConfig, files: dict[Path, Any], engine: Engine, tokenizer: Any) -> Data:
    """Data as the config asks for: from files, or sampled from the model itself with held-out topics to evaluate."""
    skipped: list[tuple[str, str]] = []
    if config.data is None:
        train_pairs = _own_pairs(config, engine, tokenizer, TOPICS)
        note = "sampled from the model, ranked by the gold reward"
    else:
        train_pairs, note, skipped = _encode_file(config, files[config.data], tokenizer)
    if config.eval_data is not None:
        held_out, eval_note, eval_skipped = _encode_file(config, files[config.eval_data], tokenizer)
        return Data(train_pairs, held_out, f"{note}; evaluation: {eval_note}", skipped + eval_skipped)
    if config.data is None:
        held_out = _own_pairs(config, engine, tokenizer, HELD_OUT_TOPICS)[: config.eval_size]
        return Data(train_pairs, held_out, f"{note}; evaluation on held-out topics", skipped)
    return Data(*split_pairs(train_pairs, eval_size=config.eval_size, seed=config.seed), note, skipped)


def _own_pairs(config: TrainConfig, engine: Engine, tokenizer: Any, topics: Sequence[str]) -> list[EncodedPair]:
    """Pairs the untrained model writes on the topics, ranked by the gold reward (cached)."""
    with engine.autocast():
        pool = reference_pool(engine.unwrapped, tokenizer, topics, k=8, max_new_tokens=20, seed=0, quiet=config.quiet)
    pairs = ranked_pairs(pool, topics, tokenizer)
    if not pairs:
        raise InputError(f"model {config.model!r} wrote no two responses that the gold reward tells apart; pass --data")
    return pairs


def _encode_file(config: TrainConfig, read: Any, tokenizer: Any) -> tuple[list[EncodedPair], str, Any]:
    raw, shape = read
    kept, skipped = encode_pairs(raw, tokenizer, max_length=config.max_length)
    cut = sum(not example.complete for pair in kept for example in (pair.chosen, pair.rejected))
    return kept, f"{shape}, {len(kept)} pairs used, {len(skipped)} skipped, {cut} responses truncated", skipped


def _announce(config: TrainConfig, objective: Objective, data: Data) -> None:
    """What will be trained on what, before the long work starts."""
    if config.quiet:
        return
    for where, reason in data.skipped[:LISTED]:
        print(f"skipped {where}: {reason}")
    if len(data.skipped) > LISTED:
        print(f"skipped {len(data.skipped) - LISTED} more; {config.out / 'skipped.jsonl'} lists all of them")
    print(f"{objective}\ndata: {data.note}\n{len(data.train)} pairs to train on, {len(data.evaluation)} to evaluate")


def _schedule(n: int, config: TrainConfig) -> list[list[int]]:
    """Pair indices of every step: shuffled passes over the data, one after another."""
    rng = random.Random(config.seed)  # noqa: S311
    order: list[int] = []
    while len(order) < config.max_steps * config.batch_size:
        order += rng.sample(range(n), n)
    return [order[s * config.batch_size : (s + 1) * config.batch_size] for s in range(config.max_steps)]


def _lengths(pairs: Sequence[EncodedPair]) -> Tensor:
    return torch.stack([lengths([p.chosen for p in pairs]), lengths([p.rejected for p in pairs])], -1)


def _logps(engine: Engine, pairs: Sequence[EncodedPair]) -> Tensor:
    """Summed log-probs [pairs, 2]: chosen, rejected."""
    examples = [e for p in pairs for e in (p.chosen, p.rejected)]
    return sequence_logps(engine.unwrapped, examples, batch_tokens=2048).reshape(-1, 2)


def _logps_no_grad(engine: Engine, pairs: Sequence[EncodedPair]) -> Tensor:
    with torch.no_grad(), engine.autocast():
        return _logps(engine, pairs)


def _per_pair(rewards: Tensor, logp: Tensor, loss: Tensor) -> dict[str, Tensor]:
    return {"loss": loss} | preference_metrics(rewards[:, 0], rewards[:, 1], logp[:, 0], logp[:, 1])


def _evaluate(
    engine: Engine, objective: Objective, pairs: Sequence[EncodedPair], reference: Tensor | None
) -> dict[str, Tensor]:
    """Per-pair loss and preference metrics of the evaluation pairs."""
    logp = _logps_no_grad(engine, pairs)
    rewards = objective.rewards(logp, length=_lengths(pairs).to(logp.device), ref_logp=reference)
    return _per_pair(rewards, logp, objective.loss(rewards))


def _prefixed(values: dict[str, Tensor]) -> dict[str, float]:
    return {f"eval/{name}": value.mean().item() for name, value in values.items()}


def interval(values: Tensor) -> dict[str, float]:
    """Mean and 95 % interval (Student) over evaluation pairs."""
    x = values.double().cpu().numpy()
    half = stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5 if len(x) > 1 else float("inf")
    return {"mean": float(x.mean()), "low": float(x.mean() - half), "high": float(x.mean() + half)}


def _continuations(
    engine: Engine, tokenizer: Any, pairs: Sequence[EncodedPair], *, step: int, seed: int
) -> list[dict[str, Any]]:
    """One sampled continuation (at most 32 tokens) of the first three evaluation prompts."""
    prompts = [p.chosen.prompt for p in pairs[:3]]
    with engine.autocast():
        drawn = sample(engine.unwrapped, tokenizer, prompts, k=1, max_new_tokens=32, seed=seed)
    prompt_texts = tokenizer.batch_decode([list(p) for p in prompts])
    return [
        {"step": step, "prompt": prompt, "response": text, "complete": example.complete}
        for prompt, text, example in zip(prompt_texts, texts(drawn, tokenizer), drawn, strict=True)
    ]


def _print_summary(summary: dict[str, Any], config: TrainConfig) -> None:
    rows = []
    for name, change in summary["change"].items():
        before, after = summary["before"][name]["mean"], summary["after"][name]["mean"]
        spread = f"[{change['low']:+.4f}, {change['high']:+.4f}]"
        rows.append((f"eval/{name}", f"{before:.4f}", f"{after:.4f}", f"{change['mean']:+.4f}", spread))
    title = (
        f"{config.max_steps} steps in {summary['seconds']:.0f} s, {summary['peak_memory_gib']:.1f} GiB: {config.out}"
    )
    print_table(title, ("metric", "before", "after", "change", "95 % over pairs"), rows, quiet=config.quiet)
