"""What a batch does to its pairs before their losses are taken: scores centred, sorted, or measured by the longest.

Such a function is right, or a constant, on single pairs. Each idea changes the inputs of the objective that was asked
for, whose losses are then held against those of the function on a whole batch.
"""

from collections.abc import Callable

import numpy as np

from derivations.conformance.batches import Batch, batch_of, join, size, take
from derivations.conformance.families import PAIRS
from derivations.conformance.loss_under_test import Subject

Vector = np.ndarray
SIDES = ("chosen", "rejected")
Scores = Callable[[Batch], tuple[Vector, Vector]]


def batch_change(subject: Subject) -> str:
    """What the function does to a batch of pairs in words; nothing if each pair is for itself."""
    whole = join(PAIRS, batch_of(PAIRS)[:5])
    found = subject.run(whole, gradient=False)
    rows = [take(whole, [i]) for i in range(size(whole))]
    each = np.array([subject.run(row, gradient=False).mean for row in rows])
    if not np.all(np.isfinite(found.value)) or _same(found.value, each if found.value.ndim else each.mean()):
        return ""
    scores = _scores(subject)
    with np.errstate(all="ignore"):
        for words, change in _ideas(scores).items():
            losses = np.asarray(subject.target.losses(change(whole)), dtype=float)
            if _same(found.value, losses if found.value.ndim else losses.mean()):
                return f"{subject.target.name} as named, but in a batch {words}"
    return ""


def _same(found: Vector, meant: Vector | float) -> bool:
    return bool(np.all(np.abs(found - meant) <= 1e-6 * np.maximum(1.0, np.abs(meant))))


def _scores(subject: Subject) -> Scores:
    """The scores whose difference the objective looks at: means or sums, less the reference's where it has one."""
    target = subject.target

    def scores(batch: Batch) -> tuple[Vector, Vector]:
        named = PAIRS.derive(batch)
        kind = "mean_logp" if target.needs_length else "logp"
        each = [
            named[f"{side}_{kind}"] - (named[f"ref_{side}_{kind}"] if target.needs_reference else 0.0) for side in SIDES
        ]
        return each[0], each[1]

    return scores


def _ideas(scores: Scores) -> dict[str, Callable[[Batch], Batch]]:
    def margin(batch: Batch) -> Vector:
        w, l = scores(batch)
        return w - l

    def per_score(batch: Batch, raised: Vector, side: str = "chosen") -> Batch:
        """The scores of one side raised, by their tokens."""
        now = scores(_raised(batch, np.ones(size(batch)), side))[SIDES.index(side)]
        worth = now - scores(batch)[SIDES.index(side)]
        return _raised(batch, raised / worth, side)

    def spread(ddof: int, centred: bool) -> Callable[[Batch], Batch]:
        def change(batch: Batch) -> Batch:
            m = margin(batch)
            meant = (m - m.mean() * centred) / m.std(ddof=ddof)
            return per_score(batch, meant - m)

        return change

    def by_length(longest: Callable[[Vector], float]) -> Callable[[Batch], Batch]:
        def change(batch: Batch) -> Batch:
            for side in SIDES:
                n = batch[f"{side}_mask"].sum(-1, keepdims=True)
                share = n / longest(n)
                batch = batch | {f"{r}{side}_logps": batch[f"{r}{side}_logps"] * share for r in ("", "ref_")}
            return batch

        return change

    def ordered(descending: bool) -> Callable[[Batch], Batch]:
        def change(batch: Batch) -> Batch:
            orders = [np.argsort(s)[:: -1 if descending else 1] for s in scores(batch)]
            return _reordered(batch, orders[0], orders[1])

        return change

    return {
        "the mean margin is taken from every margin": lambda b: per_score(b, -margin(b).mean() + 0 * margin(b)),
        "the margins are divided by their deviation (sample)": spread(1, False),
        "the margins are divided by their deviation (population)": spread(0, False),
        "the margins are standardized (sample deviation)": spread(1, True),
        "the margins are standardized (population deviation)": spread(0, True),
        "every margin is the mean margin": lambda b: per_score(b, margin(b).mean() - margin(b)),
        "the scores of the chosen responses are centred": lambda b: per_score(b, -scores(b)[0].mean() + 0 * margin(b)),
        "every rejected score is the mean of the rejected scores": lambda b: per_score(
            b, scores(b)[1].mean() - scores(b)[1], "rejected"
        ),
        "every chosen score is the mean of the chosen scores": lambda b: per_score(
            b, scores(b)[0].mean() - scores(b)[0]
        ),
        "every rejected score is the largest of the rejected scores": lambda b: per_score(
            b, scores(b)[1].max() - scores(b)[1], "rejected"
        ),
        "chosen and rejected scores are sorted before they are subtracted, so pairs are torn apart": ordered(False),
        "chosen and rejected scores are sorted from the largest before they are subtracted, so pairs are torn apart": (
            ordered(True)
        ),
        "each chosen response meets the next pair's rejected one": lambda b: _reordered(
            b, np.arange(size(b)), np.roll(np.arange(size(b)), -1)
        ),
        "each chosen response meets the pair before's rejected one": lambda b: _reordered(
            b, np.arange(size(b)), np.roll(np.arange(size(b)), 1)
        ),
        "each chosen response meets the rejected one from the other end": lambda b: _reordered(
            b, np.arange(size(b)), np.arange(size(b))[::-1]
        ),
        "log-probs are divided by the longest response's length on their side, not by their own": by_length(np.max),
        "log-probs are divided by the mean length on their side, not by their own": by_length(np.mean),
    }  # fmt: skip


def _raised(batch: Batch, by: Vector, side: str) -> Batch:
    """The first token of one side of every pair raised."""
    name = f"{side}_logps"
    changed = batch[name].copy()
    first = batch[f"{side}_mask"].argmax(-1)
    changed[np.arange(len(changed)), first] += by
    return batch | {name: changed}


def _reordered(batch: Batch, chosen: Vector, rejected: Vector) -> Batch:
    return {name: array[chosen if "chosen" in name else rejected] for name, array in batch.items()}
