"""Attention over packed rows: each response sees its prompt and itself (`llm.scoring.packing`).

Two ways to compute the same thing, behind one transformers attention named `packed`. On a CPU, one
causal call for each sequence: nothing masked is ever computed. On other devices, one call for all rows
with the explicit mask. `flex_attention` (CUDA) gets the same mask in block form.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from llm.scoring.packing import BLOCK, Pack

NAME = "packed"


class Layout:
    """Rows of groups of part lengths: prompt, first response, ... An object, so that compiled layers pass it on without
    being compiled anew for every layout."""

    def __init__(self, rows: Sequence[Sequence[Sequence[int]]]) -> None:
        self.rows = rows


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    layout: Layout | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """A transformers attention: query [rows, heads, width, d], key and value [rows, key heads, width, d]
    -> [rows, width, heads, d]. Without `layout` (generation, CUDA) it is transformers' own `sdpa`."""
    if layout is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    return _sequence_by_sequence(query, key, value, scaling, layout), None


@torch.compiler.disable
def _sequence_by_sequence(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, layout: Layout) -> Tensor:
    """Under bf16 in float32 all the same: a CPU's kernels are then 15 % faster, and the weights more exact."""
    copies = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, copies), repeat_kv(value, copies)
    wide = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast("cpu", enabled=False):
        each = zip(*(x.to(wide).split(1) for x in (query, key, value)), layout.rows, strict=True)
        rows = [_row(q, k, v, groups, scaling) for q, k, v, groups in each]
    return torch.cat(rows).transpose(1, 2).to(query.dtype)


def _row(query: Tensor, key: Tensor, value: Tensor, groups: Sequence[Sequence[int]], scaling: float | None) -> Tensor:
    """One row: [1, heads, width, d]. Padding at its end gets zeros."""
    sizes = [n for parts in groups for n in parts]
    sizes.append(query.shape[2] - sum(sizes))
    # split, not slices: its backward is one concatenation
    q, k, v = (x.split(sizes, dim=2) for x in (query, key, value))
    out: list[Tensor] = []
    at = 0
    for parts in groups:
        prompt = at
        for i in range(at + 1, at + len(parts)):
            keys, values = (torch.cat([x[prompt], x[i]], 2) for x in (k, v))
            before, own = sizes[prompt], sizes[i]
            if i > prompt + 1 and own < before:  # cheaper than running the prompt's queries again
                mask = torch.ones(own, before + own, dtype=torch.bool).tril(before)
                out.append(scaled_dot_product_attention(q[i], keys, values, attn_mask=mask, scale=scaling))
            else:
                queries = torch.cat([q[prompt], q[i]], 2)
                both = scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=scaling)
                out.append(both if i == prompt + 1 else both.split([before, own], 2)[1])
        at += len(parts)
    return torch.cat([*out, torch.zeros_like(v[-1], dtype=out[0].dtype)], 2)


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def attention_inputs(pack: Pack, implementation: str, device: torch.device) -> dict[str, Any]:
    """What the transformers model is passed so that its attention is the pack's."""
    if implementation == "flex_attention":
        return {"attention_mask": block_mask(pack)}
    if implementation == NAME and device.type == "cpu":
        # A mask of the right rank keeps transformers from making one of its own; `layout` decides.
        return {"attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool), "layout": Layout(pack.layout)}
    return {"attention_mask": pack.mask()}


def block_mask(pack: Pack) -> Any:
    """`Pack.mask` of a pack of one row for FlexAttention, which passes over blocks that are masked throughout.

    Which blocks these are is told from each block's first and last group, since groups lie one after another: no
    mask of single places is made, and nothing is read back from the device. Blocks that are kept for a sibling
    response alone are masked place by place, as all that are seen in part.
    """
    from torch.nn.attention.flex_attention import BlockMask

    group, branch = pack.group, pack.branch

    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own = (branch[row, key] == 0) | (branch[row, key] == branch[row, query])
        same = group[row, query] == group[row, key]
        return (query >= key) & same & own & ((group[row, key] >= 0) | (query == key))

    rows, width = group.shape
    real = group.reshape(rows, width // BLOCK, BLOCK)
    branches = branch.reshape(rows, width // BLOCK, BLOCK)
    first, last = torch.where(real < 0, width, real).amin(-1), real.amax(-1)  # group of a block; width, -1: padding
    one_group = (real.amin(-1) == last) & (last >= 0)
    low, high = branches.amin(-1), branches.amax(-1)
    count = torch.arange(width // BLOCK, device=group.device)
    before, diagonal = count[:, None] > count, count[:, None] == count  # [query block, key block]
    shared = before & (last[:, None, :] >= first[:, :, None])
    whole = before & one_group[:, None, :] & one_group[:, :, None] & (last[:, None, :] == first[:, :, None])
    one_branch = (low == high)[:, None, :] & (low == high)[:, :, None] & (low[:, None, :] == low[:, :, None])
    whole = whole & ((high == 0)[:, None, :] | one_branch)
    partial = (shared & ~whole) | diagonal
    return BlockMask.from_kv_blocks(
        *_blocks(partial), *_blocks(whole), BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=(width, width)
    )


def _blocks(kept: Tensor) -> tuple[Tensor, Tensor]:
    """How many key blocks each query block keeps, and all key blocks, these first: [rows, 1, n] and [rows, 1, n, n]."""
    kept = kept.unsqueeze(1).int()
    return kept.sum(-1, dtype=torch.int32), kept.sort(dim=-1, descending=True, stable=True).indices.int()
