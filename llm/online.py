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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from derivations.commands import start_run, write_json
from derivations.objectives import rloo_advantage, shaped_reward
from llm.config import OnlineConfig
from llm.engine import Engine, Records, print_table, progress
from llm.logprobs import Example, lengths, logps_and_features, sequence_logps
from llm.models import load_model, save_model
from llm.offline import interval
from llm.rewards import Proxy, fit_proxy, on_topic, on_topic_sentiment
from llm.sampling import HELD_OUT_TOPICS, TOPICS, reference_pool, sample, texts, topic_prompt

POOL_SAMPLES = 8  # reference samples per topic: for the proxy (training topics) and for retention (held out)
BATCH_TOKENS = 1024  # of one forward and backward pass


@dataclass(frozen=True)
class World:
    """What does not change during a run."""

    engine: Engine
    tokenizer: Any
    reference: Any
    proxy: Proxy


def online(config: OnlineConfig) -> dict[str, Any]:
    """Train online; returns the summary (also in `summary.json`). Raises InputError on bad input."""
    began = time.monotonic()
    regularizer = config.make_regularizer()
    model, tokenizer = load_model(config.model)
    engine = Engine(model, lr=config.lr, dtype=config.dtype, max_grad_norm=config.max_grad_norm, seed=config.seed)
    policy = engine.unwrapped
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
        with torch.no_grad(), engine.autocast():
            logp = sequence_logps(policy, fixed)
        kappa, tau = retention(logp, fixed_logq, fixed_reward, k=POOL_SAMPLES)
        row = {f"eval/{name}": value["mean"] for name, value in values.items()}
        metrics.add({"step": step, **row, "eval/retention/kappa": kappa, "eval/retention/tau": tau})
        samples.add(*({"step": step, **row} for row in drawn))
        return values | {"retention/kappa": {"mean": kappa}, "retention/tau": {"mean": tau}}

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
        logq, reward = _reference_view(world, drawn)
        with engine.autocast():
            logp = sequence_logps(policy, drawn, batch_tokens=BATCH_TOKENS)
        length = lengths(drawn).to(logp.device)
        shaped = shaped_reward(reward, logp.detach(), regularizer=regularizer, length=length, ref_logp=logq)
        advantage = rloo_advantage(shaped.reshape(-1, config.samples)).reshape(-1)
        loss = -(advantage * logp).mean()
        engine.backward(loss)
        gold = _gold(drawn, topics, config.samples, tokenizer)
        row = {
            "loss": loss.item(),
            "proxy": reward.mean().item(),
            "gold": float(np.mean(gold)),
            "kl": (logp.detach() - logq).mean().item(),
            "entropy": -logp.detach().mean().item(),
            "length": length.mean().item(),
        }
        metrics.add({"step": step, "lr": config.lr, "grad_norm": engine.step(), **row})

    after = evaluate(config.max_steps)
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


def _pool(engine: Engine, tokenizer: Any, topics: Sequence[str], config: OnlineConfig) -> list[list[Example]]:
    with engine.autocast():
        return reference_pool(
            engine.unwrapped,
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
    policy = engine.unwrapped
    with torch.no_grad(), engine.autocast():
        drawn = sample(policy, tokenizer, prompts, k=k, max_new_tokens=config.max_new_tokens, seed=seed)
        logp = sequence_logps(policy, drawn)
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
    values = {name: interval(column.reshape(-1, k).mean(1)) for name, column in columns.items()}
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
