"""How the gradient of a loss of pairs differs from that of its value: what is detached."""

from collections.abc import Callable
from typing import Any

import numpy as np

from derivations.conformance.backends import differences
from derivations.conformance.batches import Batch
from derivations.conformance.derived import Arrays
from derivations.conformance.grid import pair_of, response
from derivations.conformance.loss_under_test import Subject


def held_words(subject: Subject, batch: Batch) -> str:
    """That a part of a batch's loss gets no gradient, where the objective has none such; else nothing."""
    if flows(subject, batch) or gradient_words(subject, subject.target.losses):
        return ""
    return "; its gradient in a batch is not that of its value, so a part of it is detached"


def flows(subject: Subject, batch: Batch) -> bool:
    """Whether the gradient by a batch is that of its value, as far as the precision tells."""
    if subject.single:
        return True
    slopes = subject.run(batch).gradient
    moved = differences(subject.backend, subject.call, batch, tuple(slopes))
    return all(np.allclose(slopes[leaf], moved[leaf], rtol=1e-5, atol=1e-7) for leaf in slopes)


def gradient_words(subject: Subject, loss: Callable[[Arrays], Any] | None = None) -> str:
    """Which response gets no gradient although the loss moves with it, or which gets another one; else nothing.

    loss: another one than the function's.
    """
    batch, loss = pair_of(response(3, 2), response(53, 3)), loss or subject.call
    _, slopes = subject.backend.gradient(loss, batch, subject.target.family.leaves)
    moved = differences(subject.backend, loss, batch, tuple(slopes))
    dead = [leaf for leaf in slopes if not slopes[leaf].any() and np.abs(moved[leaf]).max() > 1e-6]
    if dead:
        return f"; no gradient reaches {' or '.join(dead)}"
    if all(np.allclose(slopes[leaf], moved[leaf], rtol=1e-3, atol=1e-5) for leaf in slopes):
        return ""
    said = []
    for leaf in slopes:
        share = slopes[leaf] / moved[leaf]
        if np.ptp(share) < 1e-3 and abs(share[0, 0] - 1) > 1e-3:
            said.append(f"{share[0, 0]:.3g} times that by {leaf}")
    return "; its gradient is not that of its value" + (f" (here {', '.join(said)})" if said else "")
