"""What a batch of single responses takes for its reference point instead of the one that was given.

On one response alone such a loss is a constant or looks clamped, so it is the batch that names it: each idea is put in
the place of the reference point of the objective, or of what the loss is otherwise, and tried on two batches.
"""

from collections.abc import Callable, Iterator

import numpy as np

from derivations.conformance.batches import Batch
from derivations.conformance.families import UNPAIRED
from derivations.conformance.gradient_words import flows
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.whole_batch import Losses, Whole

Vector = np.ndarray
Summary = Callable[[Vector, Vector], Vector]  # scores, which are desirable -> one number each

SCORES: dict[str, Callable[[Batch], Vector]] = {
    "log-ratio": lambda b: UNPAIRED.derive(b)["logp"] - UNPAIRED.derive(b)["ref_logp"],
    "log-ratio per token": lambda b: (
        (UNPAIRED.derive(b)["logp"] - UNPAIRED.derive(b)["ref_logp"]) / UNPAIRED.derive(b)["length"]
    ),
    "log-prob": lambda b: UNPAIRED.derive(b)["logp"],
    "inverse log-ratio": lambda b: UNPAIRED.derive(b)["ref_logp"] - UNPAIRED.derive(b)["logp"],
    "reference point": lambda b: np.asarray(b["kl"], dtype=float),
}
SUMMARIES: dict[str, Summary] = {
    "the batch's mean {}": lambda h, g: 0 * h + h.mean(),
    "the mean {} of the other responses": lambda h, g: (h.sum() - h) / (len(h) - 1),
    "the mean {} of the desirable ones": lambda h, g: 0 * h + h[g].mean(),
    "the mean {} of the undesirable ones": lambda h, g: 0 * h + h[~g].mean(),
    "the mean {} of its own kind": lambda h, g: np.where(g, h[g].mean(), h[~g].mean()),
    "the mean {} of the other kind": lambda h, g: np.where(g, h[~g].mean(), h[g].mean()),
    "the batch's sum of the {}": lambda h, g: 0 * h + h.sum(),
    "the batch's largest {}": lambda h, g: 0 * h + h.max(),
    "the batch's least {}": lambda h, g: 0 * h + h.min(),
    "the batch's median {}": lambda h, g: 0 * h + np.sort(h)[(len(h) - 1) // 2],
    "the {} of the next response": lambda h, g: np.roll(h, -1),
    "the {} of the response before": lambda h, g: np.roll(h, 1),
    "the {} of the response at the other end": lambda h, g: h[::-1],
    "the mean size of the {}": lambda h, g: 0 * h + np.abs(h).mean(),
    "the mean over the batch of its {} where it is positive": lambda h, g: 0 * h + np.maximum(h, 0).mean(),
}
FLOWS = ", and a gradient flows through it"
BOUNDS: dict[str, Callable[[Vector], Vector]] = {
    "": lambda x: x,
    ", not below 0": lambda x: np.maximum(x, 0),
    ", not above 0": lambda x: np.minimum(x, 0),
}


def reference_point(subject: Subject, wholes: list[Whole], losses: Losses, *, plain: bool = False) -> str:
    """Which number of the batch stands where the reference point should, in words; nothing if no idea fits.

    plain: without factors.
    """
    beta = float(subject.target.options["beta"])
    with np.errstate(all="ignore"):
        for words, point in _points((1.0,) if plain else (1.0, 1 / beta, beta, 0.5, 2.0)):
            if all(whole.is_mean_of(losses(whole.batch | {"kl": point(whole.batch)})) for whole in wholes):
                inside = "" if "reference point" in words or not flows(subject, wholes[0].batch) else FLOWS
                return f"the reference point is {words}{inside}"
    return ""


def _points(factors: tuple[float, ...]) -> Iterator[tuple[str, Callable[[Batch], Vector]]]:
    for factor in dict.fromkeys(factors):
        times = "" if factor == 1 else f"{factor:g} x "
        for score, of in SCORES.items():
            for summary, sum_up in SUMMARIES.items():
                for bound, cut in BOUNDS.items():
                    yield (
                        f"{times}{summary.format(score)}{bound}",
                        lambda b, f=of, s=sum_up, c=cut, k=factor: k * c(s(f(b), b["desirable"])),  # type: ignore[misc]
                    )
