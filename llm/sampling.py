"""Responses drawn from a model: temperature 1, no truncation of the distribution, cut at the first EOS.

Also the topics of the sentence task, and a cached pool of reference samples: what preference pairs
are made of when the user brings none, what the proxy is fitted on, and where retention is measured.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from derivations.commands import to_json, write_text
from llm.models import cache_root
from llm.packing import Example
from llm.records import progress
from llm.rewards import on_topic_sentiment
from llm.tokens import Group, encode_prompt

# fmt: off
TOPICS = (
    "rivers", "mountains", "bread", "coffee", "music", "libraries", "bicycles", "winter", "gardens", "dogs", "cats",
    "trains", "friendship", "football", "painting", "oceans", "bridges", "teachers", "chocolate", "rain", "history",
    "dancing", "airplanes", "forests", "markets", "cooking", "stars", "birthdays", "computers", "horses", "museums",
    "volcanoes",
)
# fmt: on
HELD_OUT_TOPICS = ("cheese", "castles", "whales", "school", "fireworks", "spiders", "snow", "taxes")


def topic_prompt(topic: str, tokenizer: Any) -> tuple[int, ...]:
    """Prompt ids of the sentence task."""
    return encode_prompt([{"role": "user", "content": f"Write one sentence about {topic}."}], tokenizer)


@torch.no_grad()
def sample(
    model: Any, tokenizer: Any, prompts: Sequence[tuple[int, ...]], *, k: int, max_new_tokens: int, seed: int
) -> list[Example]:
    """k independent responses to each prompt, prompt by prompt: [len(prompts) * k]. The global RNG is left alone."""
    device = next(model.parameters()).device
    width = max(map(len, prompts))
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    ids = torch.tensor([(pad,) * (width - len(p)) + p for p in prompts], device=device)
    seen = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        # A fresh config: the model folder's own may hold penalties that change the distribution sampled from.
        plain = GenerationConfig(
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=max_new_tokens,
            eos_token_id=eos,
            pad_token_id=pad,
        )
        own, model.generation_config = model.generation_config, plain
        try:
            out = model.generate(input_ids=ids.repeat_interleave(k, 0), attention_mask=seen.repeat_interleave(k, 0))
        finally:
            model.generation_config = own
    return [_cut(prompts[i // k], tuple(row), eos) for i, row in enumerate(out[:, width:].tolist())]


def _cut(prompt: tuple[int, ...], ids: tuple[int, ...], eos: int) -> Example:
    """The response up to and with its first EOS; what generation pads behind it is dropped."""
    if eos in ids:
        return Example(prompt, ids[: ids.index(eos) + 1], True)
    return Example(prompt, ids, False)


def texts(examples: Sequence[Example], tokenizer: Any) -> list[str]:
    """Response texts without special tokens."""
    return [tokenizer.decode(list(e.response), skip_special_tokens=True) for e in examples]


def reference_pool(
    model: Any,
    tokenizer: Any,
    topics: Sequence[str],
    *,
    k: int,
    max_new_tokens: int,
    seed: int,
    quiet: bool,
) -> list[list[Example]]:
    """k samples of the untrained model for each topic [topics][k], from the cache if they were drawn before.

    The cache key is a hash of the model's weights and of every setting that decides the samples.
    """
    prompts = [topic_prompt(topic, tokenizer) for topic in topics]
    settings = {
        "model": weights_hash(model),
        "precision": str(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else "float32",
        "prompts": prompts,
        "k": k,
        "max_new_tokens": max_new_tokens,
        "seed": seed,
    }
    key = hashlib.sha256(to_json(settings).encode()).hexdigest()[:16]
    path = cache_root() / "samples" / f"{key}.json"
    if not path.exists():
        groups = [list(range(i, min(i + 8, len(prompts)))) for i in range(0, len(prompts), 8)]
        drawn: list[Example] = []
        for n, group in enumerate(progress(groups, "reference samples", quiet=quiet)):
            batch = [prompts[i] for i in group]
            drawn += sample(model, tokenizer, batch, k=k, max_new_tokens=max_new_tokens, seed=seed * 1009 + n)
        write_text(path, to_json([{"response": e.response, "complete": e.complete} for e in drawn]))
    rows = json.loads(path.read_text(encoding="utf-8"))
    examples = [Example(prompts[i // k], tuple(row["response"]), row["complete"]) for i, row in enumerate(rows)]
    return [examples[i : i + k] for i in range(0, len(examples), k)]


def weights_hash(model: Any) -> str:
    """Hash of the model's parameters and their names (about a second for 500 MB)."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(name.encode())
        digest.update(parameter.detach().float().cpu().contiguous().numpy())
    return digest.hexdigest()


def ranked_responses(
    pool: Sequence[Sequence[Example]], topics: Sequence[str], tokenizer: Any, *, listwise: bool = False
) -> list[Group]:
    """Comparisons within each topic by gold reward, which must tell the responses of each apart.

    Pairs: best against worst, second best against second worst, and so on. listwise: the first response
    at each level of gold, best first.
    """
    groups = []
    for topic, examples in zip(topics, pool, strict=True):
        gold = [on_topic_sentiment(text, topic) for text in texts(examples, tokenizer)]
        order = sorted(range(len(examples)), key=lambda i: -gold[i])
        if listwise:
            levels = list({gold[i]: i for i in reversed(order)}.values())[::-1]
            found = [levels] if len(levels) > 1 else []
        else:
            pairs = zip(order[: len(order) // 2], reversed(order), strict=False)
            found = [[best, worst] for best, worst in pairs if gold[best] > gold[worst]]
        groups += [Group(tuple(examples[i] for i in places), f"topic {topic!r}") for places in found]
    return groups
