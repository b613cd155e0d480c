"""A term of a policy gradient that does not see the rewards: what is left of the gradient where all rewards are 0."""

from collections.abc import Callable

import numpy as np

from derivations.conformance.batches import Batch, batch_of, join
from derivations.conformance.families import OFF_POLICY
from derivations.conformance.laws import number
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.token_weights import named_weights

Vector = np.ndarray
FORMS: dict[str, Callable[[Vector, Vector], Vector]] = {  # log-ratio, log-prob -> slope by the log-prob
    "k3 of the ratio pi/pi_old (r - 1 - log r)": lambda d, x: np.expm1(d),
    "k3 of the ratio pi_old/pi (1/r - 1 + log r)": lambda d, x: -np.expm1(-d),
    "k2 of the log-ratio": lambda d, x: d,
    "the log-prob": lambda d, x: 0 * d + 1,
    "the ratio": lambda d, x: np.exp(d),
    "the ratio times the log-ratio": lambda d, x: np.exp(d) * (d + 1),
    "the probability": lambda d, x: np.exp(x),
    "the probability times the log-prob (an entropy by sampled tokens)": lambda d, x: np.exp(x) * (x + 1),
    "half the squared log-prob": lambda d, x: x,
}


def reward_free(subject: Subject) -> tuple[str, Callable[[Batch], Vector]]:
    """The term in words ("" where there is none), and the gradient without it, batch -> [N, T]."""
    family = subject.target.family
    data = [*subject.examples, join(family, batch_of(family))]
    silent = [_slope(subject, _unrewarded(batch)) for batch in data]
    if not all(np.all(np.isfinite(one)) for one in silent) or max(np.abs(one).max() for one in silent) < 1e-9:
        return "", lambda batch: _slope(subject, batch)
    goal = np.concatenate([one.ravel() for one in silent])
    return _words(subject, data, goal), lambda batch: _slope(subject, batch) - _slope(subject, _unrewarded(batch))


def _slope(subject: Subject, batch: Batch) -> Vector:
    found: Vector = subject.run(batch).gradient["logps"]
    return found


def _unrewarded(batch: Batch) -> Batch:
    return batch | {name: 0.0 * batch[name] for name in ("rewards", "advantages") if name in batch}


def _words(subject: Subject, data: list[Batch], goal: Vector) -> str:
    for how, weigh in named_weights(subject):
        weights = [weigh(batch, np.ones(len(batch["rewards"]))) for batch in data]
        for words, form in FORMS.items():
            columns = []
            for batch, weight in zip(data, weights, strict=True):
                x = np.where(batch["mask"], batch["logps"], 0.0)
                d = np.where(batch["mask"], batch["logps"] - batch["old_logps"], 0.0)
                columns.append(
                    (weight * form(d if subject.target.family.name == OFF_POLICY.name else 0 * d, x)).ravel()
                )
            column = np.concatenate(columns)
            if not column.any():
                continue
            factor = float(column @ goal) / float(column @ column)
            if np.linalg.norm(goal - factor * column) < 1e-6 * np.linalg.norm(goal):
                return f"plus {number(factor)} x {words}, {how}"
    return "plus a term that does not see the rewards"
