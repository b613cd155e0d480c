"""What each named objective expects: the shape of its inputs, and its value through the ground floor's own functions.

A target is one named objective of a family (`conformance.families`) with its options.
Everything is written for any array namespace, so expected values and gradients come from NumPy or torch.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from derivations.advantages import group_mean, standardized
from derivations.arrays import Array, masked_sum, namespace
from derivations.cli.errors import suggest
from derivations.conformance.derived import Arrays, by_group
from derivations.conformance.families import (
    ADVANTAGE,
    ENTROPY,
    KL_FAMILY,
    PAIRS,
    POLICY_GRADIENT,
    RANKINGS,
    Family,
)
from derivations.conformance.further import FURTHER, OFF, PREFERENCE, complete
from derivations.names import OBJECTIVES, make_objective
from derivations.objectives import Objective, kl_estimate, kl_k1, rloo_advantage
from derivations.off_policy import detached
from derivations.tokens import token_entropy

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
NAMES = (*OBJECTIVES, *PREFERENCE, *ONLINE, *OFF)
EACH = ("rloo-advantage", "grpo-advantage", "kl-reward")  # one value a sample; their mean would say nothing


def family_of(name: str) -> Family:
    """The contract of a named objective. Raises ValueError for an unknown name."""
    if name not in NAMES:
        raise ValueError(f"unknown objective {name!r}{suggest(name, list(NAMES))}")
    if name in FURTHER:
        return FURTHER[name].family
    if name in ONLINE:
        return ONLINE[name][0]
    return RANKINGS if OBJECTIVES[name].listwise else PAIRS


def options_of(name: str) -> tuple[str, ...]:
    """Options a named objective takes; the first is its strength."""
    if name in FURTHER:
        return tuple(FURTHER[name].options)
    if name in ONLINE:
        return ONLINE[name][1]
    return (OBJECTIVES[name].strength, *OBJECTIVES[name].options)


def required_of(name: str) -> tuple[str, ...]:
    """Options that have to be given, by the function's defaults or by the user."""
    if name in FURTHER:
        return tuple(option for option, default in FURTHER[name].options.items() if default is None and name not in OFF)
    return options_of(name)[:1]


@dataclass(frozen=True)
class Target:
    """One named objective with its options. Raises ValueError, with the mend, for options that do not fit."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        family_of(self.name)
        if self.name in OBJECTIVES:
            make_objective(self.name, **self.options)
        elif self.name in FURTHER:
            complete(self.name, self.options)
        elif self.option_names and set(self.options) != set(self.option_names):
            raise ValueError(f"objective {self.name} needs {', '.join(self.option_names)} (--option name=number)")

    @functools.cached_property
    def family(self) -> Family:
        """The contract of the objective; that of an off-policy one says where its clip is."""
        family = family_of(self.name)
        if self.name not in OFF:
            return family
        low = self._complete["epsilon"] or 0.2
        return replace(family, clip=(low, self._complete["epsilon_high"] or low))

    @functools.cached_property
    def _objective(self) -> Objective:
        """That of one of the names of `derivations.names`."""
        return make_objective(self.name, **self.options)

    @functools.cached_property
    def _complete(self) -> dict[str, Any]:
        """The options of a further objective with their defaults."""
        return complete(self.name, self.options)

    @property
    def option_names(self) -> tuple[str, ...]:
        """Options the objective takes; the first is its strength."""
        return options_of(self.name)

    @property
    def needs_length(self) -> bool:
        """Whether the implicit reward is divided by the token count."""
        if self.name in FURTHER:
            return FURTHER[self.name].needs_length
        return self.name in OBJECTIVES and self._objective.regularizer.needs_length

    @property
    def needs_reference(self) -> bool:
        """Whether the reference policy enters."""
        if self.name in FURTHER:
            return FURTHER[self.name].needs_reference
        return self.name.startswith("kl-") or (self.name in OBJECTIVES and self._objective.regularizer.needs_reference)

    def with_options(self, **options: Any) -> "Target":
        """The same objective with some options changed."""
        return replace(self, options=self.options | options)

    def losses(self, arrays: Arrays) -> Array:
        """One value an example, [B], from the canonical arrays of the family (any array namespace)."""
        named = self.family.derive(arrays)
        if self.name in FURTHER:
            options = dict(self._complete)
            scale = options.pop("scale", "given")
            if scale != "given":
                advantages = by_group(named["rewards"], named["group"], lambda rewards: scaled(rewards, scale))
                named = named | {"advantages": advantages}
            return FURTHER[self.name].loss(named, **options)
        if self.family is PAIRS:
            return self._pairs(named)
        if self.family is RANKINGS:
            return self._rankings(named)
        return _ONLINE_LOSSES[self.name](named, **self.options)

    def _pairs(self, named: Arrays) -> Array:
        rewards = [
            self._objective.rewards(
                named[f"{side}_logp"], length=named[f"{side}_length"], ref_logp=named[f"ref_{side}_logp"]
            )
            for side in ("chosen", "rejected")
        ]
        return self._objective.loss(namespace(*rewards).stack(rewards, axis=-1))

    def _rankings(self, named: Arrays) -> Array:
        rewards = self._objective.rewards(named["logp"], length=named["length"], ref_logp=named["ref_logp"])
        xp = namespace(rewards)
        order = np.asarray(named["ranking"])
        rows = [xp.stack([rewards[b, int(k)] for k in row], axis=-1) for b, row in enumerate(order)]
        return self._objective.loss(xp.stack(rows, axis=0))


def scaled(rewards: Array, scale: str) -> Array:
    """Advantages of one group by the name of their scale: one of `further.SCALES`. [..., k]."""
    if scale in ("leave-one-out", "mean"):
        return rloo_advantage(rewards) if scale == "leave-one-out" else group_mean(rewards)
    kind, _, epsilon = scale.partition("+")
    return standardized(rewards, epsilon=float(epsilon), population=kind == "population-std")


def _rloo(named: Arrays) -> Array:
    return -named["advantages"] * named["logp"]  # leave-one-out, unless a batch has others


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
