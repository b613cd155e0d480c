"""A batch beside its examples one at a time: whether they see each other, and how their losses become the scalar."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from derivations.conformance.batches import Batch, batch_of, has_hole, join, pad, refill, size, take
from derivations.conformance.families import PAIRS, UNPAIRED
from derivations.conformance.grid import fresh_pairs, response
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.outer import OUTER

Vector = np.ndarray
Losses = Callable[[Batch], Vector]  # a batch -> the loss of every example


@dataclass(frozen=True)
class Whole:
    """One padded batch, what the function makes of it, and of each of its examples alone and without padding, [B]."""

    batch: Batch
    value: Vector
    each: Vector
    allowed: float

    @property
    def apart(self) -> bool:
        """Whether the batch is neither its examples nor their mean."""
        return not self.is_mean_of(self.each)

    def is_mean_of(self, losses: Vector) -> bool:
        """Whether these losses of the examples are what comes back, or their mean is."""
        return self.same(losses if self.value.ndim else losses.mean())

    @property
    def same_mean(self) -> bool:
        """Whether its mean is that of the examples, so that it trains the same."""
        return self.mean_is(float(self.each.mean()))

    def mean_is(self, meant: float) -> bool:
        """Whether the scalar that is trained, the mean of what comes back, is this."""
        return self.same(meant, of=self.value.mean())

    def same(self, meant: Vector | float, of: Vector | None = None) -> bool:
        """Whether this is what the function gave, or (of) some other numbers are."""
        found = self.value if of is None else of
        near = np.abs(found - meant) <= self.allowed * np.maximum(1.0, np.abs(meant))
        return bool(np.all(near & np.isfinite(meant)))


def whole_of(subject: Subject, *, fresh: bool = False) -> Whole:
    """A batch of the family's examples, or another one of other numbers. Raises CallError.

    It is wider than the longest response, and than it has examples, so that no divisor is mistaken for another.
    """
    family = subject.target.family
    if fresh:
        parts = fresh_pairs() if family is PAIRS else _fresh_responses(family is UNPAIRED)
    else:
        parts = batch_of(family)[: 5 if family is PAIRS else None]
        parts = [part for part in parts if not has_hole(part)]
    batch = pad(family, join(family, parts), right=2 + fresh)
    each = np.array([subject.run(part, gradient=False).mean for part in parts])
    return Whole(batch, subject.run(batch, gradient=False).value, each, 1e-4 if subject.single else 1e-6)


def _fresh_responses(liked: bool) -> list[Batch]:
    found = []
    for i, n in enumerate((3, 1, 4, 2, 2, 5, 3)):
        logps, reference = response(600 + i, n)
        one: Batch = {"logps": logps[None], "ref_logps": reference[None], "mask": np.ones((1, n), dtype=bool)}
        if n > 1:  # the batch's mean log-ratio is below 0, that of the examples above
            one |= {"logps": reference[None], "ref_logps": logps[None]}
        found.append(one | ({"desirable": np.array([i % 3 > 0]), "kl": np.array([0.2])} if liked else {}))
    return found


def reduced(wholes: list[Whole]) -> str:
    """How the losses of the examples become the scalar, by values alone, where it is not their mean; or nothing."""
    if all(whole.same_mean for whole in wholes):
        return "its values are in part averages over the batch already, which leaves their mean as it is"
    with np.errstate(all="ignore"):
        ideas = [_reductions(whole) for whole in wholes]
    for words in ideas[0]:
        if all(whole.mean_is(idea[words]) for whole, idea in zip(wholes, ideas, strict=True)):
            return words
        if all(whole.mean_is(idea[words] / len(whole.each)) for whole, idea in zip(wholes, ideas, strict=True)):
            return f"{words}, and divided by the number of examples once more"
    return ""


def padding(subject: Subject, whole: Whole) -> str:
    """That padding changes the losses of the examples, if that is all that a batch does to them; else nothing."""
    family = subject.target.family

    def rows(batch: Batch) -> Vector:
        return np.array([subject.run(take(batch, [i]), gradient=False).mean for i in range(size(batch))])

    padded = rows(whole.batch)
    if not whole.is_mean_of(padded):
        return ""
    filled = not np.allclose(rows(refill(family, whole.batch, -0.4)), padded, rtol=1e-6)
    return f"padding changes its losses, by {'what stands under the mask' if filled else 'its width'}"


def _reductions(whole: Whole) -> dict[str, float]:
    each, batch = whole.each, whole.batch
    found = {
        "summed over the batch, not averaged": each.sum(),
        "divided by the number of examples twice": each.mean() / len(each),
        "divided by the number of examples minus 1": each.sum() / (len(each) - 1),
        "the first example of the batch alone": each[0],
        "the last example of the batch alone": each[-1],
        "the largest loss of the batch": each.max(),
        "the least loss of the batch": each.min(),
        "the median of the batch": np.sort(each)[(len(each) - 1) // 2],
        "the root of the mean square": np.sqrt((each**2).mean()),
        "the log of the mean exponential": np.log(np.exp(each).mean()),
    }
    found |= _under_an_outer_function(each)
    for side in ("chosen response", "rejected response", "response"):
        mask = batch.get("mask" if side == "response" else f"{side.split()[0]}_mask")
        if mask is not None:
            n, width = mask.sum(-1), mask.shape[1]
            found |= {
                f"weighed by the length of the {side}, so an average over tokens": (each * n).sum() / n.sum(),
                f"summed and divided by the tokens of every {side}": each.sum() / n.sum(),
                f"divided by the padded width of the {side}": each.mean() / width,
                f"summed and divided by the padded width of the {side}": each.sum() / width,
                f"averaged over the padding of the {side} too": (each * n).mean() / width,
            }
    if "chosen_mask" in batch:
        found |= _by_pairs(each, *(batch[f"{side}_mask"].sum(-1) for side in ("chosen", "rejected")))
    if "desirable" in batch:
        found |= _by_kind(each, batch["desirable"])
    return found


def _under_an_outer_function(each: Vector) -> dict[str, Any]:
    """The outer function of a mean or a sum, where each loss is that function of something."""
    found = {}
    for outer in OUTER:
        inside = outer.undo(each)
        if outer.words != "{}" and np.all(np.isfinite(inside)):
            for kind, value in (("mean", inside.mean()), ("sum", inside.sum())):
                words = outer.words.format(f"the {kind} of x over the batch")
                found[f"but a batch is {words}, where a single example is {outer.words.format('x')}"] = outer.do(value)
    return found


def _by_pairs(each: Vector, w: Vector, l: Vector) -> dict[str, float]:
    """Reductions that look at the lengths of both responses, or at probabilities and margins, if these are such."""
    margins = -np.log(np.expm1(each))
    return {
        "the log of the mean probability, not the mean of the logs": -np.log(np.exp(-each).mean()),
        "the log-sigmoid of the mean margin, not the mean of the log-sigmoids": np.log1p(np.exp(-margins.mean())),
        "pairs weigh by the length of both responses": (each * (w + l)).sum() / (w + l).sum(),
        "summed and divided by all tokens": each.sum() / (w + l).sum(),
        "averaged over the pairs that are lost": each[margins < 0].mean() if (margins < 0).any() else np.nan,
    }


def _by_kind(each: Vector, liked: Vector) -> dict[str, float]:
    """Reductions that look at how many of a batch are desirable."""
    good, bad, n = each[liked], each[~liked], len(each)
    return {
        "the mean of the desirable plus the mean of the undesirable ones": good.mean() + bad.mean(),
        "half the mean of the desirable plus half the mean of the undesirable ones": (good.mean() + bad.mean()) / 2,
        "averaged over the desirable ones alone": good.mean(),
        "averaged over the undesirable ones alone": bad.mean(),
        "the mean of the desirable minus the mean of the undesirable ones": good.mean() - bad.mean(),
        "the sum of the desirable over all plus the mean of the undesirable ones": good.sum() / n + bad.mean(),
        "the mean of the desirable plus the sum of the undesirable ones over all": good.mean() + bad.sum() / n,
        "summed and divided by the number of desirable ones": each.sum() / len(good),
        "summed and divided by the number of undesirable ones": each.sum() / len(bad),
        "each kind weighed by the share of the other": (good.sum() * len(bad) + bad.sum() * len(good)) / n**2,
    }
