"""Inputs for the laws: small batches with short numbers, and what may be done to a batch without changing its meaning.

Batches are dictionaries of NumPy arrays under the canonical names of a family. They go from small to
large, so the first that fails a law is the smallest, and their numbers have two decimals, so a report
shows exactly what was fed in.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from derivations.conformance.families import (
    ADVANTAGE,
    ENTROPY,
    KL_FAMILY,
    OFF_POLICY,
    PAIRS,
    POLICY_GRADIENT,
    RANKINGS,
    UNPAIRED,
    Family,
)
from derivations.conformance.single import (
    VERIFIED,
    Batch,
    drawn_before,
    pair,
    ranking,
    samples,
    tokens_with_logits,
    unpaired,
    with_hole,
)

__all__ = ["Batch", "pair", "ranking", "samples"]


def examples(family: Family, *, top: int | None = None) -> list[Batch]:
    """Examples of a family from small to large, each the least that can stand alone (a pair, a prompt's samples).

    top: only rankings that have so many places.
    """
    key = (family.name, family.clip, top)
    if key not in _MADE:
        _MADE[key] = _make_examples(family, top)
    return [dict(batch) for batch in _MADE[key]]


_MADE: dict[tuple[object, ...], list[Batch]] = {}  # the same for every function and law; their arrays are read-only


def _make_examples(family: Family, top: int | None) -> list[Batch]:
    rng = np.random.default_rng(20240524)
    makers: dict[str, Callable[[], list[Batch]]] = {
        PAIRS.name: lambda: (
            [pair(rng, w, l) for w, l in ((1, 1), (1, 2), (2, 1), (3, 3), (2, 5), (4, 3))]
            + [with_hole(family, pair(rng, 4, 3))]
        ),
        RANKINGS.name: lambda: [
            *[ranking(rng, lengths) for lengths in ((1, 1), (1, 1, 1), (2, 1, 3), (1, 3, 2), (4, 1, 2))],
            with_hole(family, ranking(rng, (3, 4, 3))),
            *[ranking(rng, lengths) for lengths in ((1, 2, 1, 2), (1, 1, 2, 1, 1))],
        ],
        POLICY_GRADIENT.name: lambda: (
            [samples(rng, lengths) for lengths in ((1, 1), (2, 2), (1, 3), (4, 1), (2, 1, 4))]
            + [with_hole(family, samples(rng, (3, 4)))]
            + [samples(rng, (1, 2, 1, 3, 2)[: len(rewards)], rewards) for rewards in VERIFIED if len(rewards) != 4]
        ),
        OFF_POLICY.name: lambda: (
            [
                drawn_before(rng, lengths, moves, family.clip, rewards)
                for lengths, moves, rewards in (
                    ((1, 1), ("in", "in"), (1.5, -0.5)),
                    ((1, 1), ("up", "up"), (1.5, -0.5)),
                    ((1, 1), ("down", "down"), (1.5, -0.5)),
                    ((2, 3), ("mixed", "mixed"), ()),
                    ((3, 2), ("down", "up"), (0, 1)),
                    ((2, 4), ("in", "mixed"), (1, 0)),
                    ((1, 3, 2), ("down", "mixed", "up"), ()),
                    ((2, 1, 2), ("up", "in", "mixed"), (0, 1, 1)),
                    ((2, 1), ("up", "down"), (1, 1)),
                    ((1, 1), ("low edge", "high edge"), (-0.5, 1.5)),
                    ((1, 2), ("high edge", "low edge"), (-0.5, 1.5)),
                )
            ]
            + [with_hole(family, drawn_before(rng, (3, 4), ("mixed", "in"), family.clip))]
        ),
        UNPAIRED.name: lambda: (
            [
                unpaired(rng, n, good)
                for n, good in ((1, True), (1, False), (3, True), (2, False), (4, False), (1, True))
            ]
            + [with_hole(family, unpaired(rng, 4, True))]
        ),
        ADVANTAGE.name: lambda: [
            {name: samples(rng, (1,) * k, rewards)[name] for name in ("rewards", "group")}
            for k, rewards in (*((k, ()) for k in (2, 3, 4, 4)), *((len(r), r) for r in VERIFIED))
        ],
        KL_FAMILY.name: lambda: [samples(rng, (n,)) for n in (1, 2, 1, 3, 4)] + [with_hole(family, samples(rng, (4,)))],
        ENTROPY.name: lambda: (
            [tokens_with_logits(rng, n) for n in (1, 2, 1, 3, 4)]
            + [with_hole(family, tokens_with_logits(rng, 4)), tokens_with_logits(rng, 2, vocabulary=25)]
        ),
    }
    found = makers[family.name]()
    kept = {*family.token_axis, "ranking", "rewards", "group", "desirable", "kl"}
    if family is KL_FAMILY:
        kept -= {"rewards", "group"}
    found = [batch for batch in found if "ranking" not in batch or batch["ranking"].shape[1] > (top or 1)]
    made = [{name: array for name, array in batch.items() if name in kept} for batch in found]
    for batch in made:
        for array in batch.values():
            array.setflags(write=False)
    return made


def batch_of(family: Family) -> list[Batch]:
    """Examples that fit into one batch, of unequal lengths: what the laws about batches cut, pad and shuffle.

    Rankings of three, one vocabulary, groups of one size (two, and four for advantages), because some codes reshape.
    """
    found = examples(family)
    if family.name in (POLICY_GRADIENT.name, OFF_POLICY.name):
        alike = {name: samples(np.random.default_rng(3), (2, 3))[name] for name in found[0]}
        alike["rewards"] = np.full(2, 0.7)  # nothing to learn from this prompt, which counts in the mean nevertheless
        return [batch for batch in [*found[1:], alike] if size(batch) == 2]
    if family is ADVANTAGE:
        return [batch for batch in found if size(batch) == 4]
    kept = {RANKINGS.name: slice(2, 6), ENTROPY.name: slice(1, 6)}
    return found[kept.get(family.name, slice(1, None))]


def unequal_groups(family: Family) -> list[Batch]:
    """Prompts of three, four, two and four samples: thirteen cannot be reshaped, so codes that do have to raise."""
    rng = np.random.default_rng(7)
    return [
        {name: samples(rng, lengths, rewards)[name] for name in examples(family)[0]}
        for lengths, rewards in (((2, 1, 3), ()), ((1, 2, 4, 1), ()), ((2, 1), (1, 1)), ((1, 2, 1, 3), (0, 1, 0, 0)))
    ]


def endless(family: Family, tokens: int) -> Batch:
    """An example of `tokens` tokens a response, all alike, so that no score is far from another."""
    first = examples(family)[0]
    batch = repeat_tokens(family, first, tokens)
    for name in batch:
        if name.endswith("logps"):
            batch[name] = np.full(batch[name].shape, -0.501 if name.startswith("ref") else -0.5)
    return batch


def holed(family: Family) -> Batch:
    """The example whose mask has a hole."""
    return next(b for b in examples(family) for n, a in b.items() if n.endswith("mask") and not a[..., 1:2].any())


def moved_apart(batch: Batch, names: Sequence[str], step: float) -> Batch:
    """The batch with each number of these arrays moved by another share of step: rankings and advantages do not see
    what moves all alike."""
    shares = {name: np.cos(i + np.arange(batch[name].size)).reshape(batch[name].shape) for i, name in enumerate(names)}
    return batch | {name: batch[name] + step * share for name, share in shares.items()}


def has_hole(batch: Batch) -> bool:
    """Whether an example without padding has places under its mask."""
    return not all(array.all() for name, array in batch.items() if name.endswith("mask"))


def pad(family: Family, batch: Batch, *, left: int = 0, right: int = 0, filler: float = -0.77) -> Batch:
    """Add masked-out positions on either side; `filler` stands under the mask (token ids get 0, the EOS of a pad)."""
    if left == right == 0:
        return batch
    padded = dict(batch)
    for name, axis in family.token_axis.items():
        # not the same under every array: policy and reference would cancel
        other = (
            filler + 0.5
            if name.startswith("ref")
            else filler - 0.3 * (family.name == OFF_POLICY.name and "old" in name)
        )
        padded[name] = pad_one(batch[name], axis, left, right, other)
    return padded


def refill(family: Family, batch: Batch, filler: float) -> Batch:
    """Put `filler` under every false mask. Masks and everything supervised stay."""
    changed = dict(batch)
    for name, axis in family.token_axis.items():
        array = batch[name]
        if np.issubdtype(array.dtype, np.floating):
            mask = batch[_mask_of(name)]
            mask = mask if array.ndim == axis + 1 else mask[..., None]
            changed[name] = np.where(mask, array, filler * (1 + _ramp(array, axis)))
    return changed


def _mask_of(name: str) -> str:
    side = next((side for side in ("chosen", "rejected") if side in name), "")
    return f"{side}_mask" if side else "mask"


def join(family: Family, batches: Sequence[Batch]) -> Batch:
    """One batch of several, padded on the right to the longest."""
    widest = {name: max(batch[name].shape[axis] for batch in batches) for name, axis in family.token_axis.items()}
    rows: list[Batch] = []
    for batch in batches:
        row = dict(batch)
        for name, axis in family.token_axis.items():
            other = -0.27 if name.startswith("ref") else -0.77
            row[name] = pad_one(batch[name], axis, 0, widest[name] - batch[name].shape[axis], other)
        if "group" in row:
            row["group"] = row["group"] + len(rows)  # every batch is one prompt, numbered from 0
        rows.append(row)
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def pad_one(array: np.ndarray, axis: int, left: int, right: int, filler: float) -> np.ndarray:
    """Pad one array along one axis; token ids and masks get 0."""
    if left == right == 0:
        return array
    shape, middle = list(array.shape), [slice(None)] * array.ndim
    shape[axis] += left + right
    middle[axis] = slice(left, left + array.shape[axis])
    padded = np.full(shape, filler if np.issubdtype(array.dtype, np.floating) else 0, dtype=array.dtype)
    if np.issubdtype(array.dtype, np.floating):
        padded *= 1 + _ramp(array, axis)
    padded[tuple(middle)] = array
    return padded


def _ramp(array: np.ndarray, axis: int) -> np.ndarray:
    """What makes the logits under a mask unlike for every word, else 0."""
    return np.arange(array.shape[-1]) / 2 if array.ndim > axis + 1 else np.zeros(1)


def size(batch: Batch) -> int:
    """Number of examples."""
    return len(next(iter(batch.values())))


def take(batch: Batch, rows: Sequence[int]) -> Batch:
    """Some rows of a batch, in this order."""
    return {name: array[list(rows)] for name, array in batch.items()}


def raised(batch: Batch, name: str, by: np.ndarray) -> Batch:
    """The first token under the mask of these log-probs (`chosen_logps`, `ref_logps`, ...) raised in every example."""
    changed = batch[name].copy()
    first = batch[f"{name.removeprefix('ref_').removesuffix('logps')}mask"].argmax(-1)
    changed[np.arange(len(changed)), first] += by
    return batch | {name: changed}


def repeat_tokens(family: Family, batch: Batch, times: int) -> Batch:
    """Every token `times` times over: the mean log-prob stays, the sum is multiplied."""
    return batch | {name: np.repeat(batch[name], times, axis=axis) for name, axis in family.token_axis.items()}


def splits(n: int) -> Iterator[list[list[int]]]:
    """Ways to cut n examples, in order, into micro-batches of unequal size (not the whole at once)."""
    for cuts in itertools.chain.from_iterable(itertools.combinations(range(1, n), k) for k in range(1, n)):
        edges = [0, *cuts, n]
        yield [list(range(a, b)) for a, b in itertools.pairwise(edges)]


def show(batch: Batch, *, hide: Sequence[str] = ()) -> str:
    """A batch as numbers; a mask that is true everywhere goes without saying."""
    shown = []
    for name, array in batch.items():
        if name in hide or (name.endswith("mask") and array.all()):
            continue
        values = array.astype(int) if array.dtype == bool else array.round(6)  # -0.65, not -0.6499999999999999
        shown.append(f"{name} = {values.tolist()}")
    return "; ".join(shown)
