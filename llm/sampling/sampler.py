"""Exact sampling, row by row: temperature 1, the whole distribution, each row with random numbers of its own.

A row's uniform numbers come from a generator seeded by what the row is (seed, prompt, sample number), so its
response does not depend on the order or the company of rows. Equal bits are promised at equal shapes only: a
matrix product of another shape may round its logits differently. `Sampler` is what another engine has to be.
"""

import copy
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, LogitsProcessor, LogitsProcessorList

from llm.data.chat import stop_ids
from llm.engine.determinism import cumulative
from llm.scoring.packing import Example

Seed = int | tuple[int, ...]


class Sampler(Protocol):
    """An engine that draws responses from the policy as it is at the time of the call."""

    name: str  # engine and precision; part of the key under which samples are cached

    def draw(self, prompts: Sequence[tuple[int, ...]], *, k: int, max_new_tokens: int, seed: Seed) -> list[Example]:
        """k independent responses to each prompt, prompt by prompt: [len(prompts) * k]."""
        ...


class Transformers:
    """`generate` of transformers with its key-value cache, on the model itself or (bf16) on a narrow copy of it.

    The copy is brought up to date at every draw; without it each token would narrow all weights again.
    """

    def __init__(self, model: Any, tokenizer: Any, *, dtype: str = "float32") -> None:
        self.model, self.tokenizer = model, tokenizer
        self.narrow = narrowed(model) if dtype == "bf16" else None
        self.name = "transformers bf16, rotary float32" if dtype == "bf16" else f"transformers {dtype}"

    def draw(self, prompts: Sequence[tuple[int, ...]], *, k: int, max_new_tokens: int, seed: Seed) -> list[Example]:
        if self.narrow is None:
            return self.sample(self.model, prompts, k=k, max_new_tokens=max_new_tokens, seed=seed)
        with torch.no_grad():
            for own, policy in zip(self.narrow.parameters(), self.model.parameters(), strict=True):
                own.copy_(policy)
        device = next(self.model.parameters()).device
        with torch.autocast(device.type, enabled=False):
            return self.sample(self.narrow, prompts, k=k, max_new_tokens=max_new_tokens, seed=seed)

    def sample(self, model: Any, prompts: Sequence[tuple[int, ...]], **options: Any) -> list[Example]:
        """`draw` from this model, be it the policy or its narrow copy."""
        return sample(model, self.tokenizer, prompts, **options)


def narrowed(model: Any) -> Any:
    """A copy in bf16 without gradient. Rotary frequencies stay as they are: they are multiplied by positions, so
    that their rounding to bf16 (0.2 %) would turn token 500 by a radian."""
    narrow = copy.deepcopy(model).to(torch.bfloat16).requires_grad_(False)
    for (name, own), source in zip(narrow.named_buffers(), model.buffers(), strict=True):
        if name.endswith("inv_freq"):
            own.data = source.detach().clone()
    return narrow


class InverseCDF(LogitsProcessor):
    """Leaves one token per row: the first whose cumulative probability passes the row's uniform number.

    uniform: float64 [rows, new tokens], in [0, 1). prompt_width: places before the first new token. The sums
    are float64: in float32 the many rare tokens of a vocabulary would be drawn too seldom or never.
    """

    def __init__(self, uniform: Tensor, prompt_width: int) -> None:
        self.uniform, self.prompt_width = uniform, prompt_width

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        token = inverse_cdf(scores, self.uniform[:, input_ids.shape[1] - self.prompt_width])
        return torch.full_like(scores, -torch.inf).scatter_(-1, token, 0.0)


def inverse_cdf(scores: Tensor, uniform: Tensor) -> Tensor:
    """The token of each row whose cumulative probability first passes the row's number.

    Args:
        scores: logits [rows, vocabulary].
        uniform: float64 [rows], in [0, 1).

    Returns:
        Token ids [rows, 1].
    """
    sums = cumulative(scores.float().softmax(-1))
    token = torch.searchsorted(sums, uniform[:, None] * sums[:, -1:], right=True)
    return token.clamp_(max=scores.shape[-1] - 1)


@torch.no_grad()
def sample(
    model: Any, tokenizer: Any, prompts: Sequence[tuple[int, ...]], *, k: int, max_new_tokens: int, seed: Seed
) -> list[Example]:
    """k independent responses to each prompt, prompt by prompt: [len(prompts) * k], cut at the first token that ends
    one (`llm.data.chat.stop_ids`).

    A response that does not end within max_new_tokens is truncated and not `complete`. A prompt that occurs
    twice gets other responses the second time. No global random state is read or changed.
    """
    device = next(model.parameters()).device
    width = max(map(len, prompts))
    pad, stops = tokenizer.pad_token_id, stop_ids(model, tokenizer)
    ids = torch.tensor([(pad,) * (width - len(p)) + p for p in prompts], device=device)
    seen = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    uniform = torch.from_numpy(uniforms(prompts, k=k, n=max_new_tokens, seed=seed)).to(device)
    # A fresh config: the model folder's own may hold penalties that change the distribution sampled from.
    plain = GenerationConfig(do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=list(stops), pad_token_id=pad)
    own, model.generation_config = model.generation_config, plain
    try:
        with one_query_attention(model):
            out = model.generate(
                input_ids=ids.repeat_interleave(k, 0),
                attention_mask=seen.repeat_interleave(k, 0),
                past_key_values=prefill(model, ids, seen, k),
                logits_processor=LogitsProcessorList([InverseCDF(uniform, width)]),
            )
    finally:
        model.generation_config = own
    return [cut(prompts[i // k], tuple(row), stops) for i, row in enumerate(out[:, width:].tolist())]


@contextmanager
def one_query_attention(model: Any) -> Iterator[None]:
    """Without FlexAttention, which would be compiled anew while the cache grows."""
    attention = model.config._attn_implementation
    if attention == "flex_attention":
        model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        if attention == "flex_attention":
            model.set_attn_implementation(attention)


def prefill(model: Any, ids: Tensor, seen: Tensor, k: int) -> DynamicCache:
    """Keys and values of each prompt but its last token, run once and shared by the k rows that go on from it."""
    cache = DynamicCache(config=model.config)
    if ids.shape[1] > 1:
        places = (seen.cumsum(-1) - 1).clamp_(min=0)  # as `generate` counts them
        model.base_model(
            input_ids=ids[:, :-1],
            attention_mask=seen[:, :-1],
            position_ids=places[:, :-1],
            past_key_values=cache,
            use_cache=True,
        )
        cache.batch_repeat_interleave(k)
    return cache


def uniforms(prompts: Sequence[tuple[int, ...]], *, k: int, n: int, seed: Seed) -> np.ndarray:
    """Numbers in [0, 1), float64 [len(prompts) * k, n]: a row's depend on the seed, its prompt and its number alone."""
    seeds = (seed,) if isinstance(seed, int) else seed
    count: dict[tuple[int, ...], int] = {}
    rows = []
    for prompt in prompts:
        start = count.get(prompt, 0)
        rows += [np.random.default_rng([*seeds, start + i, *prompt]).random(n) for i in range(k)]
        count[prompt] = start + k
    return np.stack(rows)


def cut(prompt: tuple[int, ...], ids: tuple[int, ...], stops: Collection[int]) -> Example:
    """The response up to and with the first token that ends it; what generation pads behind it is dropped."""
    end = next((place for place, token in enumerate(ids) if token in stops), None)
    return Example(prompt, ids, False) if end is None else Example(prompt, ids[: end + 1], True)
