"""Single examples with short numbers, of every family: a pair, a ranking, the samples of one prompt, a response."""

from collections.abc import Sequence

import numpy as np

from derivations.conformance.families import Family

Batch = dict[str, np.ndarray]
# Rewards of verifiable tasks: exactly 0 and 1; one apart from the rest, and all alike.
VERIFIED = ((1, 0), (0, 0), (1, 0, 0), (1, 1, 1), (0, 1, 1, 1), (0, 0, 1, 0), (1, 1, 1, 1), (0, 0, 0, 0))


def _logps(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.uniform(-2.5, -0.1, shape).round(2)


def pair(rng: np.random.Generator, chosen: int, rejected: int) -> Batch:
    """One pair of `chosen` and `rejected` tokens, unpadded."""
    batch: Batch = {}
    for side, length in (("chosen", chosen), ("rejected", rejected)):
        batch[f"{side}_logps"] = _logps(rng, 1, length)
        batch[f"{side}_mask"] = np.ones((1, length), dtype=bool)
        batch[f"ref_{side}_logps"] = _logps(rng, 1, length)
    return batch


def ranking(rng: np.random.Generator, lengths: Sequence[int]) -> Batch:
    """One ranking of responses with these lengths; responses do not stand in the order of the ranking."""
    k, longest = len(lengths), max(lengths)
    mask = np.arange(longest)[None, None] < np.asarray(lengths)[None, :, None]
    return {
        "logps": _logps(rng, 1, k, longest),
        "ref_logps": _logps(rng, 1, k, longest),
        "mask": mask,
        "ranking": np.roll(np.arange(k), 1)[None],
    }


def samples(rng: np.random.Generator, lengths: Sequence[int], rewards: Sequence[float] = ()) -> Batch:
    """Samples of one prompt with their rewards, padded on the right; rewards: instead of random ones."""
    n, longest = len(lengths), max(lengths)
    logps = _logps(rng, n, longest)
    return {
        "logps": logps,
        "old_logps": logps.copy(),
        "ref_logps": _logps(rng, n, longest),
        "mask": np.arange(longest)[None] < np.asarray(lengths)[:, None],
        "rewards": np.array(rewards, dtype=float) if rewards else rng.uniform(-1, 2, n).round(1),
        "group": np.zeros(n, dtype=np.int64),
    }


def drawn_before(
    rng: np.random.Generator,
    lengths: Sequence[int],
    moves: Sequence[str],
    clip: tuple[float, float],
    rewards: Sequence[float] = (),
) -> Batch:
    """Samples of one prompt that an older policy drew. moves: where each sample's ratios lie, of all its tokens.

    `in` the clip, `up` or `down` out of it, `mixed` (one after the other), or at the `low edge` or the `high edge`.
    """
    batch = samples(rng, lengths, rewards)
    low, high = clip
    inside = 0.4 * min(np.log1p(high), -np.log1p(-min(low, 0.9)))
    up, down = np.log1p(high) + 0.3, np.log1p(-min(low, 0.9)) - 0.4
    places = {"in": (inside, -inside), "up": (up, up + 0.1), "down": (down, down - 0.1), "mixed": (up, down, inside)}
    # hardly inside below, hardly outside above: a clip of the log-ratio, or with its bounds exchanged, is another there
    places |= {"low edge": (0.95 * np.log1p(-min(low, 0.9)),), "high edge": (1.05 * np.log1p(high),)}
    for row, move in enumerate(moves):
        for token in range(batch["logps"].shape[1]):
            batch["old_logps"][row, token] -= places[move][token % len(places[move])]
    return batch


def unpaired(rng: np.random.Generator, length: int, desirable: bool) -> Batch:
    """One response, liked or not."""
    one = {name: samples(rng, (length,))[name] for name in ("logps", "ref_logps", "mask")}
    return one | {"desirable": np.array([desirable]), "kl": np.array([0.3])}


def tokens_with_logits(rng: np.random.Generator, length: int, vocabulary: int = 3) -> Batch:
    """One sample of `length` tokens with the logits they were drawn from."""
    return {
        "logits": rng.normal(size=(1, length, vocabulary)).round(1),
        "tokens": rng.integers(vocabulary, size=(1, length)),
        "mask": np.ones((1, length), dtype=bool),
    }


def with_hole(family: Family, batch: Batch) -> Batch:
    """The second token masked out (a tool's output amid the answer), the third certain: a log-prob of exactly 0."""
    changed = {name: array.copy() for name, array in batch.items()}
    for name, axis in family.token_axis.items():
        if name.endswith("mask"):
            changed[name].swapaxes(0, axis)[1] = False
        elif name.endswith("logps") and not name.startswith("ref"):
            changed[name].swapaxes(0, axis)[2] = 0.0
    return changed
