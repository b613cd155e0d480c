"""Evaluation of a policy during online training: fresh samples of held-out and of training topics, and the
fixed samples of the reference. Every metric is a mean with a 95 % interval over topics; retention has its own.
"""

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from derivations.evidence.intervals import interval
from derivations.objectives import kl_estimate, kl_k1
from derivations.retention import bootstrap_retention
from llm.online.proxy import agreements
from llm.online.setup import POOL_SAMPLES, SPLITS, Batch, World

Values = dict[str, dict[str, float | None]]


def evaluate(
    world: World, *, step: int, k: int, max_new_tokens: int, seed: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Measure the policy on held-out and on training topics.

    Args:
        world: the engine with its policy, topics, gold and proxy.
        step: how many steps were done; it also chooses the seed.
        k: fresh responses per topic.
        max_new_tokens: longest response, tokens.
        seed: of the run.

    Returns:
        {step, eval, eval-train: metrics, retention}, and the samples as rows. Metrics: gold, sentiment, on_topic, proxy
        (reward units); proxy_accuracy (share of the policy's own pairs of a topic that the proxy ranks as gold, gold's
        ties left out); kl (KL(pi || q)) and kl_k1 (the same by another estimator: at several nats k3 reads 1 nat low,
        as the rare samples with q above pi that make up for it are not drawn), kl_reverse (KL(q || pi), on reference
        samples, by k1, whose ratio pi / q no single sample can blow up), entropy: nats per response; fluency and
        logq_per_token: the same number under two names that stored results have, nats per token; length (tokens);
        complete (share that ended by itself); distinct_2.
    """
    found: dict[str, Any] = {"step": step}
    rows: list[dict[str, Any]] = []
    on_fixed = {split: world.engine.logps(batch.examples) for split, batch in world.fixed.items()}
    for number, (split, topics) in enumerate(SPLITS.items()):
        if split not in world.fixed:
            continue
        batch = world.draw(topics, k=k, max_new_tokens=max_new_tokens, seed=(seed, step, 1 + number))
        logp = world.engine.logps(batch.examples)
        reverse = _over_topics(kl_k1(world.fixed[split].logq, on_fixed[split]), POOL_SAMPLES)
        found[split] = policy_metrics(batch, logp, k=k) | {"kl_reverse": reverse}
        rows += sample_rows(batch, logp, {"step": step, "split": split})
    fixed = list(world.fixed.values())
    logp, logq, proxy = (
        torch.cat(list(parts)) for parts in (on_fixed.values(), [b.logq for b in fixed], [b.proxy for b in fixed])
    )
    columns = (x.double().cpu().numpy().reshape(-1, POOL_SAMPLES) for x in (logp, logq, proxy))
    found["retention"] = bootstrap_retention(*columns)
    return found, rows


def policy_metrics(batch: Batch, logp: Tensor, *, k: int) -> Values:
    """Metrics of the policy's own samples; see `evaluate`. logp: [responses] under the policy, nats."""
    length = batch.length()
    columns = {
        "gold": batch.gold,
        "sentiment": batch.sentiment,
        "on_topic": batch.on_topic.float(),
        "fluency": batch.logq / length,
        "logq_per_token": batch.logq / length,
        "length": length,
        "complete": torch.tensor([float(e.complete) for e in batch.examples]),
        "proxy": batch.proxy,
        "kl": kl_estimate(logp, batch.logq, role="metric"),
        "kl_k1": kl_k1(logp, batch.logq),
        "entropy": -logp,
    }
    values: Values = {name: _over_topics(column, k) for name, column in columns.items()}
    values["proxy_accuracy"] = _accuracy(batch, k)
    values["distinct_2"] = _distinct_2_interval([e.response for e in batch.examples], k)
    return values


def _over_topics(values: Tensor, k: int) -> dict[str, float | None]:
    return asdict(interval(values.reshape(-1, k).double().mean(1).tolist()))


def _accuracy(batch: Batch, k: int) -> dict[str, float | None]:
    """Over the topics on which gold tells any two samples apart; no number where there is none."""
    proxy, gold = (x.double().cpu().numpy().reshape(-1, k) for x in (batch.proxy, batch.gold))
    shares = [own.mean() for own in agreements(proxy, gold) if len(own)]
    return asdict(interval(shares)) if shares else {"mean": None, "low": None, "high": None}


def distinct_2(responses: Sequence[Sequence[int]]) -> float:
    """Distinct token bigrams as a share of all bigrams of all responses (arXiv:1510.03055); 0 without any."""
    bigrams = [pair for r in responses for pair in itertools.pairwise(r)]
    return len(set(bigrams)) / len(bigrams) if bigrams else 0.0


def _distinct_2_interval(responses: Sequence[Sequence[int]], k: int) -> dict[str, float | None]:
    """`distinct_2` over all topics together, so that one template for all of them shows; jackknife over topics."""
    p = len(responses) // k
    value = distinct_2(responses)
    if p < 2:
        return {"mean": value, "low": None, "high": None}
    without = np.array([distinct_2([*responses[: i * k], *responses[(i + 1) * k :]]) for i in range(p)])
    half = stats.t.ppf(0.975, p - 1) * ((p - 1) / p * ((without - without.mean()) ** 2).sum()) ** 0.5
    return {"mean": value, "low": float(value - half), "high": float(value + half)}


def sample_rows(batch: Batch, logp: Tensor, where: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per response: its text with all that is said of it."""
    names = ("gold", "sentiment", "on_topic", "proxy", "logq")
    columns = zip(*(getattr(batch, name).tolist() for name in names), logp.tolist(), strict=True)
    said = [dict(zip((*names, "logp"), row, strict=True)) for row in columns]
    return [
        {**where, "topic": topic, "response": text, "complete": e.complete, **own}
        for topic, text, e, own in zip(batch.topics, batch.texts, batch.examples, said, strict=True)
    ]


def flat(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The means of an evaluation as one row of metrics: eval/gold, eval-train/gold, eval/retention/kappa, ..."""
    row: dict[str, Any] = {"step": evaluation["step"]}
    for split in (name for name in SPLITS if name in evaluation):
        row |= {f"{split}/{name}": value["mean"] for name, value in evaluation[split].items()}
    return row | {f"eval/retention/{name}": value["mean"] for name, value in evaluation["retention"].items()}
