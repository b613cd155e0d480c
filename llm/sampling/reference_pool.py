"""Prompts of the sentence task, and a cached pool of reference samples on them.

The pool is what preference pairs are made of when the user brings none, what the proxy is fitted on, and
where retention is measured.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch.distributed.tensor import DTensor

from derivations.cli.errors import InputError
from derivations.cli.files import read_json, to_json, write_text
from llm.data.chat import stop_ids
from llm.data.row_formats import Unusable
from llm.data.tokens import Group, encode_prompt
from llm.engine.working import progress
from llm.sampling.gold import on_topic_sentiment
from llm.sampling.sampler import Sampler, Transformers
from llm.sampling.topics import PROMPT
from llm.scoring.logprobs import require_room
from llm.scoring.models import cache_root
from llm.scoring.packing import Example


def topic_prompt(topic: str, tokenizer: Any, *, template: str = PROMPT) -> tuple[int, ...]:
    """Prompt ids of the sentence task. template: what is asked, with {topic} in the topic's place.

    Raises InputError if the model's chat template refuses it.
    """
    try:
        return encode_prompt([{"role": "user", "content": template.replace("{topic}", topic)}], tokenizer)
    except Unusable as refusal:
        raise InputError(f"the prompt of topic {topic!r}: {refusal}") from refusal


def require_room_to_sample(
    model: Any, tokenizer: Any, topics: Sequence[str], *, max_new_tokens: int, mend: str, template: str = PROMPT
) -> None:
    """Refuse (InputError, with the mend) responses that would pass the model's last position.

    On a GPU the lookup of a position that is not there ends the whole process, so it is checked before any is drawn.
    """
    longest = max(len(topic_prompt(topic, tokenizer, template=template)) for topic in topics)
    require_room(model.config, longest + max_new_tokens, mend=f"that is a prompt of {longest} and new ones; {mend}")


def texts(examples: Sequence[Example], tokenizer: Any) -> list[str]:
    """Response texts without special tokens, and without the token that ends them."""
    bodies = [e.response[:-1] if e.complete else e.response for e in examples]
    return [tokenizer.decode(list(body), skip_special_tokens=True) for body in bodies]


def reference_pool(
    model: Any,
    tokenizer: Any,
    topics: Sequence[str],
    *,
    k: int,
    max_new_tokens: int,
    seed: int,
    quiet: bool,
    template: str = PROMPT,
    sampler: Sampler | None = None,
) -> list[list[Example]]:
    """k samples of the untrained model for each topic [topics][k], from the cache if they were drawn before.

    The cache key is a hash of the model's weights and of every setting that decides the samples. sampler: the
    engine that draws them from `model` (default: transformers, in the precision around the call).
    """
    sampler = sampler or Transformers(model, tokenizer)
    prompts = [topic_prompt(topic, tokenizer, template=template) for topic in topics]
    kind = next(model.parameters()).device.type
    stops = stop_ids(model, tokenizer)
    settings = {
        "model": weights_hash(model),
        "precision": str(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else "float32",
        **({} if kind == "cpu" else {"device": kind}),
        **({} if stops == (tokenizer.eos_token_id,) else {"stops": stops}),
        "sampler": [sampler.name, "inverse cdf"],
        "prompts": prompts,
        "k": k,
        "max_new_tokens": max_new_tokens,
        "seed": seed,
    }
    key = hashlib.sha256(to_json(settings).encode()).hexdigest()[:16]
    path = cache_root() / "samples" / f"{key}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # a run beside this one may be drawing the very same
            if not path.exists():
                _draw(path, sampler, prompts, k=k, max_new_tokens=max_new_tokens, seed=seed, quiet=quiet)
    examples = stored(path, prompts, k)
    return [examples[i : i + k] for i in range(0, len(examples), k)]


def _draw(
    path: Path,
    sampler: Sampler,
    prompts: Sequence[tuple[int, ...]],
    *,
    k: int,
    max_new_tokens: int,
    seed: int,
    quiet: bool,
) -> None:
    """Draw the pool, eight prompts at a time, and write it."""
    groups = [prompts[i : i + 8] for i in range(0, len(prompts), 8)]
    drawn: list[Example] = []
    for batch in progress(groups, "samples of the untrained model (kept in the cache)", quiet=quiet):
        drawn += sampler.draw(batch, k=k, max_new_tokens=max_new_tokens, seed=seed)
    write_text(path, to_json([{"response": e.response, "complete": e.complete} for e in drawn]))


def stored(path: Path, prompts: Sequence[tuple[int, ...]], k: int) -> list[Example]:
    """Cached samples, k per prompt. Raises InputError if the file does not hold just those."""
    rows = read_json(path)
    try:
        found = [(row["response"], row["complete"]) for row in rows]
        whole = len(found) == k * len(prompts) and all(type(i) is int and i >= 0 for ids, _ in found for i in ids)
        if not whole or not all(type(complete) is bool for _, complete in found):
            raise ValueError(f"not {k * len(prompts)} responses as token ids")
        return [Example(prompts[i // k], tuple(ids), complete) for i, (ids, complete) in enumerate(found)]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the cached samples {path} are damaged ({error}); remove the file") from None


def weights_hash(model: Any) -> str:
    """Hash of the model's parameters and their names (about a second for 500 MB). Sharded: all processes call it."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(name.encode())
        if isinstance(parameter, DTensor):
            parameter = parameter.full_tensor()
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
