"""log softmax of the head at chosen targets, in float32, never holding logits for more than one chunk.

A chunk is some positions, on a CPU by a block of the vocabulary.
Forward keeps one number a position, the log of the normalizer; backward makes each chunk's logits
again, turns them into probabilities in place and multiplies on. Hidden states may come from a bf16
backbone: they are raised to float32 first, so no logit is ever rounded to bf16. Under bf16 autocast
only the two products that pass the gradient on (never a logit) run in bf16, as they do everywhere else.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

BLOCK = 8192  # entries of the vocabulary whose logits are held at once on a CPU


def head_logps(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, bias: Tensor | None = None, chunk_tokens: int
) -> Tensor:
    """log softmax(hidden @ weight.T + bias)[target]: [n, d], [vocabulary, d], [n] -> float32 [n] (float64 stays).

    chunk_tokens: positions whose logits are held at once.
    """
    if hidden.dtype != torch.float64:
        hidden = hidden.float()
    return _HeadLogps.apply(hidden, weight.to(hidden.dtype), None if bias is None else bias.to(hidden.dtype), targets,
                            chunk_tokens)  # fmt: skip


class _HeadLogps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, chunk_tokens: int
    ) -> Tensor:
        value, normalizer = hidden.new_zeros(len(targets)), hidden.new_empty(len(targets))
        kind = hidden.device.type
        ctx.dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        with torch.autocast(kind, enabled=False), _tensor_cores(ctx.dtype):
            for part in _parts(len(targets), chunk_tokens):
                sums = []
                for block in _blocks(weight):
                    logits = _logits(hidden[part], weight, bias, block)
                    sums.append(logits.logsumexp(-1))
                    place, inside = _within(targets[part], block)
                    value[part] += logits.gather(-1, place).squeeze(-1).where(inside, 0.0)
                normalizer[part] = torch.stack(sums).logsumexp(0)
        ctx.save_for_backward(hidden, weight, bias, targets, normalizer)
        ctx.chunk_tokens = chunk_tokens
        return value - normalizer

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        hidden, weight, bias, targets, _ = ctx.saved_tensors
        in_place = _in_place and weight.is_leaf and weight.requires_grad
        if in_place and weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        to_hidden, to_weight, to_bias = (
            torch.zeros_like(x) if x is not None and need else None
            for x, need in zip((hidden, None if in_place else weight, bias), ctx.needs_input_grad[:3], strict=True)
        )
        with torch.autocast(hidden.device.type, enabled=False), _tensor_cores(ctx.dtype):
            for block in _blocks(weight):
                narrow = weight[block].to(ctx.dtype)
                target = weight.grad if in_place else to_weight
                for part in _parts(len(targets), ctx.chunk_tokens):
                    slope = _slope(ctx, gradient[part], part, block)
                    if to_bias is not None:
                        to_bias[block] += slope.sum(0)
                    slope = slope.to(ctx.dtype)
                    if to_hidden is not None:
                        to_hidden[part] += slope @ narrow
                    if target is not None and slope.dtype == target.dtype:
                        target[block].addmm_(slope.T, hidden[part])
                    elif target is not None:
                        target[block] += slope.T @ hidden[part].to(ctx.dtype)
        return to_hidden, to_weight, to_bias, None, None


def _slope(ctx: Any, gradient: Tensor, part: slice, block: slice) -> Tensor:
    """Gradient of a part's logits in a block: d value / d logits = one-hot - probabilities."""
    hidden, weight, bias, targets, normalizer = ctx.saved_tensors
    slope = _logits(hidden[part], weight, bias, block).sub_(normalizer[part].unsqueeze(-1)).exp_()
    slope.mul_(-gradient.unsqueeze(-1))
    place, inside = _within(targets[part], block)
    return slope.scatter_add_(-1, place, gradient.where(inside, 0.0).unsqueeze(-1))


_in_place = False


@contextmanager
def weight_gradient_in_place(allowed: bool) -> Iterator[None]:
    """Backward passes within add the gradient of a head's weight to its `.grad` themselves: no second
    [vocabulary, d]. Not where others wait for that gradient (DDP's hooks, `torch.autograd.grad`)."""
    global _in_place
    before, _in_place = _in_place, allowed
    try:
        yield
    finally:
        _in_place = before


@contextmanager
def _tensor_cores(dtype: torch.dtype) -> Iterator[None]:
    """On a GPU, under bf16: float32 products as TF32. The states come from bf16, which TF32 holds exactly; weights
    keep 11 bits, where a bf16 head would leave them 8. Here alone: rotary angles must not be made so."""
    switch = torch.backends.cuda.matmul
    before = switch.allow_tf32
    switch.allow_tf32 = before or dtype == torch.bfloat16
    try:
        yield
    finally:
        switch.allow_tf32 = before


def _parts(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _blocks(weight: Tensor) -> list[slice]:
    """Parts of the vocabulary. On a CPU small ones, which stay in the cache and in memory that malloc keeps."""
    return _parts(len(weight), BLOCK if weight.device.type == "cpu" else len(weight))


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, block: slice) -> Tensor:
    logits = hidden @ weight[block].T
    return logits if bias is None else logits.add_(bias[block])


def _within(targets: Tensor, block: slice) -> tuple[Tensor, Tensor]:
    """Places of the targets in the block [n, 1], and which of them are in it [n]; the others' places mean nothing."""
    inside = (targets >= block.start) & (targets < block.stop)
    return (targets - block.start).clamp(0, block.stop - block.start - 1).unsqueeze(-1), inside
