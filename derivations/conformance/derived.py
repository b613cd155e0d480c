"""What follows from the arrays of a batch: sums, means and lengths of responses, advantages, log-probs of logits.

Most losses read two or three of them, and a conformance run calls a loss some hundred times, so each is computed when
it is first asked for.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from derivations.arrays import Array, logsumexp, masked_sum, namespace
from derivations.objectives import rloo_advantage

Arrays = Mapping[str, Any]
Rule = tuple[tuple[str, ...], Callable[[Arrays], Any]]  # the names it is computed from, and how
Rules = Mapping[str, Rule]


class Derived(Mapping[str, Any]):
    """Arrays by name, with those that follow from them by rules."""

    def __init__(self, arrays: Arrays, rules: Rules) -> None:
        self._given, self._known, self._rules = arrays, dict(arrays), rules

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            self._known[name] = self._rules[name][1](self)
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        if name in self._known:
            return True
        return isinstance(name, str) and name in self._rules and all(n in self for n in self._rules[name][0])

    def __iter__(self) -> Iterator[str]:
        return iter([*self._known, *(name for name in self._rules if name not in self._known and name in self)])

    def __or__(self, others: Arrays) -> "Derived":
        """With other arrays in the place of some; what follows from them follows anew."""
        return Derived({**self._given, **others}, self._rules)

    def __len__(self) -> int:
        return len(list(iter(self)))


def by_group(rewards: Array, group: Any, function: Callable[[Array], Array]) -> Array:
    """Apply `function` [k] -> [k] to the rewards of each prompt: rewards [N], group [N] -> [N]."""
    xp, ids = namespace(rewards), np.asarray(group)
    found: dict[int, Array] = {}
    for prompt in np.unique(ids):
        rows = [int(i) for i in np.flatnonzero(ids == prompt)]
        values = function(xp.stack([rewards[i] for i in rows], axis=-1))
        found |= {i: values[j] for j, i in enumerate(rows)}
    return xp.stack([found[i] for i in range(len(ids))], axis=0)


def count(mask: Array, like: Array) -> Array:
    """Number of supervised tokens, in the floating type of `like`: mask [..., T] -> [...]."""
    return masked_sum(namespace(like).ones_like(like), mask)


def sums(prefix: str = "") -> Rules:
    """The summed and the averaged form of one response, with the reference's and its length."""
    mask, length = f"{prefix}mask", f"{prefix}length"

    def total_of(tokens: str) -> Callable[[Arrays], Any]:
        return lambda arrays: masked_sum(arrays[tokens], arrays[mask])

    def mean_of(total: str) -> Callable[[Arrays], Any]:
        return lambda arrays: arrays[total] / arrays[length]

    rules: dict[str, Rule] = {length: ((mask, f"{prefix}logps"), lambda a: count(a[mask], a[f"{prefix}logps"]))}
    for role in ("", "ref_"):
        tokens, total = f"{role}{prefix}logps", f"{role}{prefix}logp"
        rules[total] = (tokens, mask), total_of(tokens)
        rules[f"{role}{prefix}mean_logp"] = (total, length), mean_of(total)
    return rules


def advantages(arrays: Arrays) -> Array:
    """The rewards of each prompt's samples, leave-one-out, [N]."""
    return by_group(arrays["rewards"], arrays["group"], rloo_advantage)


def token_advantages(arrays: Arrays) -> Array:
    """The advantage of each sample once a token, [N, T]."""
    old = arrays["old_logps"]
    return arrays["advantages"][:, None] + namespace(old).zeros_like(old)


def sampled_logps(arrays: Arrays) -> Array:
    """Log-probs of the sampled tokens from the logits, so that a gradient can take either way, [N, T]."""
    logits, tokens = arrays["logits"], arrays["tokens"]
    every = namespace(logits).arange(logits.shape[-1]) == tokens[..., None]
    return masked_sum(logits, every) - logsumexp(logits)


def with_group_size(arrays: Arrays) -> Arrays:
    """With group_size, the number of samples a prompt, where it is the same for every prompt."""
    if "group" not in arrays:
        return arrays
    counts = np.bincount(np.asarray(arrays["group"]))
    sizes = set(counts[counts > 0].tolist())
    return {**arrays, "group_size": sizes.pop()} if len(sizes) == 1 else arrays
