"""Losses of pairs on a designed grid: every chosen response with every rejected one, for several pairs of lengths.

On such a grid it is a matter of subtraction whether a loss, undone, is a part of the chosen response alone plus a part
of the rejected one alone, whatever the two parts are: what is left after the means over rows and columns are taken away
is zero.
"""

import functools
from dataclasses import dataclass, replace

import numpy as np

from derivations.conformance.batches import Batch, join
from derivations.conformance.families import PAIRS
from derivations.conformance.known_pairs import Term
from derivations.conformance.loss_under_test import Subject

Vector = np.ndarray
LENGTHS = ((1, 1), (2, 2), (1, 3), (3, 1), (2, 4), (4, 2), (3, 4), (4, 3))
STATES = 5  # responses of each length on each side
SIDES = ("chosen", "rejected")
LEAST = 1e-11


@dataclass(frozen=True)
class Grid:
    """Values [blocks, chosen, rejected] of a loss, with what went in: sums [blocks, states] and lengths [blocks]."""

    values: Vector
    sums: dict[str, Vector]
    lengths: tuple[Vector, Vector]
    allowed: float
    turns: Vector  # sign of the slope by the chosen or, where it has none, the rejected response's log-probs

    def of(self, values: Vector) -> "Grid":
        """Another function of the same inputs."""
        return replace(self, values=values.reshape(self.values.shape))

    @property
    def crossed(self) -> Vector:
        """What no sum of a part of either side explains, [blocks, chosen, rejected]."""
        v = self.values
        return v - v.mean(1, keepdims=True) - v.mean(2, keepdims=True) + v.mean((1, 2), keepdims=True)

    @property
    def separable(self) -> bool:
        """Whether it is a part of the chosen response plus a part of the rejected one."""
        return small(self.crossed, self.values, self.allowed)

    def flat(self, name: str) -> Vector:
        """One input for every value, [blocks, chosen, rejected]: `w`, `l`, `rw`, `rl`."""
        shape = (len(self.sums[name]), STATES, 1) if name.endswith("w") else (len(self.sums[name]), 1, STATES)
        return np.broadcast_to(self.sums[name].reshape(shape), self.values.shape)


def small(left: Vector, values: Vector, allowed: float) -> bool:
    """Whether what is left is nothing, measured by how much the values vary and how large they are."""
    scale = max(float(np.abs(values).max()) * 1e-3, float(np.ptp(values)), LEAST)
    return bool(np.abs(left).max() <= allowed * scale)


def grid_of(subject: Subject) -> Grid:
    """The function on the grid, one pair at a time. Raises CallError."""
    batches = _batches()
    results = [subject.run(batch) for batch in batches]
    values = np.array([result.mean for result in results])
    slopes = np.array([[result.gradient[f"{side}_logps"].sum() for side in SIDES] for result in results])
    named = PAIRS.derive(_whole())
    shape = (len(LENGTHS), STATES, STATES)
    sums = {}
    for short, side in zip("wl", SIDES, strict=True):
        for role in ("", "ref_"):
            whole = named[f"{role}{side}_logp"].reshape(shape)
            sums[("r" if role else "") + short] = whole[:, :, 0] if short == "w" else whole[:, 0, :]
    w, l = (np.array([pair[i] for pair in LENGTHS], dtype=float) for i in (0, 1))
    turns = np.sign(slopes[:, 0] if slopes[:, 0].any() else slopes[:, 1])
    return Grid(values.reshape(shape), sums, (w, l), 1e-4 if subject.single else 1e-8, turns.reshape(shape))


def on_grid(term: Term, grid: Grid) -> Grid:
    """A named term on the same grid."""
    return grid.of(np.asarray(term[1](_whole()), dtype=float))


def turned(term: Term, grid: Grid) -> Grid:
    """A named term on the same grid, with the signs of its own slopes."""
    here = on_grid(term, grid)
    moved = _whole() | {"chosen_logps": _whole()["chosen_logps"] + 1e-5 * _whole()["chosen_mask"]}
    turns = np.sign(np.asarray(term[1](moved), dtype=float).reshape(here.values.shape) - here.values)
    return replace(here, turns=turns)


@functools.cache
def _whole() -> Batch:
    return join(PAIRS, _batches())


def response(seed: int, length: int) -> tuple[Vector, Vector]:
    """Log-probs of policy and reference of one response's tokens, [length] each."""
    rng = np.random.default_rng([seed, length])
    return rng.uniform(-2.5, -0.1, length).round(2), rng.uniform(-2.5, -0.1, length).round(2)


def pair_of(chosen: tuple[Vector, Vector], rejected: tuple[Vector, Vector]) -> Batch:
    """One pair from two responses."""
    batch: Batch = {}
    for side, (logps, reference) in zip(SIDES, (chosen, rejected), strict=True):
        batch |= {f"{side}_logps": logps[None], f"{side}_mask": np.ones((1, len(logps)), dtype=bool)}
        batch[f"ref_{side}_logps"] = reference[None]
    return batch


def _batches() -> list[Batch]:
    return [
        pair_of(response(i, w), response(100 + j, l)) for w, l in LENGTHS for i in range(STATES) for j in range(STATES)
    ]


def fresh_pairs() -> list[Batch]:
    """Pairs of other lengths and numbers than those of the grid, on which a description is checked."""
    lengths = ((5, 2), (2, 6), (3, 3), (1, 5), (6, 4), (4, 7), (2, 1), (5, 5))
    return [pair_of(response(900 + i, w), response(950 + i, l)) for i, (w, l) in enumerate(lengths)]
