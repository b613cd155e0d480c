"""Contracts: which arrays a loss may ask for by name, and how summed forms follow from per-token ones."""

from collections.abc import Callable
from dataclasses import dataclass

from derivations.arrays import masked_sum
from derivations.conformance.derived import (
    Arrays,
    Derived,
    Rules,
    advantages,
    sampled_logps,
    sums,
    token_advantages,
    with_group_size,
)


@dataclass(frozen=True)
class Family:
    """One contract. token_axis: which axis of an array counts tokens (arrays without one are left out)."""

    name: str
    leaves: tuple[str, ...]
    token_axis: dict[str, int]
    derive: Callable[[Arrays], Derived]
    contract: str
    clip: tuple[float, float] = (0.2, 0.2)  # of off-policy losses: how far below and above 1 a ratio counts


def _derive(rules: Rules) -> Callable[[Arrays], Derived]:
    return lambda arrays: Derived(with_group_size(arrays), rules)


_ADVANTAGES: Rules = {"advantages": (("rewards", "group"), advantages)}
_OLD: Rules = {
    "old_logp": (("old_logps", "mask"), lambda arrays: masked_sum(arrays["old_logps"], arrays["mask"])),
    "token_advantages": (("advantages", "old_logps"), token_advantages),
}
_SAMPLED: Rules = {"logps": (("logits", "tokens"), sampled_logps)}
_TOKENS = {"logps": 1, "mask": 1, "ref_logps": 1}
PAIRS = Family(
    "pairs",
    ("chosen_logps", "rejected_logps"),
    {f"{ref}{side}_logps": 1 for ref in ("", "ref_") for side in ("chosen", "rejected")}
    | {"chosen_mask": 1, "rejected_mask": 1},
    _derive({**sums("chosen_"), **sums("rejected_")}),
    "chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps [B, T] per-token log-probs, chosen_mask, "
    "rejected_mask [B, T] bool; or summed: chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, "
    "chosen_length, rejected_length [B]; or averaged over tokens: chosen_mean_logp, ... [B]; returns a scalar (mean "
    "over pairs) or [B]",
)
RANKINGS = Family(
    "rankings",
    ("logps",),
    {"logps": 2, "mask": 2, "ref_logps": 2},
    _derive(sums()),
    "logps, ref_logps [B, K, T], mask [B, K, T] bool, or logp, ref_logp, length [B, K]; ranking [B, K] indices of the "
    "responses, best first; returns a scalar (mean over rankings) or [B]",
)
POLICY_GRADIENT = Family(
    "policy gradient",
    ("logps",),
    _TOKENS | {"old_logps": 1},
    _derive({**sums(), **_ADVANTAGES}),
    "logps [N, T], mask [N, T] bool (or logp, length [N]), rewards [N], group [N] integer from 0 on, the prompt of "
    "each sample (its samples stand together), group_size, samples a prompt; or advantages [N], leave-one-out, instead "
    "of rewards; old_logps [N, T], equal to logps here (the off-policy objectives move them); returns a scalar (mean "
    "over samples) or [N]; its value is free, its gradient is what counts",
)
OFF_POLICY = Family(
    "off-policy",
    ("logps",),
    {"logps": 1, "mask": 1, "old_logps": 1},
    _derive({**sums(), **_ADVANTAGES, **_OLD}),
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
    _derive(sums()),
    "logps, ref_logps [N, T] of responses, mask [N, T] bool (or logp, ref_logp, length [N]), desirable [N] bool, kl "
    "[N], nats, the reference point, the same for all; returns a scalar (mean over responses) or [N]",
)
ADVANTAGE = Family(
    "advantage",
    (),
    {},
    _derive({}),
    "rewards [N], group [N] integer from 0 on, the prompt of each sample (its samples stand together), group_size, "
    "samples a prompt; returns advantages [N]",
)
KL_FAMILY = Family(
    "kl",
    ("logps",),
    _TOKENS,
    _derive(sums()),
    "logps, ref_logps [N, T] of samples from the policy, mask [N, T] bool (or logp, ref_logp, length [N]); returns a "
    "scalar (mean over samples) or [N] (kl-reward: [N]), in nats a response",
)
ENTROPY = Family(
    "entropy",
    ("logits",),
    {"logits": 1, "tokens": 1, "mask": 1},
    _derive({**_SAMPLED, **sums()}),
    "logits [N, T, V] at the sampled tokens, tokens [N, T], logps [N, T] of the sampled tokens, mask [N, T] bool, "
    "coefficient; returns the term that is added to the loss, a scalar (mean over samples) or [N]",
)
