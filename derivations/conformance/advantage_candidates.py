"""Advantages that codes take: every baseline over every deviation, of a prompt or of the batch, and then changed."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from derivations.arrays import log_softmax
from derivations.conformance.batches import Batch
from derivations.conformance.families import ADVANTAGE
from derivations.conformance.how import takes_advantages
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.token_weights import groups_of
from derivations.objectives import rloo_advantage

Vector = np.ndarray
GUARDS = (0.0, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)


def _by_prompt(change: Callable[[Vector], Vector]) -> Callable[[Batch], Vector]:
    def advantages(batch: Batch) -> Vector:
        found = np.zeros(len(batch["rewards"]))
        for rows in groups_of(batch):
            found[rows] = change(batch["rewards"][rows])
        return found

    return advantages


def of_equal_groups(change: Callable[[Vector, Vector], Vector]) -> Callable[[Batch], Vector]:
    """Advantages by the rewards and their table [prompts, samples]; none where prompts have different sizes."""

    def advantages(batch: Batch) -> Vector:
        rewards, rows = batch["rewards"], groups_of(batch)
        if len({len(row) for row in rows}) > 1:
            return np.full(len(rewards), np.nan)
        return change(rewards, np.stack([rewards[row] for row in rows]))

    return advantages


def _the_other_way_round(change: Callable[[Vector], Vector]) -> Callable[[Batch], Vector]:
    """Each prompt's advantages from samples that stand as many places apart as there are prompts."""
    return of_equal_groups(lambda r, table: np.stack([change(row) for row in r.reshape(-1, len(table)).T], 1).ravel())


def _in_turn(over: Callable[[Vector], float]) -> Callable[[Batch], Vector]:
    """Means and deviations of the prompts laid out in turn beside the samples, not each beside its own."""

    def advantages(rewards: Vector, table: Vector) -> Vector:
        means, deviations = np.array([(row.mean(), over(row)) for row in table]).T
        found: Vector = (rewards - np.tile(means, table.shape[1])) / np.tile(deviations, table.shape[1])
        return found

    return of_equal_groups(advantages)


def _turned(base: Callable[[Vector], Vector]) -> Callable[[Batch], Vector]:
    """Each prompt's advantages, handed back place by place and not prompt by prompt."""
    return of_equal_groups(lambda _, table: np.stack([base(row) for row in table], 1).ravel())


def _so_far(summary: Callable[[Vector, Vector], Vector]) -> Callable[[Batch], Vector]:
    """Rewards less a number of those that stand before them in the batch. summary: rewards, their running sums."""
    return lambda batch: batch["rewards"] - summary(batch["rewards"], np.cumsum(batch["rewards"]))


def _over_prompts(summary: Any) -> Callable[[Batch], Vector]:
    """Rewards less what the samples in the same place of every prompt have in common."""
    return of_equal_groups(lambda _, table: (table - summary(table, axis=0)).ravel())


def _of_neighbour(step: int) -> Callable[[Batch], Vector]:
    """Rewards less the mean of another prompt, or of all others (0)."""

    def advantages(batch: Batch) -> Vector:
        rows = groups_of(batch)
        means = np.array([batch["rewards"][row].mean() for row in rows])
        others = (means.sum() - means) / max(1, len(means) - 1) if len(means) > 1 else means
        baseline = np.roll(means, step) if step else others
        return batch["rewards"] - np.repeat(baseline, [len(row) for row in rows])

    return advantages


def _deviations() -> Iterator[tuple[str, Callable[[Vector], float]]]:
    for kind, ddof in (("sample", 1), ("population", 0)):
        for guard in GUARDS:
            yield f"the {kind} deviation + {guard:g}", lambda r, d=ddof, g=guard: float(r.std(ddof=d) + g)  # type: ignore[misc]
        for guard in GUARDS:
            yield f"the {kind} variance + {guard:g}", lambda r, d=ddof, g=guard: float(r.var(ddof=d) + g)  # type: ignore[misc]
        for guard in GUARDS[1:]:
            yield (
                f"the root of the {kind} variance + {guard:g}",
                lambda r, d=ddof, g=guard: float((r.var(ddof=d) + g) ** 0.5),  # type: ignore[misc]
            )
        for least in (0.01, 0.1, 1.0):
            yield (
                f"the {kind} deviation, at least {least:g}",
                lambda r, d=ddof, g=least: float(max(r.std(ddof=d), g)),  # type: ignore[misc]
            )
    for guard in (1e-8, 1e-6, 1e-4):
        yield f"the range + {guard:g}", lambda r, g=guard: float(np.ptp(r) + g)  # type: ignore[misc]
    yield "the largest size + 1e-8", lambda r: float(np.abs(r).max() + 1e-8)
    yield "the sum of sizes about the mean", lambda r: float(np.abs(r - r.mean()).sum() or 1e-300)
    yield "the root of the sum of squares about the mean", lambda r: float(((r - r.mean()) ** 2).sum() ** 0.5 or 1e-300)
    yield "the sum of the rewards", lambda r: float(r.sum() or 1e-300)
    yield "the mean reward", lambda r: float(r.mean() or 1e-300)
    yield "the mean deviation + 1e-8", lambda r: float(np.abs(r - r.mean()).mean() + 1e-8)


BASELINES: dict[str, Callable[[Vector], Vector]] = {
    "leave-one-out": rloo_advantage,
    "reward minus the group's mean": lambda r: r - r.mean(),
    "the plain reward": lambda r: r,
    "reward minus the group's median": lambda r: r - np.median(r),
    "reward minus the group's lower median": lambda r: r - np.sort(r)[(len(r) - 1) // 2],
    "reward minus the group's sum over k - 1": lambda r: r - r.sum() / (len(r) - 1),
    "reward minus the mean of the group and 0": lambda r: r - r.sum() / (len(r) + 1),
    "reward minus 1/2": lambda r: r - 0.5,
    "reward minus the group's best": lambda r: r - r.max(),
    "reward minus the group's worst": lambda r: r - r.min(),
}


def _softmax(rewards: Vector) -> Vector:
    found: Vector = np.exp(log_softmax(rewards))
    return found


RANKS: dict[str, Callable[[Vector], Vector]] = {
    "a softmax of the group's rewards": _softmax,
    "a softmax of the group's rewards minus 1/k": lambda r: _softmax(r) - 1 / len(r),
    "one for the group's best": lambda r: (r == r.max()).astype(float),
}


def _plain(subject: Subject) -> Iterator[tuple[str, Callable[[Batch], Vector]]]:
    """Advantages before they are changed; those of the whole batch after those of a prompt."""
    if takes_advantages(subject):
        yield "", lambda b: np.asarray(b["advantages"]) if "advantages" in b else _by_prompt(rloo_advantage)(b)
        return
    for words, base in BASELINES.items():
        yield words, _by_prompt(base)
    for words, base in RANKS.items():
        yield words, _by_prompt(base)
    yield "reward minus the mean of all rewards so far in the batch", _so_far(lambda r, s: s / np.arange(1, len(r) + 1))
    yield "reward minus the sum of all rewards before it in the batch", _so_far(lambda r, s: s - r)
    yield from _misplaced()
    yield "reward minus the mean over prompts of the samples in its place", _over_prompts(np.mean)
    yield "reward minus the mean of the prompt before", _of_neighbour(1)
    yield "reward minus the next prompt's mean", _of_neighbour(-1)
    yield "reward minus the mean of the other prompts", _of_neighbour(0)
    for over, deviation in _deviations():
        for words, base in BASELINES.items():
            yield f"{words}, over {over}", _by_prompt(lambda r, b=base, d=deviation: b(r) / d(r))  # type: ignore[misc]
    for words, base in BASELINES.items():
        yield words.replace("group", "batch"), lambda b, f=base: f(b["rewards"])  # type: ignore[misc]
    for over, deviation in _deviations():
        for words, base in BASELINES.items():
            yield (
                f"{words}, over {over} of all rewards of the batch",
                lambda b, f=base, d=deviation: _by_prompt(f)(b) / d(b["rewards"]),  # type: ignore[misc]
            )
            yield (
                f"{words.replace('group', 'batch')}, over {over} of its prompt",
                lambda b, f=base, d=deviation: f(b["rewards"]) / _by_prompt(lambda r: 0 * r + d(r))(b),  # type: ignore[misc]
            )
            yield (
                f"{words}, over the mean over prompts of {over}",
                lambda b, f=base, d=deviation: (
                    _by_prompt(f)(b) / np.mean([d(b["rewards"][rows]) for rows in groups_of(b)])  # type: ignore[misc]
                ),
            )
            yield (
                f"{words.replace('group', 'batch')}, over {over}, of the batch",
                lambda b, f=base, d=deviation: f(b["rewards"]) / d(b["rewards"]),  # type: ignore[misc]
            )


def _misplaced() -> Iterator[tuple[str, Callable[[Batch], Vector]]]:
    """Advantages of groups that lie the other way round, or beside others' means: one reshape or repeat is wrong."""
    apart = ", in groups of samples that stand as many places apart as there are prompts"
    turned = ", handed back place by place, so to samples of other prompts (a transpose)"
    for words, base in (BASELINES | RANKS).items():
        yield f"{words}{apart}", _the_other_way_round(base)
        yield f"{words}{turned}", _turned(base)
    in_turn = ", of the prompts in turn, not of its own (repeat for repeat_interleave)"
    yield f"reward minus the mean{in_turn}", _in_turn(lambda r: 1.0)
    for over, deviation in _deviations():
        if " deviation + " in over:
            yield f"reward minus the mean, over {over}{in_turn}", _in_turn(deviation)
            yield (
                f"reward minus the group's mean, over {over}{turned}",
                _turned(lambda r, d=deviation: (r - r.mean()) / d(r)),  # type: ignore[misc]
            )
            yield (
                f"reward minus the group's mean, over {over}{apart}",
                _the_other_way_round(lambda r, d=deviation: (r - r.mean()) / d(r)),  # type: ignore[misc]
            )


def _changes() -> Iterator[tuple[str, Callable[[Vector], Vector]]]:
    yield "", lambda a: a
    for most in (1.0, 2.0, 5.0, 0.5, 10.0, 3.0):
        yield f"clamped at {most:g}", lambda a, m=most: a.clip(-m, m)  # type: ignore[misc]
    yield "its sign alone", np.sign
    yield "without its sign", np.abs
    yield "only where it is positive", lambda a: np.maximum(a, 0)
    yield "only where it is negative", lambda a: np.minimum(a, 0)
    yield "squared", lambda a: a**2
    yield "squared with its sign", lambda a: np.sign(a) * a**2
    yield "its tanh", np.tanh
    yield "its exponential", np.exp
    yield "its sigmoid", lambda a: 1 / (1 + np.exp(-a))
    yield "the square root of its size with its sign", lambda a: np.sign(a) * np.abs(a) ** 0.5
    yield "its exponential minus 1", np.expm1
    for most in (1.0, 0.5, 2.0, 5.0):
        yield f"not above {most:g}", lambda a, m=most: np.minimum(a, m)  # type: ignore[misc]
        yield f"not below {-most:g}", lambda a, m=most: np.maximum(a, -m)  # type: ignore[misc]
        yield f"left out where it is above {most:g}", lambda a, m=most: np.where(a > m, 0.0, a)  # type: ignore[misc]
        yield f"left out where it is below {-most:g}", lambda a, m=most: np.where(a < -m, 0.0, a)  # type: ignore[misc]
    yield "with its negative part halved", lambda a: np.where(a < 0, a / 2, a)
    yield "divided by its largest size in the batch", lambda a: a / (np.abs(a).max() or 1e-300)
    yield "divided by its mean size in the batch", lambda a: a / (np.abs(a).mean() or 1e-300)
    yield "centred once more over the batch", lambda a: a - a.mean()
    for kind, ddof in (("sample", 1), ("population", 0)):
        for guard in (0.0, 1e-8, 1e-6, 1e-5, 1e-4):
            yield (
                f"then whitened over the batch ({kind} deviation)",
                lambda a, d=ddof, g=guard: (a - a.mean()) / (a.std(ddof=d) + g),  # type: ignore[misc]
            )
            yield (
                f"then divided by the {kind} deviation of the batch",
                lambda a, d=ddof, g=guard: a / (a.std(ddof=d) + g),  # type: ignore[misc]
            )


def _over_tokens(advantages: Callable[[Batch], Vector], *, padded: bool) -> Callable[[Batch], Vector]:
    """Advantages less their mean over the tokens of the batch."""

    def centred(batch: Batch) -> Vector:
        a, n = advantages(batch), batch["mask"].sum(-1)
        found: Vector = a - (a * n).sum() / (batch["mask"].size if padded else n.sum())
        return found

    return centred


def candidate_advantages(subject: Subject, *, changed: bool = True) -> Iterator[tuple[str, Callable[[Batch], Vector]]]:
    """Every advantage as it is; then, if asked for, the usual ones, changed."""
    yield from _plain(subject)
    if changed:
        yield from _all_changed(subject)


def _all_changed(subject: Subject) -> Iterator[tuple[str, Callable[[Batch], Vector]]]:
    """The usual advantages, changed."""
    usual = ("", "leave-one-out", "reward minus the group's mean", "the plain reward")
    for words, advantages in _plain(subject):
        if words in usual or (" deviation + " in words and "batch" not in words and words.startswith(usual[2])):
            if subject.target.family is not ADVANTAGE:
                for padded, beside in ((False, ""), (True, " and the padding")):
                    yield (
                        f"{words or 'the advantage'}, less its mean over all tokens{beside}",
                        _over_tokens(advantages, padded=padded),
                    )
            for changed, change in itertools.islice(_changes(), 1, None):
                said = ", ".join(filter(None, [words, changed])) or changed
                yield (said if words else f"the advantage {said}"), lambda b, f=advantages, c=change: c(f(b))  # type: ignore[misc]
