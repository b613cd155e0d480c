"""Log-probs of responses given prompts: the hot path.

Sequences are sorted by length and padded on the right. Attention is causal, so padding behind a
sequence cannot reach it and no mask is needed; what counts is decided by lengths, never by token ids.
Only the positions that predict a response token go through the head, in chunks, in float32: at no
time are logits held for more than one chunk, and the backward pass makes each chunk's again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from derivations.arrays import masked_sum


@dataclass(frozen=True)
class Example:
    """Prompt and response as token ids. complete: the response ended by itself, its last id is EOS."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    complete: bool

    def __post_init__(self) -> None:
        if not self.prompt or not self.response:
            raise ValueError("prompt and response need at least one token each")

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)


def lengths(examples: Sequence[Example]) -> Tensor:
    """Response lengths in tokens, EOS included: float32 [n]."""
    return torch.tensor([float(len(e.response)) for e in examples])


def sequence_logps(
    model: Any, examples: Sequence[Example], *, batch_tokens: int = 4096, chunk_tokens: int = 256
) -> Tensor:
    """log pi(response | prompt) of each example: float32 [n], nats, summed over the response's tokens.

    model: a causal transformers model whose logits are its output embedding of its last hidden state.
    batch_tokens: most padded tokens in one forward pass. chunk_tokens: positions projected at once.
    """
    return _by_batch(model, examples, batch_tokens, chunk_tokens)[0]


def logps_and_features(
    model: Any, examples: Sequence[Example], *, batch_tokens: int = 4096, chunk_tokens: int = 256
) -> tuple[Tensor, Tensor]:
    """As `sequence_logps`, and the mean last hidden state over each response's positions: [n], [n, width]."""
    return _by_batch(model, examples, batch_tokens, chunk_tokens)


def _by_batch(model: Any, examples: Sequence[Example], batch_tokens: int, chunk_tokens: int) -> tuple[Tensor, Tensor]:
    order: list[int] = []
    logps: list[Tensor] = []
    features: list[Tensor] = []
    for indices in length_batches([len(e) for e in examples], batch_tokens):
        batch_logps, batch_features = _one_batch(model, [examples[i] for i in indices], chunk_tokens)
        order += indices
        logps.append(batch_logps)
        features.append(batch_features)
    back = torch.tensor(order).argsort().to(logps[0].device)
    return torch.cat(logps)[back], torch.cat(features)[back]


def length_batches(sizes: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices in batches of similar length; each has one sequence or at most `batch_tokens` padded tokens."""
    batch: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):  # longest first: the first one sets the width
        if batch and sizes[batch[0]] * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _one_batch(model: Any, examples: Sequence[Example], chunk_tokens: int) -> tuple[Tensor, Tensor]:
    device = next(model.parameters()).device
    width = max(len(e) for e in examples)
    ids = torch.zeros(len(examples), width, dtype=torch.long)
    for row, e in enumerate(examples):
        ids[row, : len(e)] = torch.tensor(e.prompt + e.response)
    ids = ids.to(device)
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state  # [n, width, d]

    # Position t predicts token t + 1, so the response is predicted from its start - 1 to its end - 1.
    start = torch.tensor([len(e.prompt) - 1 for e in examples], device=device).unsqueeze(1)
    end = torch.tensor([len(e) - 1 for e in examples], device=device).unsqueeze(1)
    positions = torch.arange(width - 1, device=device)
    mask = (positions >= start) & (positions < end)  # [n, width - 1]
    supervised = hidden[:, :-1][mask].float()  # [supervised tokens, d]
    targets = ids[:, 1:][mask]
    with torch.autocast(device.type, enabled=False):  # logits are never rounded to bf16
        head = model.get_output_embeddings()
        chunks = zip(supervised.split(chunk_tokens), targets.split(chunk_tokens), strict=True)
        token_logps = torch.cat([checkpoint(_chunk_logps, head, h, t, use_reentrant=False) for h, t in chunks])
    table = torch.zeros(mask.shape, device=device).masked_scatter(mask, token_logps)
    count = mask.sum(1, keepdim=True)
    # The response's own states (one position later than those that predict it), last token included.
    features = masked_sum(hidden[:, 1:].float(), mask.unsqueeze(-1), axis=1) / count
    return masked_sum(table, mask), features


def _chunk_logps(head: torch.nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    logits = head(hidden).float()
    return logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)
