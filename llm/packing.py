"""Packing: responses to one prompt behind that prompt, several prompts in a row, next to no padding.

A group is one prompt and its responses. In a row it lies as prompt, first response, second response,
...; each response sees the prompt and itself, nothing else, and its positions go on from the prompt's
end. So the prompt runs through the model once, whether its responses are a pair, a ranking or the k
samples of policy gradient, and every log-prob is the one of the sequence alone. Short groups share a row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

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


def lengths(examples: Sequence[Example]) -> Tensor:
    """Response lengths in tokens, EOS included: float32 [n]."""
    return torch.tensor([float(len(e.response)) for e in examples])


@dataclass(frozen=True)
class Pack:
    """Rows of one forward pass, and where its log-probs are read.

    ids, positions: [rows, width]. group, branch: [rows, width]; which prompt a token belongs to (-1:
    padding), and 0 for prompt tokens, 1, 2, ... for its responses. The others run over the response
    tokens of `examples` one after another [response tokens]: predictor and own are flat indices of the
    states before and at the token, target is its id. examples: indices into the caller's list.
    """

    ids: Tensor
    positions: Tensor
    group: Tensor
    branch: Tensor
    predictor: Tensor
    own: Tensor
    target: Tensor
    examples: tuple[int, ...]
    sizes: tuple[int, ...]  # response tokens of each example
    layout: tuple[tuple[tuple[int, ...], ...], ...]  # rows of groups of lengths: prompt, first response, ...

    def to(self, device: torch.device) -> "Pack":
        """The same with its tensors on a device."""
        names = ("ids", "positions", "group", "branch", "predictor", "own", "target")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def mask(self) -> Tensor:
        """[rows, 1, width, width], true where the query (row) may look at the key (column)."""
        width = self.ids.shape[1]
        causal = torch.ones(width, width, dtype=torch.bool, device=self.ids.device).tril()
        same_group = self.group.unsqueeze(2) == self.group.unsqueeze(1)
        key_branch = self.branch.unsqueeze(1)
        own_branch = (key_branch == 0) | (key_branch == self.branch.unsqueeze(2))
        return (causal & same_group & own_branch).unsqueeze(1)


Group = list[int]  # indices of examples with one prompt


def packs(examples: Sequence[Example], *, batch_tokens: int, row_tokens: int) -> Iterator[Pack]:
    """The examples in packs of at most `batch_tokens` places (or one group, if that alone is longer).

    row_tokens: the responses to one prompt are spread over several groups, each with its own copy of the
    prompt, where they would pass this many tokens together; attention costs the square of a row.
    """
    groups = prompt_groups(examples, row_tokens=row_tokens)
    sizes = [len(examples[g[0]].prompt) + sum(len(examples[i].response) for i in g) for g in groups]
    for rows in place_rows(sizes, batch_tokens):
        yield _pack(examples, [[groups[i] for i in row] for row in rows])


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


def _pack(examples: Sequence[Example], rows: Sequence[Sequence[Group]]) -> Pack:
    layout = tuple(
        tuple((len(examples[g[0]].prompt), *(len(examples[i].response) for i in g)) for g in row) for row in rows
    )
    width = -(-max(sum(map(sum, row)) for row in layout) // ROUND) * ROUND
    ids, positions, branch = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(3))
    group = torch.full((len(rows), width), -1)
    predictor, own, order = [], [], []
    for r, row in enumerate(rows):
        at = 0
        for number, indices in enumerate(row):
            prompt = examples[indices[0]].prompt
            start, first = at, len(prompt)
            parts = [prompt, *(examples[i].response for i in indices)]
            for b, part in enumerate(parts):
                span = slice(at, at + len(part))
                ids[r, span] = torch.tensor(part)
                positions[r, span] = torch.arange(len(part)) + (first if b else 0)
                group[r, span] = number
                branch[r, span] = b
                if b:  # the first token is predicted at the prompt's end, the others one place before theirs
                    flat = torch.arange(at, at + len(part)) + r * width
                    own.append(flat)
                    predictor.append(torch.cat([torch.tensor([r * width + start + first - 1]), flat[:-1]]))
                at += len(part)
            order += indices
    place = torch.cat(own)
    sizes = tuple(len(examples[i].response) for i in order)
    target = ids.flatten()[place]
    return Pack(ids, positions, group, branch, torch.cat(predictor), place, target, tuple(order), sizes, layout)
