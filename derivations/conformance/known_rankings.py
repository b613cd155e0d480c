"""Listwise likelihoods with a place left out, another denominator at each place, or another reduction over places."""

import itertools
from collections.abc import Callable
from typing import Any

from derivations.arrays import Array, logsumexp, namespace

Scores = list[list[Array]]  # of each ranking, best response first
PLACES: dict[str, Callable[[int], range]] = {
    "": lambda k: range(k - 1),
    "of the first place alone": lambda k: range(1),
    "without the first place": lambda k: range(1, k - 1),
    "without the last choice": lambda k: range(k - 2),
    "with the last place too": lambda k: range(k),
}
RIVALS: dict[str, Callable[[list[Any], int], list[Any]]] = {
    "": lambda row, i: row[i:],
    "each place against all responses, not against those that are left": lambda row, i: row,
    "each place against those below it, itself left out": lambda row, i: row[i + 1 :],
    "each place against those above it and itself": lambda row, i: row[: i + 1],
    "each place against the next one alone": lambda row, i: row[i : i + 2],
    "each place against the last one alone": lambda row, i: [row[i], row[-1]],
    "the best against each of the others": lambda row, i: [row[0], row[i + 1]] if i + 1 < len(row) else [row[0]],
}
SHARES: dict[str, Callable[[int, int], float]] = {  # number of responses, place from 0 on -> weight of the place
    "": lambda k, i: 1.0,
    "divided by the number of responses": lambda k, i: 1 / k,
    "divided by the number of places": lambda k, i: 1 / max(k - 1, 1),
    "each place over its number": lambda k, i: 1 / (i + 1),
    "each place times the number of responses left": lambda k, i: float(k - i),
}


def _spoiled(places: Any, rivals: Any, share: Any, best: bool) -> Callable[[Scores], Array]:
    def loss(rows: Scores) -> Array:
        xp, found = namespace(rows[0][0]), []
        for row in rows:
            k = len(row)
            total = 0 * row[0]
            for i in places(k):
                others = rivals(row, i)
                if others:
                    total = total + share(k, i) * (logsumexp(xp.stack(others, axis=-1)) - row[0 if best else i])
            found.append(total)
        return xp.stack(found, axis=0)

    return loss


SPOILED_RANKINGS: dict[str, Callable[[Scores], Array]] = {
    ", " + ", ".join(said): _spoiled(places, rivals, share, words.startswith("the best"))
    for (where, places), (words, rivals), (how, share) in itertools.product(
        PLACES.items(), RIVALS.items(), SHARES.items()
    )
    if 0 < len(said := [part for part in (where, words, how) if part]) <= 2
}
