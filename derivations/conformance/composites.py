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

from derivations.conformance.advantage_candidates import BASELINES, RANKS, candidate_advantages
from derivations.conformance.advantage_slips import linear_advantages, several_prompts, slips
from derivations.conformance.advantage_sums import summed_advantages
from derivations.conformance.batches import Batch, batch_of, join
from derivations.conformance.families import ADVANTAGE, OFF_POLICY
from derivations.conformance.far import wild_samples
from derivations.conformance.how import at_ratio_one, takes_advantages
from derivations.conformance.laws import number
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.prompt_weights import prompt_weights
from derivations.conformance.token_weights import Weigh, groups_of, named_weights, weights_by_powers

Vector = np.ndarray
FIT, NEARLY = 1e-6, 1e-3
ENOUGH = 400  # more candidates after one that fits exactly
ODD = (
    "averaged over all tokens of each prompt",
    "averaged over each response's tokens and one more",
    "averaged over the tokens of responses whose",
    "summed over tokens, averaged over responses whose",
    "of each response's",
    "of all tokens but",
    "averaged at each place",
)  # weights that are no product of powers of lengths and sizes


@dataclass(frozen=True)
class Composite:
    """What was found: the advantages [N] of a batch, the tokens' weights [N, T], and both in words."""

    advantages: Callable[[Batch], Vector]
    weights: Callable[[Batch], Vector]
    factor: float
    words: str
    left: float = 0.0  # of the gradient, as a share

    @property
    def known(self) -> tuple[str, Callable[[Batch], Vector], Weigh] | None:
        """Words, advantages and weights, where no factor is left beside them."""
        plain = abs(self.factor - 1) < 1e-5
        return (self.words, self.advantages, lambda batch, _: self.weights(batch)) if plain else None


def composite(subject: Subject, gradient: Callable[[Batch], Vector] | None) -> Composite | None:
    """The advantage and the weights that explain the gradient at ratio 1 (or, of advantages, the value), or nothing.

    Args:
        subject: the function. gradient: batch -> [N, T], what is to be explained; None: values of advantages.
    """
    family = subject.target.family
    whole = join(family, batch_of(family))
    data = [*subject.examples, whole]
    if not all(np.all(np.isfinite(subject.run(batch).value)) for batch in subject.examples[:3]):
        data = [*subject.examples, *several_prompts(subject), whole]  # one prompt alone says little
    if family.name == OFF_POLICY.name or takes_advantages(subject):
        data = [at_ratio_one(batch) for batch in (*wild_samples(subject), *data)]
    goals = [-gradient(batch) if gradient else subject.run(batch).value.reshape(-1, 1) for batch in data]
    finite = [np.all(np.isfinite(goal)) for goal in goals]
    if not any(goal.any() for goal in goals):
        return None
    if not finite[-1] or sum(finite) < 4:
        return _summed(subject, gradient, _undefined(data, finite))
    every, data, goals = data, list(itertools.compress(data, finite)), list(itertools.compress(goals, finite))
    coarse = subject.single or not subject.run(data[0]).exact
    for allowed in (1e-4,) if coarse else (FIT, NEARLY):
        if best := _best(subject, data, goals, allowed):
            return replace(best, words=best.words + _undefined(every, finite))
        if best := _summed(subject, gradient, _undefined(every, finite)) if allowed == FIT else None:
            return best
    found = linear_advantages(subject) or prompt_weights(data, goals, BASELINES | RANKS, named_weights(subject)[:8])
    return _measured(subject, gradient, found) if found else None


def _summed(subject: Subject, gradient: Callable[[Batch], Vector] | None, beside: str) -> Composite | None:
    """A sum of parts of the rewards, or of the advantages that are handed over."""
    if not (found := summed_advantages(subject, gradient)):
        return None
    words, advantages, weigh = found
    return Composite(advantages, lambda b: weigh(b, advantages(b)), 1.0, words + beside)


def _undefined(data: list[Batch], finite: list[Any]) -> str:
    """Where a loss has no number, in words."""
    wrong = [batch for batch, fine in zip(data, finite, strict=True) if not fine]
    if not wrong:
        return ""
    alike = all(any(np.ptp(batch["rewards"][rows]) == 0 for rows in groups_of(batch)) for batch in wrong)
    return f"; not finite {'where all rewards of a prompt are alike' if alike else 'for a prompt alone'}"


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
        weigh if "advantage" in how else _fixed(weigh(data[-1], np.ones(len(goals[-1]))))
        for how, weigh in weights
        if how.startswith(ODD) or "probability" in how
    ]
    tried, last = itertools.chain(candidate_advantages(subject), slips(subject)), np.inf
    for place, (what, advantages) in enumerate(tried):
        if place > last + ENOUGH:
            return
        with np.errstate(all="ignore"):
            if allowed == NEARLY and " over " in what:
                continue
            if not takes_advantages(subject) and not _may_fit(data[-1], advantages(data[-1]), goals[-1], odd, allowed):
                continue
            each = [advantages(b) for b in data]
        if not all(np.all(np.isfinite(a)) for a in each):
            continue
        for how, weigh in weights:
            factor, left = _factor(goals, [a[:, None] * weigh(b, a) for b, a in zip(data, each, strict=True)])
            if left < allowed:
                times = "" if abs(factor - 1) < 1e-5 else f", times {number(factor)}"
                last = min(last, place if left < 1e-9 else np.inf)
                yield _composite(what, how + times, advantages, weigh, factor), left
                break
        else:
            other = weights_by_powers(data, each, goals) if subject.target.family is not ADVANTAGE else None
            if other:
                factor, left = _factor(goals, [a[:, None] * other[1](b, a) for b, a in zip(data, each, strict=True)])
                if left < allowed:
                    last = min(last, place if left < 1e-9 else np.inf)
                    yield _composite(what, other[0], advantages, other[1], factor), left + 0.5


def _fixed(weights: Vector) -> Callable[[Batch, Vector], Vector]:
    return lambda batch, advantages: weights


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
