"""What a batch adds to what its examples are: a second whitening, a mean over tokens, a mean over padding."""

from collections.abc import Callable
from typing import Any

import numpy as np

from derivations.conformance.batches import Batch, batch_of, join, size
from derivations.conformance.families import ADVANTAGE
from derivations.conformance.laws import close, tolerance
from derivations.conformance.loss_under_test import Result, Subject
from derivations.objectives import rloo_advantage

MIXED = "in a batch the prompts are mixed in a way that has no name"
PADDED = "divided by the padded width, not by the number of tokens"


def _tokens(mask: np.ndarray) -> np.ndarray:
    """Weights of the examples, relative to the mean over them, of a mean over all tokens of the batch."""
    found: np.ndarray = mask.sum(-1) / mask.sum(-1).mean()
    return found


def _width(mask: np.ndarray) -> np.ndarray:
    found: np.ndarray = mask.sum(-1) / mask.shape[-1]
    return found


OTHER_REDUCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "averaged over all tokens of the batch, so responses weigh by their length": _tokens,
    PADDED: _width,
    "summed over samples and divided by the padded width": lambda mask: _width(mask) * len(mask),
}


def matches_weights(
    subject: Subject,
    whole: Batch,
    result: Result,
    terms: dict[str, Callable[[Any], Any]],
    coefficients: dict[str, float],
    weigh: Callable[[np.ndarray], np.ndarray],
) -> bool:
    """Whether the gradient of a batch is that of its examples, weighted so."""
    masks = [array for name, array in whole.items() if name.endswith("mask")]
    weights = subject.backend.array(weigh(masks[0]))

    def total(arrays: Any) -> Any:
        return sum(c * (terms[name](arrays) * weights) for name, c in coefficients.items())

    slopes = subject.backend.gradient(total, whole, subject.target.family.leaves)[1]
    return all(np.allclose(result.gradient[leaf], slopes[leaf], 1e-5, 1e-7) for leaf in subject.target.family.leaves)


def advantage_stage(subject: Subject) -> str:
    """What happens to advantages over a whole batch, beyond what happens in each of its groups."""
    parts = batch_of(ADVANTAGE)
    whole = join(ADVANTAGE, parts)
    found = subject.run(whole, gradient=False)
    alone = np.concatenate([subject.run(part, gradient=False).value for part in parts])
    rewards = whole["rewards"]
    centred = np.concatenate([part["rewards"] - part["rewards"].mean() for part in parts])
    leave_one_out = np.concatenate([rloo_advantage(part["rewards"]) for part in parts])
    ideas = {"": alone}
    for kind, ddof in (("sample", 1), ("population", 0)):
        for epsilon in (0.0, 1e-8, 1e-6, 1e-5, 1e-4):  # a guard is not worth a name here
            batch, inside, whitened = (x.std(ddof=ddof) + epsilon for x in (rewards, centred, alone))
            ideas |= {
                f"then whitened over the batch ({kind} deviation)|{epsilon}": (alone - alone.mean()) / whitened,
                f"group mean, but the {kind} deviation of the whole batch|{epsilon}": centred / batch,
                f"group mean, but the {kind} deviation of all centred rewards|{epsilon}": centred / inside,
                f"standardized over the whole batch ({kind} deviation)|{epsilon}": (rewards - rewards.mean()) / batch,
                f"leave-one-out over the {kind} deviation of the whole batch|{epsilon}": leave_one_out / batch,
            }
    share = size(whole) / max(1, int(np.count_nonzero(rewards)))
    ideas |= {
        "baseline over the whole batch": rewards - rewards.mean(),
        "leave-one-out over the whole batch": rloo_advantage(rewards),
        "advantages centred once more over the batch": alone - alone.mean(),
        "times N over the number of rewards that are not 0": leave_one_out * share,
    }
    for words, meant in ideas.items():
        if close(found.value, meant, tolerance(found, meant)):
            return words.partition("|")[0]
    return MIXED
