"""What a batch does to the log-ratios of responses before a KL term is taken of them: averaged, centred, other rows.

Such a term is right, or a known one, on single responses. Each idea changes the log-probs of a batch, of responses or
token by token, and the known term of that is held against the function on two batches.
"""

from collections.abc import Callable, Iterator

import numpy as np

from derivations.conformance.batches import Batch, raised
from derivations.conformance.other_rows import BY_VALUE, ORDERS
from derivations.conformance.whole_batch import Losses, Whole

Vector = np.ndarray
Change = Callable[[Vector], Vector]
ROLES = {"the policy's log-prob of every response": "logps", "the reference's log-prob of every response": "ref_logps"}


def response_change(wholes: list[Whole], losses: Losses) -> str:
    """What happens to a batch before these losses are taken, in words; nothing if no idea fits."""
    with np.errstate(all="ignore"):
        for words, change in _ideas():
            if all(whole.is_mean_of(np.asarray(losses(change(whole.batch)), dtype=float)) for whole in wholes):
                return f"but in a batch {words}"
    return ""


def _ideas() -> Iterator[tuple[str, Callable[[Batch], Batch]]]:
    for how, change in BY_VALUE.items():
        yield f"the log-ratio of every response is {how}", lambda b, c=change: _whole(b, c)  # type: ignore[misc]
    tokens: dict[str, Change] = {
        "the mean over all tokens": lambda d: 0 * d + d.mean(),
        "the sum over all tokens": lambda d: 0 * d + d.sum(),
        "less the mean over all tokens": lambda d: d - d.mean(),
        "the largest of all tokens": lambda d: 0 * d + d.max(),
        "the least of all tokens": lambda d: 0 * d + d.min(),
    }
    for how, change in tokens.items():
        yield f"the log-ratio of every token is {how}", lambda b, c=change: _tokens(b, c)  # type: ignore[misc]
    yield "the log-ratio of every token is the mean of the responses' at its place", _by_place
    for which, order in ORDERS.items():
        words = f"the mask of every response is that {which.replace('pair', 'response')}"
        yield words, lambda b, o=order: b | {"mask": b["mask"][o(len(b["mask"]))]}  # type: ignore[misc]
    for what, name in ROLES.items():
        for which, order in ORDERS.items():
            said = which.replace("pair", "response")
            yield f"{what} is {said}", lambda b, n=name, o=order: _role(b, n, lambda x: x[o(len(x))])  # type: ignore[misc]
            words = f"{what} is that {said}, token by token"
            yield words, lambda b, n=name, o=order: b | {n: b[n][o(len(b[n]))]}  # type: ignore[misc]
        for how, change in BY_VALUE.items():
            yield f"{what} is {how}", lambda b, n=name, c=change: _role(b, n, c)  # type: ignore[misc]


def _sums(batch: Batch, name: str) -> Vector:
    found: Vector = np.where(batch["mask"], batch[name], 0.0).sum(-1)
    return found


def _role(batch: Batch, name: str, change: Change) -> Batch:
    """The log-probs of policy or reference with other sums, by their first tokens."""
    total = _sums(batch, name)
    return raised(batch, name, change(total) - total)


def _whole(batch: Batch, change: Change) -> Batch:
    """The log-ratios of whole responses made others, by their first tokens."""
    ratios = _sums(batch, "logps") - _sums(batch, "ref_logps")
    return raised(batch, "logps", change(ratios) - ratios)


def _tokens(batch: Batch, change: Change) -> Batch:
    """The log-ratios of all supervised tokens made others, the reference's log-probs as they are."""
    changed, mask = batch["logps"].copy(), batch["mask"]
    changed[mask] = batch["ref_logps"][mask] + change((batch["logps"] - batch["ref_logps"])[mask])
    return batch | {"logps": changed}


def _by_place(batch: Batch) -> Batch:
    mask = batch["mask"]
    ratios = np.where(mask, batch["logps"] - batch["ref_logps"], 0.0)
    mean = ratios.sum(0) / np.maximum(mask.sum(0), 1)
    return batch | {"logps": np.where(mask, batch["ref_logps"] + mean, batch["logps"])}
