"""A name is held against pairs that are far from those on which it was found: log-probs of hundreds of nats.

Examples have log-ratios of a few nats, where a clamp at 10, a hinge with its bound at 5 or a guard of 1e-8 in a
logarithm is not at work. One response after the other, of policy and of reference, is moved away until they would be.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from derivations.conformance.batches import Batch, join
from derivations.conformance.calls import CallError
from derivations.conformance.derived import Arrays
from derivations.conformance.families import PAIRS, POLICY_GRADIENT
from derivations.conformance.grid import pair_of, response
from derivations.conformance.how import takes_advantages
from derivations.conformance.laws import number
from derivations.conformance.loss_under_test import Subject

Vector = np.ndarray
FAR = "; but far from 0 it is another: "
RESOLVED = 16.0  # nats of a log-ratio d, above which float32 loses the d in e^d - 1 - d
AMOUNTS = (4.0, 12.0, 40.0, 150.0, 600.0)  # nats of a whole response
MOVES = {
    "chosen_logps": "the chosen response becomes less likely",
    "rejected_logps": "the rejected response becomes less likely",
    "ref_chosen_logps": "the reference makes the chosen response less likely",
    "ref_rejected_logps": "the reference makes the rejected response less likely",
}


@functools.cache
def far_pairs() -> tuple[tuple[str, float, Batch], ...]:
    """Pairs with one of their log-probs lowered: which, by how many nats, the pair."""
    start, found = pair_of(response(811, 2), response(812, 3)), []
    for name in MOVES:
        n = start[name].shape[1]
        found += [(name, by, start | {name: start[name] - by / n}) for by in AMOUNTS]
    return tuple(found)


@functools.cache
def far_rows() -> tuple[Batch, ...]:
    """Single responses, liked and not, of which policy and reference are far apart, with several reference points."""
    rows = []
    for i, (n, by) in enumerate(itertools.product((1, 3), (0.0, 4.0, -4.0, 30.0, -30.0, 300.0, -300.0))):
        logps, reference = response(840 + i, n)
        one: Batch = {"logps": logps[None] - max(by, 0) / n, "ref_logps": reference[None] + min(by, 0) / n}
        one |= {"mask": np.ones((1, n), dtype=bool), "kl": np.array([0.15 * (i % 5)])}
        rows += [one | {"desirable": np.array([good])} for good in (True, False)]
    return tuple(rows)


def same_everywhere(subject: Subject, losses: Callable[..., Any]) -> bool:
    """Whether a description of single responses holds for other reference points and far from the examples."""
    values = np.array([subject.run(row, gradient=False).mean for row in far_rows()])
    with np.errstate(all="ignore"):
        meant = np.concatenate([np.asarray(losses(row), dtype=float) for row in far_rows()])
    return bool(np.all(same_far(subject, values, meant)))


@functools.cache
def far_tokens() -> Vector:
    """Log-probs of policy and reference of single tokens, [n, 2], far apart on either side."""
    return np.array([(-0.7 - max(by, 0), -0.4 + min(by, 0)) for by in (3.0, 12.0, 22.0, -3.0, -9.0, -22.0)])


def same_of_tokens(subject: Subject, terms: list[tuple[float, Callable[[Arrays], Any]]], *, value: bool) -> bool:
    """Whether a sum of named terms is also the KL term of single tokens far from the reference, with its gradient."""
    for logp, reference in far_tokens():
        if subject.single and abs(logp - reference) > RESOLVED:
            continue
        row: Batch = {
            "logps": np.array([[logp]]),
            "ref_logps": np.array([[reference]]),
            "mask": np.ones((1, 1), dtype=bool),
        }
        found = subject.numbers(subject.call, row, value=value)
        meant = sum(c * subject.numbers(term, row, value=value) for c, term in terms)
        if not np.all(same_far(subject, found, np.asarray(meant))):
            return False
    return True


def wild_samples(subject: Subject) -> list[Batch]:
    """Samples of one prompt with ratios everywhere in and around the clip; advantages, where they are taken as given,
    that are large and do not sum to zero."""
    low, high = subject.target.family.clip
    found: list[Batch] = []
    for seed, lengths in enumerate(((9, 12, 7), (10, 4, 12, 8))):
        rng, n = np.random.default_rng([23, seed]), len(lengths)
        mask = np.arange(max(lengths))[None] < np.array(lengths)[:, None]
        logps = rng.uniform(-2.5, -0.1, mask.shape).round(3)
        moved = rng.uniform(np.log1p(-min(low, 0.6)) - 0.6, np.log1p(high) + 0.6, mask.shape)
        batch: Batch = {"logps": logps, "old_logps": logps - moved, "mask": mask, "group": np.zeros(n, dtype=np.int64)}
        batch |= {"rewards": rng.normal(0.3, 4.0, n).round(2)}
        if subject.target.family is POLICY_GRADIENT:
            batch |= {"old_logps": logps.copy(), "ref_logps": logps - 0.1}
        found.append(
            batch
            | ({"advantages": rng.normal(0.8, (3.0, 15.0)[seed], n).round(2)} if takes_advantages(subject) else {})
        )
    return found


def far_values(subject: Subject) -> Vector:
    """The losses of the far pairs, NaN for those that cannot be had."""
    found = []
    for _, _, batch in far_pairs():
        try:
            found.append(subject.run(batch, gradient=False).mean)
        except CallError:
            found.append(np.nan)
    return np.array(found)


def same_far(subject: Subject, values: Vector, meant: Vector) -> Vector:
    """Which of the far pairs have the loss that a description gives them; those that have none count as right."""
    with np.errstate(all="ignore"):
        near = np.abs(values - meant) <= (1e-3 if subject.single else 1e-6) * np.maximum(1.0, np.abs(meant))
    return near | ~np.isfinite(values) | ~np.isfinite(meant)


def meant_far(losses: Callable[..., Any], *, named: bool = False) -> Vector:
    """What a rule gives the far pairs. named: it takes sums and lengths, not tokens."""
    batch = join(PAIRS, [pair for *_, pair in far_pairs()])
    with np.errstate(all="ignore"):
        return np.asarray(losses(PAIRS.derive(batch) if named else batch), dtype=float)


def not_far(subject: Subject, losses: Callable[..., Any], *, named: bool = False) -> str:
    """Where a description does not hold far from the examples, in words; nothing if it does everywhere."""
    values, meant = far_values(subject), meant_far(losses, named=named)
    wrong = ~same_far(subject, values, meant)
    said = []
    for name, words in MOVES.items():
        rows = [i for i, (moved, *_) in enumerate(far_pairs()) if moved == name]
        off = [i for i in rows if wrong[i]]
        if not off:
            continue
        last, by = off[-1], far_pairs()[off[-1]][1]
        if len(off) > 1 and abs(values[off[-1]] - values[off[-2]]) < 1e-9:
            said.append(f"where {words} it stops at {number(float(values[last]))}")
        else:
            said.append(
                f"where {words} by {by:g} nats it is {number(float(values[last]))}, not {number(float(meant[last]))}"
            )
    return FAR + ", ".join(said) if said else ""
