"""Policy gradients that are no named one: which advantage, changed how, and each token weighted how.

At ratio 1 the gradient by a log-prob is -(the sample's advantage) x (the token's weight), whatever the clip. So it is
compared with every advantage under every change and every weight, over single prompts and a batch of them; that names
both, and what the ratio adds can then be looked for with the right ones (`known_off_policy`).
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from derivations.conformance.batches import Batch, batch_of, join
from derivations.conformance.families import ADVANTAGE, OFF_POLICY
from derivations.conformance.how import at_ratio_one
from derivations.conformance.laws import number
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.prompt_weights import prompt_weights
from derivations.conformance.token_weights import groups_of, named_weights, weights_by_powers
from derivations.objectives import rloo_advantage

Vector = np.ndarray
FIT, NEARLY = 1e-6, 1e-3
ODD = (
    "averaged over all tokens of each prompt",
    "averaged over each response's tokens and one more",
    "averaged over the tokens of responses whose",
    "summed over tokens, averaged over responses whose",
    "of each response's",
    "averaged over responses at each place",
)  # weights that are no product of powers of lengths and sizes
GUARDS = (0.0, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)


@dataclass(frozen=True)
class Composite:
    """What was found: the advantages [N] of a batch, the tokens' weights [N, T], and both in words."""

    advantages: Callable[[Batch], Vector]
    weights: Callable[[Batch], Vector]
    factor: float
    words: str
    left: float = 0.0  # of the gradient, as a share


def composite(subject: Subject, gradient: Callable[[Batch], Vector] | None) -> Composite | None:
    """The advantage and the weights that explain the gradient at ratio 1 (or, of advantages, the value), or nothing.

    Args:
        subject: the function. gradient: batch -> [N, T], what is to be explained; None: values of advantages.
    """
    family = subject.target.family
    whole = join(family, batch_of(family))
    data = [*subject.examples, whole]
    if family.name == OFF_POLICY.name:
        data = [at_ratio_one(batch) for batch in data]
    goals = [-gradient(batch) if gradient else subject.run(batch).value.reshape(-1, 1) for batch in data]
    finite = [np.all(np.isfinite(goal)) for goal in goals]
    if not finite[-1] or sum(finite) < 4 or not any(goal.any() for goal in goals):
        return None
    data, goals = (list(itertools.compress(parts, finite)) for parts in (data, goals))
    coarse = subject.rough or not subject.run(data[0]).exact
    for allowed in (1e-4,) if coarse else (FIT, NEARLY):
        if best := _best(subject, data, goals, allowed):
            undefined = "" if all(finite) else "; not finite where all rewards of a prompt are alike"
            return replace(best, words=best.words + undefined)
    found = prompt_weights(data, goals, BASELINES | RANKS, named_weights(subject)[:8])
    return _measured(subject, gradient, found) if found else None


def _measured(subject: Subject, gradient: Callable[[Batch], Vector] | None, words: str) -> Composite:
    """Advantages as the gradient at ratio 1 shows them, of which the words are known."""

    def advantages(batch: Batch) -> Vector:
        return np.ones(len(batch["rewards"]))

    def weights(batch: Batch) -> Vector:
        return -gradient(at_ratio_one(batch)) if gradient else subject.run(batch).value.reshape(-1, 1)

    return Composite(advantages, weights, 1.0, words)


def _best(subject: Subject, data: list[Batch], goals: list[Vector], allowed: float) -> Composite | None:
    """The one that fits best, the plainest of those that fit alike."""
    best, least = None, np.inf
    for found, left in _fits(subject, data, goals, allowed):
        rank = left + (1.0 if ", times " in found.words else 0.0)
        if rank < least - 1e-9:
            best, least = found, rank
        if rank < 1e-9:
            break
    if best and allowed == NEARLY:
        return replace(best, words=f"{best.words}, to within {least % 0.5:.1g} of it", left=least % 0.5)
    return best


def _fits(
    subject: Subject, data: list[Batch], goals: list[Vector], allowed: float
) -> Iterator[tuple[Composite, float]]:
    """Every advantage and weight that explains the numbers, with what is left over.

    The last batch has the most prompts and responses, so that nearly all are given up after it alone.
    """
    weights = named_weights(subject)
    odd = [
        weigh if "advantage" in how else lambda b, a, w=weigh(data[-1], np.ones(len(goals[-1]))): w  # type: ignore[misc]
        for how, weigh in weights
        if how.startswith(ODD) or "probability" in how
    ]
    for what, advantages in _advantages(subject):
        with np.errstate(all="ignore"):
            if allowed == NEARLY and " over " in what:
                continue
            if not _may_fit(data[-1], advantages(data[-1]), goals[-1], odd, allowed):
                continue
            each = [advantages(b) for b in data]
        if not all(np.all(np.isfinite(a)) for a in each):
            continue
        for how, weigh in weights:
            factor, left = _factor(goals, [a[:, None] * weigh(b, a) for b, a in zip(data, each, strict=True)])
            if left < allowed:
                times = "" if abs(factor - 1) < 1e-5 else f", times {number(factor)}"
                yield _composite(what, how + times, advantages, weigh, factor), left
                break
        else:
            other = weights_by_powers(data, each, goals) if subject.target.family is not ADVANTAGE else None
            if other:
                factor, left = _factor(goals, [a[:, None] * other[1](b, a) for b, a in zip(data, each, strict=True)])
                if left < allowed:
                    yield _composite(what, other[0], advantages, other[1], factor), left + 0.5


def _composite(what: str, how: str, advantages: Any, weigh: Any, factor: float) -> Composite:
    words = ", ".join(filter(None, [what, how.removeprefix(", ")]))
    return Composite(advantages, lambda b: weigh(b, advantages(b)), factor, words)


def _factor(goals: list[Vector], columns: list[Vector]) -> tuple[float, float]:
    """The factor of the columns that comes nearest to the goals, and how much of these is left."""
    goal, column = (np.concatenate([part.ravel() for part in parts]) for parts in (goals, columns))
    own = float(column @ column)
    factor = float(column @ goal) / own if own else 0.0
    return factor, float(np.linalg.norm(goal - factor * column)) / (float(np.linalg.norm(goal)) or 1.0)


def _may_fit(batch: Batch, a: Vector, goal: Vector, weights: list[Any], allowed: float) -> bool:
    """Whether these advantages explain one batch under any weights of tokens: a power of the length, or a named one."""
    if not np.all(np.isfinite(a)):
        return False
    if "mask" not in batch:
        return _factor([goal[:, 0]], [a])[1] < 10 * allowed
    live = np.abs(a) > 1e-9 * max(1.0, float(np.abs(a).max()))
    with np.errstate(all="ignore"):
        share = np.log(np.abs(goal).sum(-1)[live] / np.abs(a[live]))
    lengths = batch["mask"].sum(-1)[live]
    if live.sum() > 3 and np.all(np.isfinite(share)):
        apart = [np.ptp(share[lengths == n]) for n in np.unique(lengths)]
        if max(apart) < 30 * allowed:
            return True
    return any(_factor([goal], [a[:, None] * weigh(batch, a)])[1] < 10 * allowed for weigh in weights)


def _by_prompt(change: Callable[[Vector], Vector]) -> Callable[[Batch], Vector]:
    def advantages(batch: Batch) -> Vector:
        found = np.zeros(len(batch["rewards"]))
        for rows in groups_of(batch):
            found[rows] = change(batch["rewards"][rows])
        return found

    return advantages


def _over_prompts(summary: Any) -> Callable[[Batch], Vector]:
    """Rewards less what the samples in the same place of every prompt have in common."""

    def advantages(batch: Batch) -> Vector:
        rows = groups_of(batch)
        if len({len(row) for row in rows}) > 1:
            return np.full(len(batch["rewards"]), np.nan)
        rewards = batch["rewards"].reshape(len(rows), -1)
        found: Vector = (rewards - summary(rewards, axis=0)).ravel()
        return found

    return advantages


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
    yield "the range + 1e-8", lambda r: float(np.ptp(r) + 1e-8)
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
RANKS: dict[str, Callable[[Vector], Vector]] = {
    "a softmax of the group's rewards": lambda r: np.exp(r - r.max()) / np.exp(r - r.max()).sum(),
    "a softmax of the group's rewards minus 1/k": lambda r: (
        np.exp(r - r.max()) / np.exp(r - r.max()).sum() - 1 / len(r)
    ),
    "one for the group's best": lambda r: (r == r.max()).astype(float),
}


def _plain(subject: Subject) -> Iterator[tuple[str, Callable[[Batch], Vector]]]:
    """Advantages before they are changed; those of the whole batch after those of a prompt."""
    if subject.target.family.name == OFF_POLICY.name and not {"rewards", "group"} & set(subject.names.values()):
        yield "", _by_prompt(rloo_advantage)
        return
    for words, base in BASELINES.items():
        yield words, _by_prompt(base)
    for words, base in RANKS.items():
        yield words, _by_prompt(base)
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


def _changes() -> Iterator[tuple[str, Callable[[Vector], Vector]]]:
    yield "", lambda a: a
    for most in (1.0, 2.0, 5.0, 0.5):
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
    yield "not above 1", lambda a: np.minimum(a, 1)
    yield "not below -1", lambda a: np.maximum(a, -1)
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


def _advantages(subject: Subject) -> Iterator[tuple[str, Callable[[Batch], Vector]]]:
    """Every advantage as it is; then the usual ones, changed."""
    yield from _plain(subject)
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
