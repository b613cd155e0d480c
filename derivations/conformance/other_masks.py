"""Log-probs of tokens under another mask than their own, or those of another response under this one's mask.

Such code needs responses padded to one width, so that single pairs of unequal lengths may raise. Each of the four sums
of the objective is taken of other tokens or under another mask, one or two at a time and the usual ones together, and
the loss of that is held against the function on two batches of one width.
"""

import itertools
from collections.abc import Iterator

import numpy as np

from derivations.conformance.batches import Batch, join, pad_one
from derivations.conformance.calls import CallError
from derivations.conformance.families import PAIRS
from derivations.conformance.gradient_words import held_words
from derivations.conformance.grid import SIDES, fresh_pairs, pair_of, response
from derivations.conformance.laws import number
from derivations.conformance.loss_under_test import Subject

Vector = np.ndarray
SLOTS = ("chosen", "rejected", "ref_chosen", "ref_rejected")
MASKS = ("chosen", "rejected", "none", "both", "either", "later", "earlier", "other")
Choice = tuple[tuple[str, str], ...]  # for each slot, whose tokens, under which mask
OWN: Choice = tuple((slot, slot.removeprefix("ref_")) for slot in SLOTS)
TOKENS = {
    "chosen": "log pi(w)", "rejected": "log pi(l)", "ref_chosen": "log ref(w)", "ref_rejected": "log ref(l)",
}  # fmt: skip
UNDER = {
    "chosen": "the chosen response's mask", "rejected": "the rejected response's mask", "none": "no mask",
    "both": "both responses' masks together", "either": "either response's mask",
    "later": "its mask moved one token later", "earlier": "its mask moved one token earlier",
    "other": "the other response's mask",
}  # fmt: skip


def other_masks(subject: Subject) -> str:
    """The objective with what of it is of other tokens or under other masks, in words; nothing if no idea fits."""
    if not subject.per_token:
        return ""
    batches = [one_width(fresh_pairs()), one_width(_others())]
    try:
        values = [subject.run(batch, gradient=False).value for batch in batches]
    except CallError:
        return ""
    allowed = 1e-4 if subject.single else 1e-7
    choices = list(_choices())
    with np.errstate(all="ignore"):
        losses = [_losses(subject, batch, choices) for batch in batches]
    for i, choice in enumerate(choices):
        each = [one[i] if value.ndim else one[i].mean() for one, value in zip(losses, values, strict=True)]
        if all(
            np.allclose(value, meant, rtol=allowed, atol=allowed) for value, meant in zip(values, each, strict=True)
        ):
            said = _words(choice)
            return f"{subject.target.name} as named{said}{held_words(subject, batches[0])}" if said else ""
    with np.errstate(all="ignore"):
        return _likelihood(subject, batches, values, [one[0] for one in losses], allowed)


def _likelihood(
    subject: Subject, batches: list[Batch], values: list[Vector], losses: list[Vector], allowed: float
) -> str:
    """The objective with a likelihood, added or its own, of other tokens or under another mask."""
    name = subject.target.name
    for tokens, mask, over in itertools.product(SLOTS[:2], MASKS, ("", *SIDES)):
        taken = [_mean(batch, tokens, mask, over) for batch in batches]
        what = f"the NLL of {TOKENS[tokens]} under {UNDER[mask]}{f', over the {over} length' if over else ''}"
        for own, words in ((0.0, f"{name} as named + {{}}{what}"), (1.0, f"{name} as named, but with {{}}{what}")):
            rest = [v - (l if v.ndim else l.mean()) - own * _at(v, _mean(b, "chosen", "chosen", "chosen"))
                    for v, l, b in zip(values, losses, batches, strict=True)]  # fmt: skip
            column, goal = (np.concatenate([np.atleast_1d(x) for x in one])
                            for one in ([_at(v, -t) for v, t in zip(values, taken, strict=True)], rest))  # fmt: skip
            c = float(column @ goal / (column @ column))
            if abs(c) > 1e-6 and np.allclose(c * column, goal, rtol=allowed, atol=allowed):
                return words.format("" if abs(c - 1) < 1e-6 else f"{number(c)} x ")
    return ""


def _at(value: Vector, each: Vector) -> Vector:
    """Numbers of the pairs, or their mean where the function returns one number."""
    return each if value.ndim else np.asarray(each.mean())


def _mean(batch: Batch, tokens: str, mask: str, over: str) -> Vector:
    total: Vector = np.where(dict(_masks(batch, tokens))[mask], batch[f"{tokens}_logps"], 0.0).sum(-1)
    return total / batch[f"{over}_mask"].sum(-1) if over else total


def _choices() -> Iterator[Choice]:
    """The objective's own first, then those with few changes."""
    yield OWN
    for kind in MASKS:  # one change of masks, for all tokens, for those of one model, of one response
        for slots in (SLOTS, SLOTS[:2], SLOTS[2:], SLOTS[::2], SLOTS[1::2]):
            yield tuple((t, kind if t in slots else m) for t, m in OWN)
    changed = [
        [(i, (tokens, mask)) for tokens in SLOTS for mask in MASKS if (tokens, mask) != own]
        for i, own in enumerate(OWN)
    ]
    for change in itertools.chain(*changed):
        yield _with(change)
    for first, second in itertools.combinations(range(4), 2):
        for pair in itertools.product(changed[first], changed[second]):
            yield _with(*pair)


def _with(*changes: tuple[int, tuple[str, str]]) -> Choice:
    found = dict(enumerate(OWN)) | dict(changes)
    return tuple(found[i] for i in range(4))


def _losses(subject: Subject, batch: Batch, choices: list[Choice]) -> Vector:
    """Losses of the objective under every choice, [choices, pairs]."""
    sums = {(t, m): np.where(mask, batch[f"{t}_logps"], 0.0).sum(-1) for t in SLOTS for m, mask in _masks(batch, t)}
    n = len(batch["chosen_mask"])
    rows: Batch = {f"{side}_length": np.tile(batch[f"{side}_mask"].sum(-1), len(choices)) for side in SIDES}
    rows |= {f"{side}_mask": np.ones((n * len(choices), 1), dtype=bool) for side in SIDES}
    for place, slot in enumerate(SLOTS):
        rows[f"{slot}_logps"] = np.concatenate([sums[choice[place]] for choice in choices])[:, None]
    return np.asarray(subject.target.losses(rows), dtype=float).reshape(len(choices), n)


def _masks(batch: Batch, tokens: str) -> list[tuple[str, Vector]]:
    w, l = (batch[f"{side}_mask"] for side in SIDES)
    own = w if tokens.endswith("chosen") else l
    later = np.concatenate([np.zeros_like(own[:, :1]), own[:, :-1]], 1)
    earlier = np.concatenate([own[:, 1:], np.zeros_like(own[:, :1])], 1)
    found = (w, l, np.ones_like(w), w & l, w | l, later, earlier, l if own is w else w)
    return list(zip(MASKS, found, strict=True))


def _words(choice: Choice) -> str:
    """Which sums are others: one phrase for those that are alike."""
    phrases: dict[str, list[str]] = {}
    for (own, under), (tokens, mask) in zip(OWN, choice, strict=True):
        if (tokens, mask) != (own, under):
            of = "" if tokens == own else f"replaced by {TOKENS[tokens]}, "
            phrases.setdefault(f"{of}under {UNDER[mask]}", []).append(TOKENS[own])
    said = [f"{' and '.join(names)} {'are' if names[1:] else 'is'} {words}" for words, names in phrases.items()]
    said = ["all are " + said[0].partition(" are ")[2]] if list(map(len, phrases.values())) == [4] else said
    return ", but " + ", ".join(said) if said else ""


def one_width(pairs: list[Batch]) -> Batch:
    """A batch of both responses padded to one width, with other numbers under the masks in every array."""
    batch = join(PAIRS, pairs)
    width = 1 + max(batch[f"{side}_mask"].shape[1] for side in SIDES)
    rng = np.random.default_rng(5)
    wide = {name: pad_one(array, 1, 1, width - array.shape[1], -0.5) for name, array in batch.items()}
    for slot in SLOTS:
        noise = rng.uniform(-2.0, -0.1, wide[f"{slot}_logps"].shape)
        wide[f"{slot}_logps"] = np.where(wide[f"{slot.removeprefix('ref_')}_mask"], wide[f"{slot}_logps"], noise)
    return wide


def _others() -> list[Batch]:
    return [pair_of(response(1300 + i, w), response(1350 + i, l)) for i, (w, l) in enumerate(((2, 5), (4, 1), (3, 4)))]
