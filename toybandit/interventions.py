"""Interventions: what if the proxy were right on these arms, or the penalty acted only on those? Statement 6."""

from dataclasses import dataclass

import numpy as np

from derivations.arrays import Array, namespace
from derivations.regularizers import Regularizer

RARE = 5  # an arm with at most this many comparisons is one the reward model hardly knows
SETS = ("none", "rare", "common", "all")


def arm_set(name: str, comparisons: np.ndarray) -> np.ndarray:
    """The arms of a named set, bool [seeds, prompts, arms], by their number of comparisons.

    none, all; rare: at most RARE comparisons; common: the others.
    """
    rare = comparisons <= RARE
    return {"none": np.zeros_like(rare), "rare": rare, "common": ~rare, "all": np.ones_like(rare)}[name]


def replace_by_gold(proxy: np.ndarray, gold: np.ndarray, arms: np.ndarray, *, keep_level: bool = False) -> np.ndarray:
    """The proxy with the gold reward on some arms; all arrays [seeds, prompts, arms].

    keep_level: shift the gold reward by one number per prompt so that the mean over the replaced arms stays
    the proxy's. Then only the order within the set is corrected, not how the set compares with the others.
    """
    if keep_level:
        count = np.maximum(1, arms.sum(axis=-1, keepdims=True))
        gold = gold + np.sum((proxy - gold) * arms, axis=-1, keepdims=True) / count
    return np.where(arms, gold, proxy)


@dataclass(frozen=True)
class Masked(Regularizer):
    """A regularizer that acts on some arms only: phi_y is 0 on the others. mask: bool, broadcasts to the log-probs.

    The constant of s matters here, as it is no longer the same for all arms. Without a barrier on the
    other arms the optimum may put no mass on them.
    """

    inner: Regularizer
    mask: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"{self.inner.name} on a set")
        object.__setattr__(self, "needs_length", self.inner.needs_length)
        object.__setattr__(self, "needs_reference", self.inner.needs_reference)

    def phi(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        value = self.inner.phi(logp, length=length, ref_logp=ref_logp)
        xp = namespace(logp)
        return xp.where(self.mask, value, xp.zeros_like(value))

    def implicit_reward(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        value = self.inner.phi_prime(logp, length=length, ref_logp=ref_logp)
        xp = namespace(logp)
        return xp.where(self.mask, value, xp.zeros_like(value))

    def slope(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        value = self.inner.slope(logp, length=length, ref_logp=ref_logp)
        xp = namespace(logp)
        return xp.where(self.mask, value, xp.zeros_like(value))
