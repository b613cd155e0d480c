"""Advantages that went to another sample, or whose deviation runs over the prompts; and linear ones, read off."""

from collections.abc import Callable, Iterator

import numpy as np

from derivations.conformance.advantage_candidates import GUARDS, candidate_advantages, of_equal_groups
from derivations.conformance.batches import Batch
from derivations.conformance.calls import CallError
from derivations.conformance.families import ADVANTAGE
from derivations.conformance.laws import number
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.token_weights import groups_of

Vector = np.ndarray
Advantages = Callable[[Batch], Vector]
ORDERS: dict[str, Callable[[Vector], Vector]] = {
    "handed to the sample at the other end of its prompt": lambda a: a[::-1],
    "handed to the next sample of its prompt": lambda a: np.roll(a, 1),
    "handed to the sample before it in its prompt": lambda a: np.roll(a, -1),
    "sorted within its prompt": np.sort,
    "its softmax within its prompt": lambda a: np.exp(a - a.max()) / np.exp(a - a.max()).sum(),
    "summed up with those before it in its prompt": np.cumsum,
}
OVER_THE_BATCH: dict[str, Callable[[Vector], Vector]] = {
    "handed to the sample at the other end of the batch": lambda a: a[::-1],
    "handed to the next sample of the batch": lambda a: np.roll(a, 1),
    "handed to the sample before it in the batch": lambda a: np.roll(a, -1),
}


def slips(subject: Subject) -> Iterator[tuple[str, Advantages]]:
    """Usual advantages over deviations of the samples in the same place, then in another order."""
    for kind, ddof in (("sample", 1), ("population", 0)):
        for guard in GUARDS:
            over = f"over the {kind} deviation over prompts of the samples in its place + {guard:g}"
            for words, axis in (("reward minus the group's mean", 1), ("reward minus the mean over prompts", 0)):
                yield (
                    f"{words}, {over}",
                    of_equal_groups(
                        lambda _, t, x=axis, d=ddof, g=guard: _by_place(t, x, d, g)  # type: ignore[misc]
                    ),
                )
    for words, advantages in candidate_advantages(subject, changed=False):
        if "batch" not in words and ("," not in words or words.startswith("reward minus the group's mean, over the")):
            for changed, order in ORDERS.items():
                yield f"{words or 'the advantage'}, {changed}", _reordered(advantages, order)
            yield f"{words or 'the advantage'}, less its mean over prompts in its place", _less_its_place(advantages)
            for changed, order in OVER_THE_BATCH.items():
                yield f"{words or 'the advantage'}, {changed}", lambda b, f=advantages, o=order: o(f(b))  # type: ignore[misc]


def _by_place(table: Vector, axis: int, ddof: int, guard: float) -> Vector:
    """A table of rewards [prompts, samples], less its means, over the deviations over prompts; NaN for one prompt."""
    if len(table) <= ddof:
        return np.full(table.size, np.nan)
    found = (table - table.mean(axis, keepdims=True)) / (table.std(0, ddof=ddof, keepdims=True) + guard)
    return found.ravel()


def _less_its_place(advantages: Advantages) -> Advantages:
    def changed(batch: Batch) -> Vector:
        found, rows = advantages(batch), groups_of(batch)
        if len({len(row) for row in rows}) > 1:
            return np.full(len(found), np.nan)
        table = found.reshape(len(rows), -1)
        left: Vector = (table - table.mean(0)).ravel()
        return left

    return changed


def _reordered(advantages: Advantages, order: Callable[[Vector], Vector]) -> Advantages:
    def changed(batch: Batch) -> Vector:
        found = advantages(batch).copy()
        for rows in groups_of(batch):
            found[rows] = order(found[rows])
        return found

    return changed


def several_prompts(subject: Subject, draw: int = 5) -> list[Batch]:
    """Batches of several prompts of equal size, for what is undefined for one prompt alone."""
    found = []
    for seed in range(draw):
        rng, prompts, k = np.random.default_rng([29, seed]), 2 + seed % 3, 2 + (seed + 1) % 3
        n = prompts * k
        batch: Batch = {"rewards": rng.normal(0.4, 1.0, n).round(2), "group": np.repeat(np.arange(prompts), k)}
        if subject.target.family is not ADVANTAGE:
            mask = np.arange(4)[None] < rng.integers(1, 5, n)[:, None]
            logps = rng.uniform(-2.5, -0.1, mask.shape).round(2)
            batch |= {"mask": mask, "logps": logps, "old_logps": logps.copy(), "ref_logps": logps - 0.1}
        found.append(batch)
    return found


def linear_advantages(subject: Subject) -> str:
    """Advantages that are linear in the rewards, sample by sample, in words; nothing if they are not."""
    if subject.target.family is not ADVANTAGE:
        return ""
    for prompts, k in ((1, 3), (1, 4), (2, 2), (2, 3)):
        try:
            words = _linear(subject, prompts, k)
        except CallError:
            continue
        if words:
            return words
    return ""


def _linear(subject: Subject, prompts: int, k: int) -> str:
    n, group = prompts * k, np.repeat(np.arange(prompts), k)

    def value(rewards: Vector) -> Vector:
        found: Vector = subject.run({"rewards": rewards, "group": group}, gradient=False).value
        return found

    start, rewards = value(np.zeros(n)), np.random.default_rng(5).normal(size=n)
    matrix = np.stack([value(row) - start for row in np.eye(n)], 1)
    left = np.abs(matrix @ rewards + start - value(rewards)).max()
    if not left < 1e-9 or not np.abs(matrix).max() > 1e-9:
        return ""
    where = f"of {k} samples of one prompt" if prompts == 1 else f"of {prompts} prompts of {k} samples"
    return f"linear in the rewards: {where} they are {'; '.join(_row(*row) for row in zip(matrix, start, strict=True))}"


def _row(factors: Vector, constant: float) -> str:
    parts = [
        f"{'-' if c < 0 else '+'} {'' if abs(abs(c) - 1) < 1e-9 else number(abs(float(c))) + ' '}r{i + 1}"
        for i, c in enumerate(factors)
        if abs(c) > 1e-9
    ]
    parts += [f"{'-' if constant < 0 else '+'} {number(abs(float(constant)))}"] if abs(constant) > 1e-9 else []
    return " ".join(parts).removeprefix("+ ") or "0"
