"""Which rows of a batch a loss takes its inputs from, where it is not its own: rolled, flipped, sorted, the first.

Every input of the objective (a summed log-prob of policy or reference, a length, the tokens under a mask), and the
usual groups of them, is taken from other rows, and the loss of that is held against the function on two batches.
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from derivations.conformance.batches import Batch, raised, size
from derivations.conformance.families import PAIRS
from derivations.conformance.grid import SIDES
from derivations.conformance.whole_batch import Losses, Whole

Vector = np.ndarray
Order = Callable[[int], Vector]
ORDERS: dict[str, Order] = {
    "of the pair before": lambda n: np.roll(np.arange(n), 1),
    "of the next pair": lambda n: np.roll(np.arange(n), -1),
    "of the pair at the other end of the batch": lambda n: np.arange(n)[::-1],
    "of the first pair, for all": lambda n: np.zeros(n, dtype=int),
    "of the last pair, for all": lambda n: np.full(n, n - 1),
    "of the pair two before": lambda n: np.roll(np.arange(n), 2),
    "of the pair half a batch away": lambda n: np.roll(np.arange(n), n // 2),
}
BY_VALUE: dict[str, Callable[[Vector], Vector]] = {
    "sorted over the batch": np.sort,
    "sorted over the batch from the largest": lambda x: np.sort(x)[::-1],
    "the mean over the batch": lambda x: 0 * x + x.mean(),
    "the mean size over the batch": lambda x: 0 * x + np.abs(x).mean(),
    "the root of the mean square over the batch": lambda x: 0 * x + np.sqrt((x**2).mean()),
    "the sum over the batch": lambda x: 0 * x + x.sum(),
    "the largest of the batch": lambda x: 0 * x + x.max(),
    "the least of the batch": lambda x: 0 * x + x.min(),
    "the mean over the others of the batch": lambda x: (x.sum() - x) / (len(x) - 1),
    "summed over the batch so far": np.cumsum,
    "less their mean over the batch": lambda x: x - x.mean(),
}
GROUPS: dict[str, tuple[str, ...]] = {
    "the chosen reference's log-probs": ("ref_chosen",),
    "the rejected reference's log-probs": ("ref_rejected",),
    "the chosen log-probs": ("chosen",),
    "the rejected log-probs": ("rejected",),
    "both references' log-probs": ("ref_chosen", "ref_rejected"),
    "both log-probs of the policy": ("chosen", "rejected"),
    "the chosen response's log-probs, of policy and reference": ("chosen", "ref_chosen"),
    "the rejected response's log-probs, of policy and reference": ("rejected", "ref_rejected"),
}


def other_rows(wholes: list[Whole], losses: Losses) -> str:
    """What is taken from which other rows, in words; nothing if no idea fits."""
    with np.errstate(all="ignore"):
        ideas = [*(_of_losses(losses) if wholes[0].value.ndim else ()), *_ideas(losses)]
        for words, change in ideas:
            if all(whole.is_mean_of(change(whole.batch)) for whole in wholes):
                return words
    return ""


def _of_losses(losses: Losses) -> Iterator[tuple[str, Callable[[Batch], Vector]]]:
    for words, change in [*_by_order(), *BY_VALUE.items()]:
        said = f"{'that ' * words.startswith('of the')}{words}"
        yield f"the loss of every pair is {said}", lambda b, c=change: c(losses(b))  # type: ignore[misc]


def _ideas(losses: Losses) -> Iterator[tuple[str, Callable[[Batch], Vector]]]:
    for what, names in GROUPS.items():
        for which, order in ORDERS.items():
            yield f"{what} are {which}", lambda b, n=names, o=order: losses(_sums(b, n, lambda x: x[o(len(x))]))  # type: ignore[misc]
        for how, change in BY_VALUE.items():
            yield f"{what} are {how}", lambda b, n=names, c=change: losses(_sums(b, n, c))  # type: ignore[misc]
    lengths = {"both lengths": SIDES, "the chosen lengths": SIDES[:1], "the rejected lengths": SIDES[1:]}
    for what, sides in lengths.items():
        for words, change in [*_by_order(), *BY_VALUE.items()]:
            yield f"{what} are {words}", lambda b, s=sides, c=change: losses(_lengths(b, s, c))  # type: ignore[misc]
    masks = {"both masks": SIDES, "the chosen masks": SIDES[:1], "the rejected masks": SIDES[1:]}
    for what, sides in masks.items():
        for which, order in ORDERS.items():
            yield f"{what} are {which}", lambda b, s=sides, o=order: losses(_masks(b, s, o))  # type: ignore[misc]
    for side, kind, how in itertools.product(SIDES, ("mean_logp", "logp"), (*_by_order(), *BY_VALUE.items())):
        words = f"the added NLL of the {side} response is {how[0]}"
        yield words, lambda b, n=f"{side}_{kind}", c=how[1]: losses(b) + _more(b, n, c)  # type: ignore[misc]
    for what, names in GROUPS.items():
        for which, order in ORDERS.items():
            words = f"{what} are those {which}, token by token under their own masks"
            yield words, lambda b, n=names, o=order: losses(_tokens(b, n, o))  # type: ignore[misc]


def _more(batch: Batch, name: str, change: Callable[[Vector], Vector]) -> Vector:
    """What a likelihood with factor 1 is more, if it is taken of other rows."""
    own = -np.asarray(PAIRS.derive(batch)[name])
    return change(own) - own


def _by_order() -> list[tuple[str, Callable[[Vector], Vector]]]:
    return [(words, lambda x, o=order: x[o(len(x))]) for words, order in ORDERS.items()]  # type: ignore[misc]


def _sums(batch: Batch, names: tuple[str, ...], change: Callable[[Vector], Vector]) -> Batch:
    """With other summed log-probs, by their first tokens."""
    named = PAIRS.derive(batch)
    for name in names:
        total = np.asarray(named[f"{name}_logp"])
        batch = raised(batch, f"{name}_logps", change(total) - total)
    return batch


def _lengths(batch: Batch, sides: tuple[str, ...], change: Callable[[Vector], Vector]) -> Batch:
    return batch | {f"{side}_length": change(batch[f"{side}_mask"].sum(-1).astype(float)) for side in sides}


def _masks(batch: Batch, sides: tuple[str, ...], order: Order) -> Batch:
    return batch | {f"{side}_mask": batch[f"{side}_mask"][order(size(batch))] for side in sides}


def _tokens(batch: Batch, names: tuple[str, ...], order: Order) -> Batch:
    return batch | {f"{name}_logps": batch[f"{name}_logps"][order(size(batch))] for name in names}
