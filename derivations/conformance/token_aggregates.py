"""The objective of another summary of a response's tokens than their sum: the largest, the least, the last, ..."""

from collections.abc import Callable

import numpy as np

from derivations.conformance.batches import Batch
from derivations.conformance.grid import SIDES, fresh_pairs
from derivations.conformance.loss_under_test import Subject

Vector = np.ndarray
SUMMARIES: dict[str, Callable[[Vector], float]] = {
    "the largest of the tokens'": lambda x: float(x.max()),
    "the least of the tokens'": lambda x: float(x.min()),
    "the last token's": lambda x: float(x[-1]),
    "the first token's": lambda x: float(x[0]),
    "the median of the tokens'": lambda x: float(np.sort(x)[(len(x) - 1) // 2]),
    "the log of the mean exponential of the tokens'": lambda x: float(np.log(np.exp(x).mean())),
    "the log of the sum of exponentials of the tokens'": lambda x: float(np.log(np.exp(x).sum())),
    "the product of the tokens'": lambda x: float(x.prod()),
    "the sum of squares of the tokens'": lambda x: float((x**2).sum()),
    "the sum of sizes of the tokens'": lambda x: float(np.abs(x).sum()),
}


def token_aggregate(subject: Subject) -> str:
    """The objective as named, of which summary of tokens instead of their sum; nothing if none of these is it."""
    if not subject.per_token:
        return ""
    pairs = fresh_pairs()
    values = np.array([subject.run(pair, gradient=False).mean for pair in pairs])
    with np.errstate(all="ignore"):
        for words, summary in SUMMARIES.items():
            for of, change in {"log-ratios": _of_ratios, "log-probs": _of_log_probs}.items():
                meant = [float(np.asarray(subject.target.losses(change(pair, summary)))[0]) for pair in pairs]
                if np.allclose(values, meant, rtol=1e-7, atol=1e-9):
                    return f"{subject.target.name} as named of {words} {of} in the place of their sum"
    return ""


def _of_ratios(pair: Batch, summary: Callable[[Vector], float]) -> Batch:
    """The summary of the log-ratios as the policy's sum, the reference's being 0."""
    changed = dict(pair)
    for side in SIDES:
        ratios = pair[f"{side}_logps"][0] - pair[f"ref_{side}_logps"][0]
        changed |= {f"{side}_logps": _spread(ratios, summary), f"ref_{side}_logps": _spread(0 * ratios, np.sum)}
    return changed


def _of_log_probs(pair: Batch, summary: Callable[[Vector], float]) -> Batch:
    """The summary of the log-probs of policy and reference each in the place of their sum."""
    names = [f"{role}{side}_logps" for role in ("", "ref_") for side in SIDES]
    return pair | {name: _spread(pair[name][0], summary) for name in names}


def _spread(tokens: Vector, summary: Callable[[Vector], float]) -> Vector:
    """Tokens of the same number [1, T] whose sum is the summary."""
    return np.full((1, len(tokens)), summary(tokens) / len(tokens))
