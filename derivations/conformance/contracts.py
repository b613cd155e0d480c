"""What each named objective expects: the shape of its inputs, and its value through the ground floor's own functions.

A family is a contract (which arrays a loss may ask for by name), the arrays it is differentiated by, and
how summed forms follow from per-token ones. A target is one named objective of a family with its options.
Everything is written for any array namespace, so expected values and gradients come from NumPy or torch.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from derivations.advantages import standardized
from derivations.arrays import Array, logsumexp, masked_sum, namespace
from derivations.cli.errors import suggest
from derivations.names import OBJECTIVES, make_objective
from derivations.objectives import kl_estimate, kl_k1, rloo_advantage
from derivations.tokens import token_entropy

Arrays = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """One contract. token_axis: which axis of an array counts tokens (arrays without one are left out)."""

    name: str
    leaves: tuple[str, ...]
    token_axis: dict[str, int]
    derive: Callable[[Arrays], Arrays]
    contract: str


def count(mask: Array, like: Array) -> Array:
    """Number of supervised tokens, in the floating type of `like`: mask [..., T] -> [...]."""
    return masked_sum(namespace(like).ones_like(like), mask)


def _summed(arrays: Arrays, prefix: str) -> Arrays:
    """The summed form of one response: logp and length, beside the per-token arrays."""
    logps, mask = arrays[f"{prefix}logps"], arrays[f"{prefix}mask"]
    return {f"{prefix}logp": masked_sum(logps, mask), f"{prefix}length": count(mask, logps)}


def _derive_pairs(arrays: Arrays) -> Arrays:
    found = dict(arrays)
    for side in ("chosen_", "rejected_"):
        found |= _summed(arrays, side)
        found[f"ref_{side}logp"] = masked_sum(arrays[f"ref_{side}logps"], arrays[f"{side}mask"])
    return found


def _derive_responses(arrays: Arrays) -> Arrays:
    ref = {"ref_logp": masked_sum(arrays["ref_logps"], arrays["mask"])} if "ref_logps" in arrays else {}
    return {**_derive_groups(arrays), **_summed(arrays, ""), **ref}


def _derive_policy_gradient(arrays: Arrays) -> Arrays:
    """With the advantages, and with the log-probs at the time of sampling, which are the policy's own without history.

    The latter only where a library keeps one: differences would move both sides of a ratio.
    """
    found = _derive_responses(arrays)
    found["advantages"] = by_group(arrays["rewards"], arrays["group"], rloo_advantage)
    return found | ({"old_logps": detached(arrays["logps"])} if hasattr(arrays["logps"], "detach") else {})


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
    "chosen_length, rejected_length [B]; returns a scalar (mean over pairs) or [B]",
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
    _TOKENS,
    _derive_policy_gradient,
    "logps [N, T], mask [N, T] bool (or logp, length [N]), rewards [N], group [N] integer from 0 on, the prompt of "
    "each sample (its samples stand together), group_size, samples a prompt; or advantages [N], leave-one-out, instead "
    "of rewards; old_logps [N, T], equal to logps and detached (torch only); returns a scalar (mean over samples) or "
    "[N]; its value is free, its gradient is what counts",
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

# The online names: family and options. `loss` functions below give what they should compute.
ONLINE: dict[str, tuple[Family, tuple[str, ...]]] = {
    "rloo": (POLICY_GRADIENT, ()),
    "rloo-advantage": (ADVANTAGE, ()),
    "grpo-advantage": (ADVANTAGE, ()),
    "kl-metric": (KL_FAMILY, ()),
    "kl-reward": (KL_FAMILY, ()),
    "kl-loss": (KL_FAMILY, ()),
    "kl-loss-token": (KL_FAMILY, ()),
    "entropy-token": (ENTROPY, ("coefficient",)),
    "entropy-sequence": (ENTROPY, ("coefficient",)),
}
NAMES = (*OBJECTIVES, *ONLINE)
EACH = ("rloo-advantage", "grpo-advantage", "kl-reward")  # one value a sample; their mean would say nothing


def family_of(name: str) -> Family:
    """The contract of a named objective. Raises ValueError for an unknown name."""
    if name not in NAMES:
        raise ValueError(f"unknown objective {name!r}{suggest(name, list(NAMES))}")
    if name in ONLINE:
        return ONLINE[name][0]
    return RANKINGS if OBJECTIVES[name].listwise else PAIRS


def options_of(name: str) -> tuple[str, ...]:
    """Options a named objective takes; the first is its strength."""
    if name in ONLINE:
        return ONLINE[name][1]
    return (OBJECTIVES[name].strength, *OBJECTIVES[name].options)


@dataclass(frozen=True)
class Target:
    """One named objective with its options. Raises ValueError, with the mend, for options that do not fit."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        family_of(self.name)
        if self.name in OBJECTIVES:
            make_objective(self.name, **self.options)
        elif self.option_names and set(self.options) != set(self.option_names):
            raise ValueError(f"objective {self.name} needs {', '.join(self.option_names)} (--option name=number)")

    @property
    def family(self) -> Family:
        """The contract of the objective."""
        return family_of(self.name)

    @property
    def option_names(self) -> tuple[str, ...]:
        """Options the objective takes; the first is its strength."""
        return options_of(self.name)

    @property
    def needs_length(self) -> bool:
        """Whether the implicit reward is divided by the token count."""
        return self.name in OBJECTIVES and make_objective(self.name, **self.options).regularizer.needs_length

    @property
    def needs_reference(self) -> bool:
        """Whether the reference policy enters."""
        return self.name.startswith("kl-") or (
            self.name in OBJECTIVES and make_objective(self.name, **self.options).regularizer.needs_reference
        )

    def with_options(self, **options: Any) -> "Target":
        """The same objective with some options changed."""
        return replace(self, options=self.options | options)

    def losses(self, arrays: Arrays) -> Array:
        """One value an example, [B], from the canonical arrays of the family (any array namespace)."""
        named = self.family.derive(arrays)
        if self.family is PAIRS:
            return self._pairs(named)
        if self.family is RANKINGS:
            return self._rankings(named)
        return _ONLINE_LOSSES[self.name](named, **self.options)

    def _pairs(self, named: Arrays) -> Array:
        objective = make_objective(self.name, **self.options)
        rewards = [
            objective.rewards(named[f"{side}_logp"], length=named[f"{side}_length"], ref_logp=named[f"ref_{side}_logp"])
            for side in ("chosen", "rejected")
        ]
        return objective.loss(namespace(*rewards).stack(rewards, axis=-1))

    def _rankings(self, named: Arrays) -> Array:
        objective = make_objective(self.name, **self.options)
        rewards = objective.rewards(named["logp"], length=named["length"], ref_logp=named["ref_logp"])
        xp = namespace(rewards)
        order = np.asarray(named["ranking"])
        rows = [xp.stack([rewards[b, int(k)] for k in row], axis=-1) for b, row in enumerate(order)]
        return objective.loss(xp.stack(rows, axis=0))


def by_group(rewards: Array, group: Any, function: Callable[[Array], Array]) -> Array:
    """Apply `function` [k] -> [k] to the rewards of each prompt: rewards [N], group [N] -> [N]."""
    xp, ids = namespace(rewards), np.asarray(group)
    found: dict[int, Array] = {}
    for prompt in np.unique(ids):
        rows = [int(i) for i in np.flatnonzero(ids == prompt)]
        values = function(xp.stack([rewards[i] for i in rows], axis=-1))
        found |= {i: values[j] for j, i in enumerate(rows)}
    return xp.stack([found[i] for i in range(len(ids))], axis=0)


def detached(array: Array) -> Array:
    """The array without its history, where its library keeps one (torch)."""
    return array.detach() if hasattr(array, "detach") else array


def _rloo(named: Arrays) -> Array:
    return -by_group(named["rewards"], named["group"], rloo_advantage) * named["logp"]


def _kl_loss_token(named: Arrays) -> Array:
    """k2 of each token, summed; masked before it is squared, so that no -inf gets into the gradient."""
    mask, xp = named["mask"], namespace(named["logps"])
    logps, reference = (xp.where(mask, named[name], xp.zeros_like(named[name])) for name in ("logps", "ref_logps"))
    return xp.sum(kl_estimate(logps, reference, role="loss"), axis=-1)


def _entropy_token(named: Arrays, *, coefficient: Any) -> Array:
    return -coefficient * masked_sum(token_entropy(named["logits"]), named["mask"]) / named["length"]


def _entropy_sequence(named: Arrays, *, coefficient: Any) -> Array:
    """(log pi)^2 / 2: differentiated directly its expected gradient is that of -H, as k2 is KL's (THEORY 3.4)."""
    logp = named["logp"]
    return coefficient * kl_estimate(logp, namespace(logp).zeros_like(logp), role="loss")


_ONLINE_LOSSES: dict[str, Callable[..., Array]] = {
    "rloo": _rloo,
    "rloo-advantage": lambda named: by_group(named["rewards"], named["group"], rloo_advantage),
    "grpo-advantage": lambda named: by_group(named["rewards"], named["group"], standardized),
    "kl-metric": lambda named: kl_estimate(named["logp"], named["ref_logp"], role="metric"),
    "kl-reward": lambda named: detached(kl_k1(named["logp"], named["ref_logp"])),
    "kl-loss": lambda named: kl_estimate(named["logp"], named["ref_logp"], role="loss"),
    "kl-loss-token": _kl_loss_token,
    "entropy-token": _entropy_token,
    "entropy-sequence": _entropy_sequence,
}
