"""Preference data: responses drawn from the reference and compared or ranked by the gold reward."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import SeedSequence, default_rng

from derivations.preferences import bradley_terry
from toybandit.bandit import Streams, World


@dataclass(frozen=True)
class Rankings:
    """Ranked arms, best first: ranked int [seeds, prompts, draws, m]; kept bool [seeds, prompts, draws].

    kept is False where an arm was drawn twice; such a draw says nothing and everything below leaves it
    out. arms: how many arms a prompt has. Two responses (m = 2) are a pair: chosen, rejected.
    """

    ranked: np.ndarray
    kept: np.ndarray
    arms: int

    @property
    def chosen(self) -> np.ndarray:
        """Best arm of each draw, [seeds, prompts, draws]."""
        return self.ranked[..., 0]

    @property
    def rejected(self) -> np.ndarray:
        """Worst arm of each draw, [seeds, prompts, draws]; of a pair, the other one."""
        return self.ranked[..., -1]

    def wins(self) -> np.ndarray:
        """How often arm i was placed above arm j: float64 [seeds, prompts, arms (i), arms (j)]."""
        rows = np.arange(self.kept[..., 0].size).reshape(*self.kept.shape[:-1], 1)
        total = np.zeros(rows.size * self.arms**2)
        places = self.ranked.shape[-1]
        for i in range(places):
            for j in range(i + 1, places):
                cells = (rows * self.arms + self.ranked[..., i]) * self.arms + self.ranked[..., j]
                total += np.bincount(cells[self.kept], minlength=total.size)
        return total.reshape(*self.kept.shape[:-1], self.arms, self.arms)

    def comparisons(self) -> np.ndarray:
        """In how many kept comparisons of two each arm stands: int [seeds, prompts, arms]."""
        wins = self.wins()
        return (wins.sum(axis=-1) + wins.sum(axis=-2)).astype(int)


def draw_pairs(world: World, streams: Sequence[Streams], *, count: int, held_out: bool = False) -> Rankings:
    """Two arms from pi_ref per draw, labelled by Bradley-Terry on the gold reward.

    Args:
        world: with gold reward and reference.
        streams: one per seed.
        count: draws per prompt, >= 1; pairs of one arm with itself are then dropped, so fewer are kept.
        held_out: from the stream for validation data, independent of the training pairs.

    Raises:
        ValueError: a world in which no pair is left.
    """
    parts = [
        _draw(world.gold[i], np.exp(world.ref_logp[i]), stream.held_out if held_out else stream.pairs, count)
        for i, stream in enumerate(streams)
    ]
    first, second, won = (np.stack(part) for part in zip(*parts, strict=True))
    ranked = np.stack([np.where(won, first, second), np.where(won, second, first)], axis=-1)
    return _something(Rankings(ranked=ranked, kept=first != second, arms=world.gold.shape[-1]))


def _something(data: Rankings) -> Rankings:
    empty = np.flatnonzero(~np.any(data.kept, axis=(-2, -1)))
    if empty.size:
        raise ValueError(
            f"world {empty[0]} of {len(data.kept)} has no preference pair: every draw was one arm with itself; "
            "draw more with --pairs"
        )
    return data


def _draw(
    gold: np.ndarray, ref: np.ndarray, stream: SeedSequence, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First arm, second arm and whether the first won, each [prompts, count]; gold and ref are [prompts, arms]."""
    rng = default_rng(stream)
    arms = np.stack([rng.choice(len(q), size=(2, count), p=q) for q in ref])
    rewards = np.take_along_axis(gold[:, None, :], arms, axis=-1)
    won = rng.random((len(ref), count)) < np.exp(bradley_terry(rewards[:, 0], rewards[:, 1]))
    return arms[:, 0], arms[:, 1], won


def draw_rankings(world: World, streams: Sequence[Streams], *, count: int, responses: int) -> Rankings:
    """Several arms from pi_ref per draw, ranked by Plackett-Luce on the gold reward.

    A ranking is drawn by sorting reward plus Gumbel noise, which has exactly the Plackett-Luce law
    (Yellott 1977). Draws in which an arm comes twice are dropped. Two responses give the law of `draw_pairs`.

    Args:
        world: with gold reward and reference.
        streams: one per seed.
        count: draws per prompt, >= 1.
        responses: arms per draw, 2 or more.

    Raises:
        ValueError: more responses than arms, or a world in which no ranking is left.
    """
    if not 2 <= responses <= world.gold.shape[-1]:
        raise ValueError(f"rankings of {responses} responses: expected 2 to the number of arms, {world.gold.shape[-1]}")
    ranked = []
    for gold, ref_logp, stream in zip(world.gold, world.ref_logp, streams, strict=True):
        rng = default_rng(stream.pairs)
        arms = np.stack([rng.choice(len(q), size=(count, responses), p=np.exp(q)) for q in ref_logp])
        rewards = np.take_along_axis(gold[:, None, :], arms, axis=-1)
        order = np.argsort(-(rewards + rng.gumbel(size=rewards.shape)), axis=-1)
        ranked.append(np.take_along_axis(arms, order, axis=-1))
    stacked = np.stack(ranked)
    together = np.sort(stacked, axis=-1)
    kept = np.all(np.diff(together, axis=-1) > 0, axis=-1)
    return _something(Rankings(ranked=stacked, kept=kept, arms=world.gold.shape[-1]))
