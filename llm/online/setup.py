"""What does not change during an online run: the reference, the rewards, and reference samples of every topic."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from derivations.cli.files import to_json
from derivations.regularizers import Regularizer
from llm.data.chat import stop_ids
from llm.engine.engine import Engine
from llm.engine.launch import is_silent
from llm.engine.reference import frozen
from llm.engine.working import working
from llm.online.proxy import Floats, Proxy, fit_proxy, load_proxy, within_deviation
from llm.online.proxy_report import report
from llm.online.views import kept_view, view
from llm.sampling.gold import Gold, Written, on_topic, sentiment
from llm.sampling.reference_pool import reference_pool, texts, topic_prompt, weights_hash
from llm.sampling.sampler import Sampler, Transformers
from llm.sampling.static_sampler import Static
from llm.sampling.topics import HELD_OUT_TOPICS, TOPICS, TRAIN_EVAL_TOPICS
from llm.scoring.packing import Example, lengths
from llm.settings.online import OnlineConfig

POOL_SAMPLES = 8  # reference samples of each topic
SPLITS = {"eval": HELD_OUT_TOPICS, "eval-train": TRAIN_EVAL_TOPICS}  # prefix of the metrics -> topics evaluated


@dataclass(frozen=True)
class Batch:
    """Responses and all that is said of them, k to a topic in a row. Tensors are [responses].

    logq: nats, under the reference. proxy, gold: reward units. on_topic: bool.
    """

    examples: Sequence[Example]
    topics: Sequence[str]
    texts: Sequence[str]
    logq: Tensor
    proxy: Tensor
    gold: Tensor
    sentiment: Tensor
    on_topic: Tensor

    def length(self) -> Tensor:
        """Tokens, EOS included."""
        return lengths(self.examples, self.logq.device)


@dataclass(frozen=True)
class World:
    """fixed: reference samples of the topics of each split, POOL_SAMPLES to a topic. spread_ratio: see `spread`.

    reference_hash: of the reference's weights.
    """

    engine: Engine
    tokenizer: Any
    reference: Any
    reference_hash: str
    sampler: Sampler
    gold: Gold
    proxy: Proxy
    prompts: dict[str, tuple[int, ...]]
    fixed: dict[str, Batch]
    spread_ratio: float

    def draw(self, topics: Sequence[str], *, k: int, max_new_tokens: int, seed: tuple[int, ...]) -> Batch:
        """k fresh responses of the policy to each topic."""
        prompts = [self.prompts[topic] for topic in topics]
        drawn = self.sampler.draw(prompts, k=k, max_new_tokens=max_new_tokens, seed=seed)
        return rate(self, drawn, [topic for topic in topics for _ in range(k)])

    def fingerprint(self) -> str:
        """Hash of what a resumed run must find again: the proxy, and the reference's samples with their log-probs."""
        fixed = [(e.response, q) for b in self.fixed.values() for e, q in zip(b.examples, b.logq.tolist(), strict=True)]
        said = to_json([self.proxy.weights, self.proxy.scale, fixed])
        return hashlib.sha256(said.encode()).hexdigest()[:16]


def rate(world: World, examples: Sequence[Example], topics: Sequence[str]) -> Batch:
    """Log-probs under the reference and rewards, from one forward pass of the reference."""
    logq, features = view(world.engine, world.reference, examples)
    return _batch(examples, topics, texts(examples, world.tokenizer), logq, world.proxy(features), world.gold)


def _batch(
    examples: Sequence[Example], topics: Sequence[str], written: Sequence[str], logq: Tensor, proxy: Tensor, gold: Gold
) -> Batch:
    mentioned = [on_topic(text, topic) for text, topic in zip(written, topics, strict=True)]
    return Batch(
        examples=examples,
        topics=topics,
        texts=written,
        logq=logq,
        proxy=proxy,
        gold=torch.tensor(golds(examples, topics, written, logq, gold), device=logq.device),
        sentiment=torch.tensor([sentiment(text) for text in written], device=logq.device),
        on_topic=torch.tensor(mentioned, device=logq.device),
    )


def golds(
    examples: Sequence[Example], topics: Sequence[str], written: Sequence[str], logq: Tensor, gold: Gold
) -> list[float]:
    """The gold reward of each response."""
    rows = zip(examples, topics, written, logq.tolist(), strict=True)
    return [gold(Written(text, topic, len(e.response), q / len(e.response))) for e, topic, text, q in rows]


def make_world(config: OnlineConfig, engine: Engine, tokenizer: Any, regularizer: Regularizer) -> World:
    """Sample the reference, fit the proxy (or load it) and see what it is worth. Raises InputError on bad input."""
    gold = config.make_gold()
    reference, reference_hash = frozen(engine), weights_hash(engine.transformer)
    kind = Static if config.sampler == "static" else Transformers
    sampler = kind(engine.transformer, tokenizer, dtype=config.dtype)
    every = (*TOPICS, *HELD_OUT_TOPICS)
    pool = reference_pool(
        engine.transformer,
        tokenizer,
        every,
        k=POOL_SAMPLES,
        max_new_tokens=config.max_new_tokens,
        seed=0,
        quiet=is_silent(config),
        template=config.prompt,
        sampler=sampler,
    )
    examples = [e for own in pool for e in own]
    topics = [topic for topic in every for _ in range(POOL_SAMPLES)]
    written = texts(examples, tokenizer)
    kept = partial(kept_view, engine, reference, weights=reference_hash)
    with working("log-probs of the untrained model", quiet=is_silent(config)):
        logq, features = kept(examples)

    def rated(some: Sequence[Example], proxy: Proxy) -> tuple[Floats, Floats]:
        own_logq, own_features = kept(some)
        own_topics = [topic for topic in HELD_OUT_TOPICS for _ in range(POOL_SAMPLES)]
        return _table(proxy(own_features)), _table(golds(some, own_topics, texts(some, tokenizer), own_logq, gold))

    if config.proxy:
        proxy = load_proxy(Path(config.proxy), reference=reference_hash)
    else:
        n = len(TOPICS)
        said = _table(golds(examples, topics, written, logq, gold))
        table = features.double().cpu().numpy().reshape(*said.shape, -1)
        proxy = fit_proxy(table[:n], said[:n], pairs=config.proxy_pairs, seed=config.seed)
        held_out = _table(proxy(features))[n:]
        control = {*tokenizer.all_special_ids, *stop_ids(engine.transformer, tokenizer)}
        tokens = [i for i in range(len(tokenizer)) if i not in control]
        with working("what the proxy says of strange responses", quiet=is_silent(config)):
            off = report(pool[n:], held_out, said[n:], rate=partial(rated, proxy=proxy), tokens=tokens)
        proxy = replace(proxy, off_distribution=off)
    whole = _batch(examples, topics, written, logq, proxy(features), gold)
    splits = SPLITS if config.eval_on == "both" else {"eval": SPLITS["eval"]}
    fixed = {name: _of_topics(whole, own) for name, own in splits.items()}
    # in passes of the shapes the policy will be measured in: equal weights then have equal bits on a GPU too
    fixed = {name: replace(batch, logq=kept(batch.examples)[0]) for name, batch in fixed.items()}
    return World(
        engine=engine,
        tokenizer=tokenizer,
        reference=reference,
        reference_hash=reference_hash,
        sampler=sampler,
        gold=gold,
        proxy=proxy,
        prompts={topic: topic_prompt(topic, tokenizer, template=config.prompt) for topic in every},
        fixed=fixed,
        spread_ratio=spread(whole, regularizer),
    )


def _table(values: Any) -> Floats:
    """[topics, POOL_SAMPLES], float64."""
    return torch.as_tensor(values).double().cpu().numpy().reshape(-1, POOL_SAMPLES)


def _of_topics(batch: Batch, topics: Sequence[str]) -> Batch:
    """The part of a batch with these topics, in their order."""
    places = [i for topic in topics for i, own in enumerate(batch.topics) if own == topic]
    return Batch(
        examples=[batch.examples[i] for i in places],
        topics=[batch.topics[i] for i in places],
        texts=[batch.texts[i] for i in places],
        logq=batch.logq[places],
        proxy=batch.proxy[places],
        gold=batch.gold[places],
        sentiment=batch.sentiment[places],
        on_topic=batch.on_topic[places],
    )


def spread(batch: Batch, regularizer: Regularizer) -> float:
    """Spread of the regularizer's implicit reward at the reference over that of the reward: how loud it starts.

    Standard deviations within topics, on reference samples. Above 1 the first steps follow the regularizer.
    """
    implicit = regularizer.implicit_reward(batch.logq, length=batch.length(), ref_logp=batch.logq)
    reward = within_deviation(_table(batch.proxy))
    return within_deviation(_table(implicit)) / reward if reward else float(np.inf)
