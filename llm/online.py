"""Online policy gradient on a fitted proxy reward: one loop, the regularizer is an argument.

The gradient of E_pi[r] - sum phi is E_pi[(r - s) grad log pi] with the implicit reward s of the
regularizer (THEORY 1 and 3.2), so each sample's reward is shaped to r - s(y), detached, at the level
of whole responses, with log-probs from the training forward pass. Leave-one-out baseline
(arXiv:2402.14740). Gold is logged and never trained on.
"""

import copy
import itertools
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from derivations.commands import InputError, start_run, write_json
from derivations.objectives import rloo_advantage, shaped_reward
from derivations.regularizers import Regularizer
from llm.engine import Engine, stop_if_diverged
from llm.export import save_model
from llm.logprobs import logps_and_features
from llm.measure import interval
from llm.models import load_model
from llm.online_config import OnlineConfig
from llm.packing import Example, lengths
from llm.records import Records, print_table, progress
from llm.rewards import Proxy, fit_proxy, on_topic, on_topic_sentiment
from llm.sampling import HELD_OUT_TOPICS, TOPICS, reference_pool, sample, texts, topic_prompt

POOL_SAMPLES = 8  # reference samples per topic: for the proxy (training topics) and for retention (held out)


@dataclass(frozen=True)
class World:
    """What does not change during a run."""

    engine: Engine
    tokenizer: Any
    reference: Any
    proxy: Proxy


def online(config: OnlineConfig) -> dict[str, Any]:
    """Train online; returns the summary (also in `summary.json`). Raises InputError on bad input.

    Keys: regularizer, wrong_bonus, steps, seconds, peak_memory_gib, spread_ratio (spread of the implicit reward at
    the reference over that of the reward, within prompts, on reference samples), proxy {accuracy, calibration
    {slope, pairs}, scale, ridge, pairs, off_distribution {kind: {proxy, gold, ...}}}, evaluations: a list of {step,
    eval, eval-train: {metric: {mean, low, high}}, retention: {kappa, tau, r2_level, r2_change: {mean, low, high}}};
    before and after are its first and last. A number that does not exist (r2_change before training) is null.
    """
    began = time.monotonic()
    config.require_places()
    regularizer = config.make_regularizer()
    model, tokenizer = load_model(config.model)
    engine = Engine(
        model,
        lr=config.lr,
        dtype=config.dtype,
        max_grad_norm=config.max_grad_norm,
        seed=config.seed,
        tracker=config.tracker,
        out=config.out,
    )
    if engine.processes > 1:
        raise InputError(f"online runs in one process, not in {engine.processes}")
    policy = engine.transformer
    reference = copy.deepcopy(policy).requires_grad_(False)
    train_pool, held_pool = (_pool(engine, tokenizer, topics, config) for topics in (TOPICS, HELD_OUT_TOPICS))
    proxy = _fit(engine, reference, tokenizer, train_pool, config)
    world = World(engine, tokenizer, reference, proxy)
    out = start_run(config.out, {**vars(config), "regularizer_resolved": regularizer})
    if not config.quiet:
        print(
            f"{regularizer}\nproxy: {config.proxy_pairs} pairs, held-out accuracy {proxy.accuracy:.3f}, "
            f"ridge {proxy.ridge:g}, one reward unit = {proxy.scale:.3g} of the head's output"
        )
    metrics, samples = Records(out / "metrics.jsonl"), Records(out / "samples.jsonl")
    fixed = [e for group in held_pool for e in group]
    fixed_logq, fixed_reward = _reference_view(world, fixed)

    def evaluate(step: int) -> dict[str, dict[str, float]]:
        values, drawn = _evaluate(world, config, seed=config.seed * 7919 + step)
        logp = engine.logps(fixed)
        kappa, tau = retention(logp, fixed_logq, fixed_reward, k=POOL_SAMPLES)
        row = {"step": step} | {f"eval/{name}": value["mean"] for name, value in values.items()}
        row |= {"eval/retention/kappa": kappa, "eval/retention/tau": tau}
        metrics.add(row)
        engine.track(row)
        samples.add(*({"step": step, **row} for row in drawn))
        return values | {"retention/kappa": {"mean": kappa}, "retention/tau": {"mean": tau}}

    engine.start_tracking(config)
    before = evaluate(0)
    rng = np.random.default_rng(config.seed)
    for step in progress(range(1, config.max_steps + 1), regularizer.name, quiet=config.quiet):
        topics = [str(t) for t in rng.choice(TOPICS, size=config.prompts_per_step)]
        prompts = [topic_prompt(t, tokenizer) for t in topics]
        with engine.autocast():
            drawn = sample(
                policy,
                tokenizer,
                prompts,
                k=config.samples,
                max_new_tokens=config.max_new_tokens,
                seed=config.seed * 7919 + 100_003 + step,
            )
        row = _policy_gradient(world, regularizer, drawn, config)
        norm = engine.gradient_norm()
        stop_if_diverged(norm, row["loss"], step, drawn, config.out, config.lr)
        row |= {"gold": float(np.mean(_gold(drawn, topics, config.samples, tokenizer)))}
        row = {"step": step, "lr": engine.lr, "grad_norm": norm, **row}
        metrics.add(row)
        engine.track(row)
        engine.step()

    after = evaluate(config.max_steps)
    engine.accelerator.end_training()
    if config.save:
        save_model(policy, tokenizer, out / "checkpoints" / "last")
    summary = {
        "regularizer": regularizer.name,
        "before": before,
        "after": after,
        "proxy": {"accuracy": proxy.accuracy, "scale": proxy.scale, "ridge": proxy.ridge, "pairs": config.proxy_pairs},
        "seconds": time.monotonic() - began,
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    write_json(out / "summary.json", summary)
    rows = [(f"eval/{n}", f"{before[n]['mean']:.3f}", f"{after[n]['mean']:.3f}") for n in before]
    title = (
        f"{config.max_steps} steps in {summary['seconds']:.0f} s, {summary['peak_memory_gib']:.1f} GiB: {config.out}"
    )
    print_table(title, ("metric", "before", "after"), rows, quiet=config.quiet)
    return summary


def _policy_gradient(
    world: World, regularizer: Regularizer, drawn: Sequence[Example], config: OnlineConfig
) -> dict[str, float]:
    """Accumulate the step's gradient, a few topics at a time; returns the step's means.

    A topic's advantages need only its own samples, so any split into topics gives the same gradient.
    """
    logq, reward = _reference_view(world, drawn)
    engine, k = world.engine, config.samples
    parts = list(topic_batches(drawn, k=k, tokens=config.micro_batch_tokens))
    columns: dict[str, list[Tensor]] = {"loss": [], "proxy": [], "kl": [], "entropy": [], "length": []}
    with engine.micro_steps():
        for number, part in enumerate(parts, start=1):
            last = number == len(parts)
            logp = engine.loss_logps(drawn[part], last=last)
            length = lengths(drawn[part]).to(logp.device)
            q, r = logq[part], reward[part]
            shaped = shaped_reward(r, logp.detach(), regularizer=regularizer, length=length, ref_logp=q)
            losses = -rloo_advantage(shaped.reshape(-1, k)).reshape(-1) * logp
            engine.backward(losses.sum() / len(drawn), last=last)
            values = (losses.detach(), r, logp.detach() - q, -logp.detach(), length)
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
    return {name: torch.cat(values).mean().item() for name, values in columns.items()}


def topic_batches(drawn: Sequence[Example], *, k: int, tokens: int) -> Iterator[slice]:
    """Slices of whole topics (k samples in a row) of at most `tokens` tokens, prompts counted once (or one topic)."""
    start, total = 0, 0
    for at in range(0, len(drawn), k):
        size = len(drawn[at].prompt) + sum(len(e.response) for e in drawn[at : at + k])
        if at > start and total + size > tokens:
            yield slice(start, at)
            start, total = at, 0
        total += size
    yield slice(start, len(drawn))


def _pool(engine: Engine, tokenizer: Any, topics: Sequence[str], config: OnlineConfig) -> list[list[Example]]:
    with engine.autocast():
        return reference_pool(
            engine.transformer,
            tokenizer,
            topics,
            k=POOL_SAMPLES,
            max_new_tokens=config.max_new_tokens,
            seed=0,
            quiet=config.quiet,
        )


def _fit(engine: Engine, reference: Any, tokenizer: Any, pool: list[list[Example]], config: OnlineConfig) -> Proxy:
    examples = [e for group in pool for e in group]
    with torch.no_grad(), engine.autocast():
        _, features = logps_and_features(reference, examples)
    gold = np.array(_gold(examples, TOPICS, POOL_SAMPLES, tokenizer)).reshape(-1, POOL_SAMPLES)
    table = features.double().cpu().numpy().reshape(*gold.shape, -1)
    return fit_proxy(table, gold, pairs=config.proxy_pairs, seed=config.seed)


def _reference_view(world: World, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """log q (nats) and proxy reward of each response, from one forward pass of the frozen reference."""
    with torch.no_grad(), world.engine.autocast():
        logq, features = logps_and_features(world.reference, examples)
    return logq, world.proxy(features)


def _gold(examples: Sequence[Example], topics: Sequence[str], k: int, tokenizer: Any) -> list[float]:
    return [on_topic_sentiment(text, topics[i // k]) for i, text in enumerate(texts(examples, tokenizer))]


def _evaluate(
    world: World, config: OnlineConfig, *, seed: int
) -> tuple[dict[str, dict[str, float]], list[dict[str, Any]]]:
    """Metrics on fresh samples of the held-out topics (95 % intervals over topics), and the samples."""
    engine, tokenizer, k = world.engine, world.tokenizer, config.eval_samples
    prompts = [topic_prompt(t, tokenizer) for t in HELD_OUT_TOPICS]
    with engine.autocast():
        drawn = sample(engine.transformer, tokenizer, prompts, k=k, max_new_tokens=config.max_new_tokens, seed=seed)
    logp = engine.logps(drawn)
    logq, reward = _reference_view(world, drawn)
    length = lengths(drawn).to(logp.device)
    topics = [HELD_OUT_TOPICS[i // k] for i in range(len(drawn))]
    written = texts(drawn, tokenizer)
    gold = _gold(drawn, HELD_OUT_TOPICS, k, tokenizer)
    columns = {
        "gold": torch.tensor(gold),
        "proxy": reward,
        "kl": logp - logq,
        "entropy": -logp,
        "logq_per_token": logq / length,
        "on_topic": torch.tensor([float(on_topic(x, t)) for x, t in zip(written, topics, strict=True)]),
        "length": length,
    }
    values = {name: interval(column.reshape(-1, k).mean(1).tolist()) for name, column in columns.items()}
    values["distinct_2"] = {"mean": distinct_2([e.response for e in drawn])}
    rows = [
        {"topic": t, "response": x, "complete": e.complete, "gold": g, "proxy": r, "logp": p, "logq": q}
        for t, x, e, g, r, p, q in zip(
            topics, written, drawn, gold, reward.tolist(), logp.tolist(), logq.tolist(), strict=True
        )
    ]
    return values, rows


def distinct_2(responses: Sequence[Sequence[int]]) -> float:
    """Distinct token bigrams as a share of all bigrams of all responses (arXiv:1510.03055); 0 without any."""
    bigrams = [pair for r in responses for pair in itertools.pairwise(r)]
    return len(set(bigrams)) / len(bigrams) if bigrams else 0.0


def retention(logp: Tensor, logq: Tensor, reward: Tensor, *, k: int) -> tuple[float, float]:
    """kappa and tau of log pi = kappa log q + tau r + prompt effect, by least squares (THEORY 4.2).

    All [prompts * k], k reference samples of each prompt in a row. Samples of the policy would select
    themselves. At step 0 kappa is 1 and tau 0.
    """
    y, q, r = (x.double().cpu().numpy().reshape(-1, k) for x in (logp, logq, reward))
    y, q, r = (x - x.mean(axis=1, keepdims=True) for x in (y, q, r))
    kappa, tau = np.linalg.lstsq(np.stack([q.ravel(), r.ravel()], axis=1), y.ravel())[0]
    return float(kappa), float(tau)
