"""How a policy gradient weighs the tokens of its responses: by names, or by powers of lengths and by places."""

import functools
import itertools
from collections.abc import Callable

import numpy as np

from derivations.conformance.batches import Batch
from derivations.conformance.families import ADVANTAGE
from derivations.conformance.laws import number
from derivations.conformance.loss_under_test import Subject

Vector = np.ndarray
Weigh = Callable[[Batch, Vector], Vector]


def groups_of(batch: Batch) -> list[Vector]:
    """Rows of each prompt."""
    return _groups(batch["group"].tobytes(), batch["group"].dtype.str)


@functools.lru_cache(maxsize=256)
def _groups(group: bytes, dtype: str) -> list[Vector]:
    ids = np.frombuffer(group, dtype)  # the samples of a prompt stand together
    return np.split(np.arange(len(ids)), np.flatnonzero(np.diff(ids)) + 1)


def _group_size(batch: Batch) -> Vector:
    return np.concatenate([np.full((len(rows), 1), float(len(rows))) for rows in groups_of(batch)])


SIZES: list[tuple[str, Weigh]] = [
    (f"times {words} of k samples a prompt", lambda b, a, f=rule: f(_group_size(b)))  # type: ignore[misc]
    for words, rule in {
        "k/(k - 1)": lambda k: k / (k - 1),
        "(k - 1)/k": lambda k: (k - 1) / k,
        "k": lambda k: k,
        "1/k": lambda k: 1 / k,
        "k - 1": lambda k: k - 1,
        "1/(k - 1)": lambda k: 1 / (k - 1),
        "sqrt k": lambda k: k**0.5,
        "1/sqrt k": lambda k: k**-0.5,
        "k^2/(k - 1)^2": lambda k: (k / (k - 1)) ** 2,
        "1/(k + 1)": lambda k: 1 / (k + 1),
    }.items()
]


def named_weights(subject: Subject) -> list[tuple[str, Callable[[Batch, Vector], Vector]]]:
    """Weights of tokens: of the mean over samples of sums over tokens it is 1/N."""
    if subject.target.family is ADVANTAGE:
        return [("", lambda b, a: np.ones((len(a), 1))), *SIZES]

    def mask(b: Batch) -> Vector:
        return b["mask"].astype(float)

    def share(b: Batch, kept: Vector) -> Vector:
        """A mean over all tokens of the samples that are kept."""
        m = mask(b) * kept[:, None]
        return m / max(m.sum(), 1e-300)

    def prompts(b: Batch, a: Vector) -> Vector:
        found = mask(b)
        for rows in groups_of(b):
            found[rows] /= found[rows].sum() * len(groups_of(b))
        return found

    def lengths(b: Batch) -> Vector:
        return mask(b).sum(-1, keepdims=True)

    return [
        ("averaged over all tokens", lambda b, a: mask(b) / mask(b).sum()),
        ("averaged over each response's tokens, then over responses", lambda b, a: mask(b) / lengths(b) / len(a)),
        ("summed over tokens, averaged over responses", lambda b, a: mask(b) / len(a)),
        ("summed over tokens and responses", lambda b, a: mask(b)),
        ("averaged over each response's tokens, summed over responses", lambda b, a: mask(b) / lengths(b)),
        ("averaged over the padding too", lambda b, a: mask(b) / mask(b).size),
        ("summed over responses, divided by the padded width", lambda b, a: mask(b) / mask(b).shape[1]),
        ("averaged over all tokens of each prompt, then over prompts", prompts),
        ("averaged over each response's tokens and one more", lambda b, a: mask(b) / (lengths(b) + 1) / len(a)),
        ("averaged over the tokens of responses whose advantage is not 0", lambda b, a: share(b, np.abs(a) > 1e-12)),
        (
            "summed over tokens, averaged over responses whose advantage is not 0",
            lambda b, a: mask(b) / max(1, int((np.abs(a) > 1e-12).sum())),
        ),
        ("over the square root of each response's length", lambda b, a: mask(b) / lengths(b) ** 0.5 / len(a)),
        ("divided by the longest response's length", lambda b, a: mask(b) / lengths(b).max() / len(a)),
        ("averaged at each place over responses, and over places", lambda b, a: mask(b) / _column(b, mean=True)),
        ("averaged at each place over responses, summed over places", lambda b, a: mask(b) / _column(b)),
        *(
            (f"{words}, times {what}", lambda b, a, w=w, p=p: w(b, a) * p(b))
            for what, p in (
                ("the response's probability", lambda b: np.exp((b["logps"] * b["mask"]).sum(-1, keepdims=True))),
                ("the token's probability", lambda b: np.exp(np.where(b["mask"], b["logps"], 0.0))),
                ("1 minus the token's probability", lambda b: -np.expm1(np.where(b["mask"], b["logps"], 0.0))),
            )
            for words, w in (
                ("summed over tokens, averaged over responses", lambda b, a: mask(b) / len(a)),
                ("averaged over all tokens", lambda b, a: mask(b) / mask(b).sum()),
                ("averaged over each response's tokens", lambda b, a: mask(b) / lengths(b) / len(a)),
            )
        ),
        *(
            (
                f"of all tokens but each response's {end}, {words}",
                lambda b, a, w=w, f=end == "first": w(b, a) * (1 - _last(b, first=f)),
            )
            for end in ("first", "last")
            for words, w in (
                ("summed over tokens, averaged over responses", lambda b, a: mask(b) / len(a)),
                ("over the number of all tokens", lambda b, a: mask(b) / mask(b).sum()),
                ("over the number of all but those", lambda b, a: mask(b) / (mask(b).sum() - len(a) or 1)),
                ("over each response's length", lambda b, a: mask(b) / lengths(b) / len(a)),
            )
        ),
        ("of each response's last token alone", lambda b, a: _last(b) / len(a)),
        ("of each response's first token alone", lambda b, a: _last(b, first=True) / len(a)),
    ]  # fmt: skip


def _column(batch: Batch, *, mean: bool = False) -> Vector:
    """How many responses have a token at each place, [1, T]; times the number of places for a mean over them."""
    return np.maximum(batch["mask"].sum(0, keepdims=True), 1) * (batch["mask"].shape[1] if mean else 1)


def _last(batch: Batch, *, first: bool = False) -> Vector:
    found = np.zeros(batch["mask"].shape)
    for row, kept in enumerate(batch["mask"]):
        places = np.flatnonzero(kept)
        found[row, places[0 if first else -1]] = 1.0
    return found


PLACES: dict[str, Callable[[Vector, Vector], Vector]] = {  # place from 1 on, length -> weight of a token
    "": lambda t, n: 0 * t + 1.0,
    "each token by its place in the response": lambda t, n: t,
    "each token over its place in the response": lambda t, n: 1 / t,
    "each token by the number of tokens from it on": lambda t, n: n - t + 1,
    "each token over the number of tokens from it on": lambda t, n: 1 / (n - t + 1),
    **{
        f"each token discounted by {g:g}, {words}": lambda t, n, g=g, last=last: g ** (n - t if last else t - 1)  # type: ignore[misc]
        for g in (0.9, 0.95, 0.99, 0.5)
        for last, words in ((False, "from the first on"), (True, "from the last on"))
    },
}
POWERS = {"each response's length": 0, "the number of responses": 1, "the number of tokens": 2, "the padded width": 3,
          "the number of samples a prompt": 4}  # fmt: skip


def weights_by_powers(batches: list[Batch], advantages: list[Vector], goals: list[Vector]) -> tuple[str, Weigh] | None:
    """Weights that are a product of powers of lengths and sizes, times a rule of the token's place: words and weights.

    Args:
        batches: at ratio 1. advantages: [N] of each. goals: minus the gradient, [N, T], of each.
    """
    with np.errstate(all="ignore"):
        shares = [
            np.where(b["mask"], g / a[:, None], np.nan) for b, a, g in zip(batches, advantages, goals, strict=True)
        ]
    shares = [np.where(np.abs(a)[:, None] > 1e-9, share, np.nan) for a, share in zip(advantages, shares, strict=True)]
    flat = np.concatenate([share.ravel() for share in shares])
    used = np.isfinite(flat)
    if used.sum() < 12 or not ((flat[used] > 0).all() or (flat[used] < 0).all()):
        return None
    sizes = np.concatenate([_sizes(b).reshape(-1, 5) for b in batches])[used]
    matrix = np.column_stack([np.log(sizes), np.ones(len(sizes))])
    for padded, (words, rule) in itertools.product((False, True), PLACES.items()):
        places = np.concatenate([_places(b, padded=padded).reshape(-1, 2) for b in batches])[used]
        goal = np.log(np.abs(flat[used]) / rule(*places.T))
        found, *_ = np.linalg.lstsq(matrix, goal, rcond=None)
        powers = np.round(2 * found[:-1]) / 2
        constant = float(np.mean(goal - matrix[:, :-1] @ powers))
        if np.abs(matrix[:, :-1] @ powers + constant - goal).max() < 1e-5:
            factor = float(np.sign(flat[used][0]) * np.exp(constant))

            return _said(words, powers, factor), _weigher(rule, powers, factor, padded)
    return None


def _weigher(rule: Callable[[Vector, Vector], Vector], powers: Vector, factor: float, padded: bool) -> Weigh:
    def weigh(b: Batch, a: Vector) -> Vector:
        place = _places(b, padded=padded)
        each: Vector = np.where(b["mask"], np.exp(np.log(_sizes(b)) @ powers) * factor, 0.0)
        return each * np.where(b["mask"], rule(place[..., 0], place[..., 1]), 0.0)

    return weigh


def _said(place: str, powers: Vector, factor: float) -> str:
    parts = [place]
    for words, i in POWERS.items():
        power = abs(powers[i])
        if power:
            sort = {1.0: words, 0.5: f"the square root of {words}", 2.0: f"the square of {words}"}
            parts.append(
                f"{'divided' if powers[i] < 0 else 'multiplied'} by {sort.get(power, f'{words} to the {power:g}')}"
            )
    parts.append("" if abs(factor - 1) < 1e-5 else f"times {number(factor)}")
    return ", ".join(filter(None, ["tokens summed", *parts]))


def _sizes(batch: Batch) -> Vector:
    """Length of the response, number of responses and of tokens, padded width, samples a prompt: [N, T, 5]."""
    mask = batch["mask"]
    n = np.broadcast_to(mask.sum(-1, keepdims=True), mask.shape)
    parts = [n, 0 * n + len(mask), 0 * n + mask.sum(), 0 * n + mask.shape[1], 0 * n + _group_size(batch)]
    return np.stack(parts, -1).astype(float)


def _places(batch: Batch, *, padded: bool = False) -> Vector:
    """Place among the tokens of its response (padded: in the row), from 1 on, and their number: [N, T, 2]."""
    mask = batch["mask"]
    place = 0 * mask + np.arange(1, mask.shape[1] + 1) if padded else np.maximum(mask.cumsum(-1), 1)
    return np.stack([place, np.broadcast_to(mask.sum(-1, keepdims=True), mask.shape)], -1).astype(float)
