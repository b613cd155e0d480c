"""Packing: responses to one prompt behind that prompt, several prompts in a row, next to no padding.

A group is one prompt and its responses. In a row it lies as prompt, first response, second response,
...; each response sees the prompt and itself, nothing else, and its positions go on from the prompt's
end. So the prompt runs through the model once, whether its responses are a pair, a ranking or the k
samples of policy gradient, and every log-prob is the one of the sequence alone. Short groups share a row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

HOST = torch.device("cpu")
ROUND = 16  # a row's width is a multiple of it: oneDNN, which never frees all of a kernel, then meets few shapes


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


def lengths(examples: Sequence[Example], device: torch.device = HOST) -> Tensor:
    """Response lengths in tokens, EOS included: float32 [n]."""
    return on_device([float(len(e.response)) for e in examples], device, torch.float32)


def on_device(values: Sequence[float], device: torch.device, dtype: torch.dtype = torch.long) -> Tensor:
    """The numbers as a tensor [n] there. A GPU is not waited for: the copy is queued behind its other work."""
    tensor = torch.tensor(values, dtype=dtype)
    if device.type == "cuda" and torch.cuda.is_available():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def put_back(order: Sequence[int], device: torch.device) -> Tensor:
    """Where each item is now, after they were put in this order: [n] on the device."""
    places: list[int] = sorted(range(len(order)), key=lambda i: order[i])
    return on_device(places, device)


@dataclass(frozen=True)
class Pack:
    """Rows of one forward pass, and where its log-probs are read.

    ids, positions: [rows, width]. group, branch: [rows, width]; which prompt a token belongs to (-1:
    padding), and 0 for prompt tokens, 1, 2, ... for its responses. The others run over the response
    tokens of `examples` one after another [response tokens]: predictor and own are flat indices of the
    states before and at the token, target is its id. examples: indices into the caller's list. lengths: `sizes`
    on the device.
    """

    ids: Tensor
    positions: Tensor
    group: Tensor
    branch: Tensor
    predictor: Tensor
    own: Tensor
    target: Tensor
    lengths: Tensor
    examples: tuple[int, ...]
    sizes: tuple[int, ...]  # response tokens of each example
    layout: tuple[tuple[tuple[int, ...], ...], ...]  # rows of groups of lengths: prompt, first response, ...

    def mask(self) -> Tensor:
        """[rows, 1, width, width], true where the query (row) may look at the key (column)."""
        width = self.ids.shape[1]
        causal = torch.ones(width, width, dtype=torch.bool, device=self.ids.device).tril()
        same_group = self.group.unsqueeze(2) == self.group.unsqueeze(1)
        key_branch = self.branch.unsqueeze(1)
        own_branch = (key_branch == 0) | (key_branch == self.branch.unsqueeze(2))
        own_place = torch.eye(width, dtype=torch.bool, device=self.ids.device)  # what padding sees, lest it see nothing
        return (causal & same_group & own_branch & ((self.group >= 0).unsqueeze(1) | own_place)).unsqueeze(1)


Group = list[int]  # indices of examples with one prompt
BLOCK = 128  # FlexAttention skips blocks of so many queries and keys


def packs(
    examples: Sequence[Example],
    *,
    batch_tokens: int,
    row_tokens: int,
    one_row: bool = False,
    device: torch.device = HOST,
) -> Iterator[Pack]:
    """The examples in packs of at most `batch_tokens` places (or one group, if that alone is longer).

    Args:
        examples: in any order; equal prompts are shared.
        batch_tokens: most places of a pack.
        row_tokens: the responses to one prompt are spread over several groups, each with its own copy of the
            prompt, where they would pass this many tokens together; attention costs the square of a row.
        one_row: each pack is one row of `batch_tokens` places (rounded up to whole blocks of 128), whatever is in
            it, so that a kernel compiled for that shape is compiled once.
        device: where the tensors are made.
    """
    groups = prompt_groups(examples, row_tokens=row_tokens)
    sizes = [len(examples[g[0]].prompt) + sum(len(examples[i].response) for i in g) for g in groups]
    if one_row:
        for places in fill_rows(sizes, batch_tokens):
            width = max(batch_tokens, sum(sizes[i] for i in places))
            yield _pack(examples, [[groups[i] for i in places]], -width // BLOCK * -BLOCK, device)
        return
    for rows in place_rows(sizes, batch_tokens):
        width = max(sum(sizes[i] for i in row) for row in rows)
        yield _pack(examples, [[groups[i] for i in row] for row in rows], -width // ROUND * -ROUND, device)


def prompt_groups(examples: Sequence[Example], *, row_tokens: int) -> list[Group]:
    """Examples by equal prompt, each group of at most `row_tokens` tokens (or one response)."""
    groups: list[Group] = []
    open_group: dict[tuple[int, ...], tuple[Group, int]] = {}
    for i, e in enumerate(examples):
        group, size = open_group.get(e.prompt, ([], 0))
        if not group or size + len(e.response) > row_tokens:
            group, size = [], len(e.prompt)
            groups.append(group)
        group.append(i)
        open_group[e.prompt] = (group, size + len(e.response))
    return groups


def place_rows(sizes: Sequence[int], batch_tokens: int) -> Iterator[list[list[int]]]:
    """Packs of rows of indices: first fit, longest first; the longest of a pack sets its width."""
    left = sorted(range(len(sizes)), key=lambda i: -sizes[i])
    while left:
        width = sizes[left[0]]
        rows: list[list[int]] = []
        room: list[int] = []
        later: list[int] = []
        for i in left:
            row = next((r for r, free in enumerate(room) if free >= sizes[i]), len(rows))
            if row == len(rows):
                if rows and (len(rows) + 1) * width > batch_tokens:
                    later.append(i)
                    continue
                rows.append([])
                room.append(width)
            rows[row].append(i)
            room[row] -= sizes[i]
        yield rows
        left = later


def fill_rows(sizes: Sequence[int], width: int) -> list[list[int]]:
    """Single rows of indices: first fit, longest first, as few rows as that takes."""
    rows: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        row = next((r for r, free in enumerate(room) if free >= sizes[i]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(width)
        rows[row].append(i)
        room[row] -= sizes[i]
    return rows


def _pack(examples: Sequence[Example], rows: Sequence[Sequence[Group]], width: int, device: torch.device) -> Pack:
    """Python sees every prompt and response once, as a whole; what is said of single tokens is computed from their
    lengths on the device, behind one transfer."""
    layout = tuple(
        tuple((len(examples[g[0]].prompt), *(len(examples[i].response) for i in g)) for g in row) for row in rows
    )
    ids: list[int] = []
    parts: list[tuple[int, int, int, int]] = []  # of prompts, responses, padding: size, group, branch, first position
    responses: list[tuple[int, int, int]] = []  # size, place of the first token, place of the prompt's last
    for r, row in enumerate(rows):
        for number, indices in enumerate(row):
            prompt = examples[indices[0]].prompt
            ids += prompt
            last = len(ids) - 1
            parts.append((len(prompt), number, 0, 0))
            for branch, i in enumerate(indices, start=1):
                response = examples[i].response
                responses.append((len(response), len(ids), last))
                parts.append((len(response), number, branch, len(prompt)))
                ids += response
        padding = (r + 1) * width - len(ids)
        parts.append((padding, -1, 0, 0))
        ids += [0] * padding
    columns = [ids, *(list(column) for column in (*zip(*parts, strict=True), *zip(*responses, strict=True)))]
    sent = on_device([x for column in columns for x in column], device).split([len(column) for column in columns])
    flat, size, group, branch, first, lengths, start, before = sent
    part, offset = _spread(size, len(ids))
    group = group[part]
    positions = first[part] + torch.where(group < 0, 0, offset)
    one, within = _spread(lengths, sum(n for n, _, _ in responses))
    own = start[one] + within
    # the first token is predicted at the prompt's end, the others one place before theirs
    predictor = torch.where(within == 0, before[one], own - 1)
    shape = (len(rows), width)
    return Pack(
        ids=flat.reshape(shape),
        positions=positions.reshape(shape),
        group=group.reshape(shape),
        branch=branch[part].reshape(shape),
        predictor=predictor,
        own=own,
        target=flat[own],
        lengths=lengths,
        examples=tuple(i for row in rows for indices in row for i in indices),
        sizes=tuple(n for n, _, _ in responses),
        layout=layout,
    )


def _spread(sizes: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """For each token of parts of these sizes, one after another: its part, and its place in it. [total] each."""
    part = torch.repeat_interleave(sizes, output_size=total)  # told the size, a GPU need not be asked for it
    return part, torch.arange(total, device=sizes.device) - (sizes.cumsum(0) - sizes)[part]
