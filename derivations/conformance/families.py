"""Contracts: which arrays a loss may ask for by name, and how summed forms follow from per-token ones."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from derivations.arrays import Array, logsumexp, masked_sum, namespace
from derivations.objectives import rloo_advantage

Arrays = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """One contract. token_axis: which axis of an array counts tokens (arrays without one are left out)."""

    name: str
    leaves: tuple[str, ...]
    token_axis: dict[str, int]
    derive: Callable[[Arrays], Arrays]
    contract: str
    clip: tuple[float, float] = (0.2, 0.2)  # of off-policy losses: how far below and above 1 a ratio counts


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


def _summed(arrays: Arrays, prefix: str) -> Arrays:
    """The summed and the averaged form of one response, and its length, beside the per-token arrays."""
    mask = arrays[f"{prefix}mask"]
    length = count(mask, arrays[f"{prefix}logps"])
    found = {f"{prefix}length": length}
    for role in ("", "ref_"):
        if f"{role}{prefix}logps" in arrays:
            total = masked_sum(arrays[f"{role}{prefix}logps"], mask)
            found |= {f"{role}{prefix}logp": total, f"{role}{prefix}mean_logp": total / length}
    return found


def _derive_pairs(arrays: Arrays) -> Arrays:
    found = dict(arrays)
    for side in ("chosen_", "rejected_"):
        found |= _summed(arrays, side)
    return found


def _derive_responses(arrays: Arrays) -> Arrays:
    return {**_derive_groups(arrays), **_summed(arrays, "")}


def _derive_policy_gradient(arrays: Arrays) -> Arrays:
    """With the advantages, leave-one-out."""
    return {**_derive_responses(arrays), "advantages": by_group(arrays["rewards"], arrays["group"], rloo_advantage)}


def _derive_off_policy(arrays: Arrays) -> Arrays:
    """The same with old log-probs of whole responses, and the advantages once more for every token."""
    found = _derive_policy_gradient(arrays)
    found["old_logp"] = masked_sum(arrays["old_logps"], arrays["mask"])
    found["token_advantages"] = found["advantages"][:, None] + namespace(arrays["old_logps"]).zeros_like(
        arrays["old_logps"]
    )
    return found


def _derive_groups(arrays: Arrays) -> Arrays:
    """With group_size, the number of samples a prompt, where it is the same for every prompt."""
    if "group" not in arrays:
        return arrays
    sizes = set(np.unique(np.asarray(arrays["group"]), return_counts=True)[1].tolist())
    return {**arrays, "group_size": sizes.pop()} if len(sizes) == 1 else arrays


def _derive_entropy(arrays: Arrays) -> Arrays:
    """Log-probs of the sampled tokens follow from the logits, so that a gradient can take either way."""
    logits, tokens = arrays["logits"], arrays["tokens"]
    xp = namespace(logits)
    every = xp.arange(logits.shape[-1]) == tokens[..., None]
    logps = masked_sum(logits, every) - logsumexp(logits)
    return _derive_responses({**arrays, "logps": logps})


_TOKENS = {"logps": 1, "mask": 1, "ref_logps": 1}
PAIRS = Family(
    "pairs",
    ("chosen_logps", "rejected_logps"),
    {f"{ref}{side}_logps": 1 for ref in ("", "ref_") for side in ("chosen", "rejected")}
    | {"chosen_mask": 1, "rejected_mask": 1},
    _derive_pairs,
    "chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps [B, T] per-token log-probs, chosen_mask, "
    "rejected_mask [B, T] bool; or summed: chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, "
    "chosen_length, rejected_length [B]; or averaged over tokens: chosen_mean_logp, ... [B]; returns a scalar (mean "
    "over pairs) or [B]",
)
RANKINGS = Family(
    "rankings",
    ("logps",),
    {"logps": 2, "mask": 2, "ref_logps": 2},
    _derive_responses,
    "logps, ref_logps [B, K, T], mask [B, K, T] bool, or logp, ref_logp, length [B, K]; ranking [B, K] indices of the "
    "responses, best first; returns a scalar (mean over rankings) or [B]",
)
POLICY_GRADIENT = Family(
    "policy gradient",
    ("logps",),
    _TOKENS | {"old_logps": 1},
    _derive_policy_gradient,
    "logps [N, T], mask [N, T] bool (or logp, length [N]), rewards [N], group [N] integer from 0 on, the prompt of "
    "each sample (its samples stand together), group_size, samples a prompt; or advantages [N], leave-one-out, instead "
    "of rewards; old_logps [N, T], equal to logps here (the off-policy objectives move them); returns a scalar (mean "
    "over samples) or [N]; its value is free, its gradient is what counts",
)
OFF_POLICY = Family(
    "off-policy",
    ("logps",),
    {"logps": 1, "mask": 1, "old_logps": 1},
    _derive_off_policy,
    "logps, old_logps [N, T] of the policy that is trained and of the one that sampled, mask [N, T] bool (or logp, "
    "old_logp, length [N]); advantages [N], leave-one-out (token_advantages [N, T]: once a token), or rewards, group "
    "[N] integer from 0 on, the prompt of each sample (its samples stand together), and group_size, samples a "
    "prompt; returns a scalar or [N]; its value is free, its gradient is what counts. How a batch is reduced and how "
    "rewards are scaled is read off the function unless --option reduction= or scale= says it",
)
UNPAIRED = Family(
    "unpaired",
    ("logps",),
    _TOKENS,
    _derive_responses,
    "logps, ref_logps [N, T] of responses, mask [N, T] bool (or logp, ref_logp, length [N]), desirable [N] bool, kl "
    "[N], nats, the reference point, the same for all; returns a scalar (mean over responses) or [N]",
)
ADVANTAGE = Family(
    "advantage",
    (),
    {},
    _derive_groups,
    "rewards [N], group [N] integer from 0 on, the prompt of each sample (its samples stand together), group_size, "
    "samples a prompt; returns advantages [N]",
)
KL_FAMILY = Family(
    "kl",
    ("logps",),
    _TOKENS,
    _derive_responses,
    "logps, ref_logps [N, T] of samples from the policy, mask [N, T] bool (or logp, ref_logp, length [N]); returns a "
    "scalar (mean over samples) or [N] (kl-reward: [N]), in nats a response",
)
ENTROPY = Family(
    "entropy",
    ("logits",),
    {"logits": 1, "tokens": 1, "mask": 1},
    _derive_entropy,
    "logits [N, T, V] at the sampled tokens, tokens [N, T], logps [N, T] of the sampled tokens, mask [N, T] bool, "
    "coefficient; returns the term that is added to the loss, a scalar (mean over samples) or [N]",
)
