"""The sampler's tokens without waiting for Python at each: every decode step is the same kernels on the same tensors.

Keys and values have their places from the start (transformers' `StaticCache`), and the draw is part of the step, so
on a GPU a step is recorded once as a CUDA graph and replayed for every token of every batch of its shape. Elsewhere
the same step runs as it is written. Whether all rows have ended is asked every few tokens only.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StaticCache

from llm.data.chat import stop_ids
from llm.sampling.sampler import Seed, Transformers, cut, inverse_cdf, one_query_attention, prefill, uniforms
from llm.scoring.packing import Example

BUCKET = 32  # prompts are padded to multiples of so many tokens, so that few shapes occur
LOOK_EVERY = 8  # tokens between two questions whether all rows have ended
KEPT = 4  # shapes whose tensors (and graphs) are kept


class Static(Transformers):
    """`Transformers` with a decode step of fixed shape; the same numbers decide the same tokens."""

    def __init__(self, model: Any, tokenizer: Any, *, dtype: str = "float32") -> None:
        super().__init__(model, tokenizer, dtype=dtype)
        self.name = f"static {dtype}"
        self._decoders: dict[tuple[int, int, int], Decoder] = {}

    @torch.no_grad()
    def sample(self, model: Any, prompts: Sequence[tuple[int, ...]], **options: Any) -> list[Example]:
        return self._sample(model, prompts, **options)

    def _sample(
        self, model: Any, prompts: Sequence[tuple[int, ...]], *, k: int, max_new_tokens: int, seed: Seed
    ) -> list[Example]:
        device = next(model.parameters()).device
        pad, stops = self.tokenizer.pad_token_id, stop_ids(model, self.tokenizer)
        width = -max(map(len, prompts)) // BUCKET * -BUCKET
        ids = torch.tensor([(pad,) * (width - len(p)) + p for p in prompts], device=device)
        seen = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        uniform = torch.from_numpy(uniforms(prompts, k=k, n=max_new_tokens, seed=seed)).to(device)
        shape = (len(prompts) * k, width, max_new_tokens)
        with one_query_attention(model):
            decoder = self._decoders.pop(shape, None) or Decoder(model, *shape, pad=pad, eos=tuple(stops))
            decoder.start(ids, seen, uniform, k)
            out = decoder.run()
        self._decoders[shape] = decoder  # the latest last
        while len(self._decoders) > KEPT:
            self._decoders.pop(next(iter(self._decoders)))
        return [cut(prompts[i // k], tuple(row), stops) for i, row in enumerate(out.tolist())]


class Decoder:
    """Tensors of one shape at fixed addresses, and the step that works on them.

    Args:
        model: a causal transformers model; its weights may change between runs, in place.
        rows: responses drawn at once.
        width: places of a prompt, padding on its left included.
        new: most new tokens.
        pad: written behind a response's end.
        eos: tokens that end a response.
    """

    def __init__(self, model: Any, rows: int, width: int, new: int, *, pad: int, eos: tuple[int, ...]) -> None:
        device = next(model.parameters()).device
        self.model, self.rows, self.width, self.new, self.pad = model, rows, width, new, pad
        self.ends = torch.tensor(eos, device=device)
        self.cache = StaticCache(config=model.config, max_cache_len=width + new)
        self.token = torch.full((rows, 1), pad, device=device)
        self.position = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self.step = torch.zeros(1, dtype=torch.long, device=device)  # tokens drawn so far
        self.seen = torch.zeros(rows, 1, 1, width + new, dtype=torch.bool, device=device)
        self.uniform = torch.zeros(rows, new, dtype=torch.float64, device=device)
        self.done = torch.zeros(rows, dtype=torch.bool, device=device)
        self.out = torch.full((rows, new), pad, device=device)
        self.graph: Any = None

    def start(self, ids: Tensor, seen: Tensor, uniform: Tensor, k: int) -> None:
        """Take in a batch: ids and seen [prompts, width] (seen: 0 on the left's padding), uniform [rows, new].

        Each prompt but its last token is run once and shared by the k rows that go on from it.
        """
        filled = prefill(self.model, ids, seen, k)
        for own, given in zip(self.cache.layers, filled.layers, strict=True):
            if own.is_initialized:
                own.cumulative_length.zero_()
            own.update(given.keys, given.values)
        self.token.copy_(ids[:, -1:].repeat_interleave(k, 0))
        self.position.copy_((seen.sum(-1, keepdim=True) - 1).repeat_interleave(k, 0))
        self.step.zero_()
        self.seen.zero_()
        self.seen[:, 0, 0, : self.width] = seen.repeat_interleave(k, 0).bool()
        self.uniform.copy_(uniform)
        self.done.zero_()
        self.out.fill_(self.pad)

    def run(self) -> Tensor:
        """Draw until every row has ended or is full: [rows, new] token ids."""
        if self.token.is_cuda and self.graph is None:
            self._record()
        for n in range(1, self.new + 1):
            self.graph.replay() if self.graph else self.decode()
            if n % LOOK_EVERY == 0 and n < self.new and bool(self.done.all()):
                break
        return self.out

    def decode(self) -> None:
        """One more token of every row, from tensors into tensors, with nothing read back."""
        states = self.model.base_model(
            input_ids=self.token,
            attention_mask=self.seen,
            position_ids=self.position,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        scores = self.model.get_output_embeddings()(states[:, -1])
        place = self.step.expand(self.rows, 1)
        token = inverse_cdf(scores, self.uniform.gather(1, place)[:, 0])
        token = torch.where(self.done[:, None], self.pad, token)
        self.out.scatter_(1, place, token)
        self.done |= (token == self.ends).any(-1)
        self.token.copy_(token)
        self.position += 1
        self.step += 1
        self.seen.scatter_(3, (self.step + self.width - 1).expand(self.rows, 1, 1, 1), True)

    def _record(self) -> None:
        """Record the step as a CUDA graph; the steps that this takes are undone."""
        changed = [self.token, self.position, self.step, self.seen, self.done, self.out]
        changed += [layer.cumulative_length for layer in self.cache.layers]  # keys and values are written over
        before = [tensor.clone() for tensor in changed]

        def undo() -> None:
            for tensor, value in zip(changed, before, strict=True):
                tensor.copy_(value)

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # libraries allocate their workspaces at their first calls
            for _ in range(2):
                self.decode()
                undo()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.decode()
        undo()
