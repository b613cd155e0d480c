"""Preference data: pairs of responses drawn from the reference and compared by the gold reward."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import default_rng

from derivations.preferences import bradley_terry
from toybandit.bandit import Streams, World


@dataclass(frozen=True)
class Pairs:
    """Compared arms, [seeds, prompts, draws] each.

    chosen, rejected: arm indices. kept: False where both draws were the same arm; such a pair says
    nothing and everything below leaves it out. arms: how many arms a prompt has.
    """

    chosen: np.ndarray
    rejected: np.ndarray
    kept: np.ndarray
    arms: int

    def wins(self) -> np.ndarray:
        """How often arm i was preferred to arm j: float64 [seeds, prompts, arms (i), arms (j)]."""
        rows = np.arange(self.kept[..., 0].size).reshape(*self.kept.shape[:-1], 1)
        cells = (rows * self.arms + self.chosen) * self.arms + self.rejected
        counts = np.bincount(cells[self.kept], minlength=rows.size * self.arms**2)
        return counts.reshape(*self.kept.shape[:-1], self.arms, self.arms).astype(float)

    def comparisons(self) -> np.ndarray:
        """In how many kept pairs each arm stands: int [seeds, prompts, arms]."""
        wins = self.wins()
        return (wins.sum(axis=-1) + wins.sum(axis=-2)).astype(int)


def draw_pairs(world: World, streams: Sequence[Streams], *, count: int) -> Pairs:
    """`count` draws a prompt: two arms from pi_ref, labelled by Bradley-Terry on the gold reward.

    `count` >= 1 is the number of draws; same-arm pairs are then dropped, so fewer are kept.
    """
    first, second, won = (
        np.stack(parts)
        for parts in zip(
            *(
                _draw(world.gold[i], np.exp(world.ref_logp[i]), default_rng(stream.pairs), count)
                for i, stream in enumerate(streams)
            ),
            strict=True,
        )
    )
    return Pairs(
        chosen=np.where(won, first, second),
        rejected=np.where(won, second, first),
        kept=first != second,
        arms=world.gold.shape[-1],
    )


def _draw(
    gold: np.ndarray, ref: np.ndarray, rng: np.random.Generator, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First arm, second arm and whether the first won, each [prompts, count]; gold and ref are [prompts, arms]."""
    arms = np.stack([rng.choice(len(q), size=(2, count), p=q) for q in ref])
    rewards = np.take_along_axis(gold[:, None, :], arms, axis=-1)
    won = rng.random((len(ref), count)) < np.exp(bradley_terry(rewards[:, 0], rewards[:, 1]))
    return arms[:, 0], arms[:, 1], won
