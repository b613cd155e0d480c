"""log softmax of the head at chosen targets, in float32, never holding logits for more than one chunk.

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
        value, normalizer = hidden.new_empty(len(targets)), hidden.new_empty(len(targets))
        kind = hidden.device.type
        ctx.dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        with torch.autocast(kind, enabled=False), _tensor_cores(ctx.dtype):
            for part in _parts(len(targets), chunk_tokens):
                logits = _logits(hidden[part], weight, bias)
                torch.logsumexp(logits, -1, out=normalizer[part])
                value[part] = logits.gather(-1, targets[part].unsqueeze(-1)).squeeze(-1)
        ctx.save_for_backward(hidden, weight, bias, targets, normalizer)
        ctx.chunk_tokens = chunk_tokens
        return value - normalizer

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        hidden, weight, bias, targets, normalizer = ctx.saved_tensors
        to_hidden, to_weight, to_bias = (
            torch.zeros_like(x) if x is not None and need else None
            for x, need in zip((hidden, weight, bias), ctx.needs_input_grad[:3], strict=True)
        )
        narrow = weight.to(ctx.dtype)
        with torch.autocast(hidden.device.type, enabled=False), _tensor_cores(ctx.dtype):
            for part in _parts(len(targets), ctx.chunk_tokens):
                # d value / d logits = one-hot - probabilities
                slope = _logits(hidden[part], weight, bias).sub_(normalizer[part].unsqueeze(-1)).exp_()
                slope.mul_(-gradient[part].unsqueeze(-1))
                slope.scatter_add_(-1, targets[part].unsqueeze(-1), gradient[part].unsqueeze(-1))
                if to_bias is not None:
                    to_bias += slope.sum(0)
                slope = slope.to(ctx.dtype)
                if to_hidden is not None:
                    to_hidden[part] = slope @ narrow
                if to_weight is not None and slope.dtype == to_weight.dtype:
                    to_weight.addmm_(slope.T, hidden[part])
                elif to_weight is not None:
                    to_weight += slope.T @ hidden[part].to(ctx.dtype)
        return to_hidden, to_weight, to_bias, None, None


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


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    logits = hidden @ weight.T
    return logits if bias is None else logits.add_(bias)
