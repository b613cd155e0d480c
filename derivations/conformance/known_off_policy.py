"""The named terms of off-policy losses: the objectives, and what clips are mistaken for."""

from collections.abc import Callable
from typing import Any

from derivations import off_policy
from derivations.arrays import Array, masked_sum, namespace
from derivations.conformance.contracts import scaled
from derivations.conformance.families import OFF_POLICY, Arrays, by_group
from derivations.conformance.further import complete
from derivations.conformance.loss_under_test import Subject

Token = Callable[[Array, Array, Arrays, Any, Any], Array]


def off_policy_mains(subject: Subject) -> list[tuple[str, Callable[[Arrays], Array]]]:
    """Each under the reduction and the scale that were read off the function, and under the other reductions."""
    full = complete(subject.target.name, subject.target.options)
    low = full["epsilon"] or 0.2
    high = full["epsilon_high"] or low
    found = []
    for words, token in TOKENS.items():
        for reduction in dict.fromkeys([full["reduction"], "token-mean", "sequence-mean", "sum"]):
            name = words if reduction == full["reduction"] else f"{words}, reduction {reduction}"
            found.append((name, _term(token, low, high, full["scale"], reduction, full["denominator"])))
    return found


def _term(token: Token, low: Any, high: Any, scale: str, reduction: Any, denominator: Any) -> Callable[[Arrays], Array]:
    def loss(arrays: Arrays) -> Array:
        named = OFF_POLICY.derive(arrays)
        advantages = named["advantages"]
        if scale != "given":
            advantages = by_group(named["rewards"], named["group"], lambda rewards: scaled(rewards, scale))
        ratio = off_policy.ratios(named["logps"], named["old_logps"], named["mask"])
        losses, xp = token(ratio, advantages[:, None], named, low, high), namespace(ratio)
        losses = xp.where(named["mask"], losses + 0 * ratio, 0 * ratio)
        return off_policy.reduced(losses, named["mask"], reduction, denominator=denominator)

    return loss


def _surrogate(ratio: Array, a: Array, low: Any, high: Any) -> Array:
    return off_policy.clipped_surrogate(ratio, a, epsilon=low, epsilon_high=high)


def _sequence(named: Arrays, *, per_token: bool) -> Array:
    return off_policy.sequence_ratios(named["logps"], named["old_logps"], named["mask"], per_token=per_token)[:, None]


def _maximum(ratio: Array, a: Array, named: Arrays, low: Any, high: Any) -> Array:
    return -namespace(ratio).maximum(ratio * a, off_policy.clip(ratio, low, high) * a)


def _mean_ratio(named: Arrays, ratio: Array) -> Array:
    lengths = masked_sum(ratio * 0 + 1, named["mask"])
    return (masked_sum(ratio, named["mask"]) / lengths)[:, None]


def _score(named: Arrays) -> Array:
    """Log-probs, 0 under the mask."""
    logps = named["logps"]
    return namespace(logps).where(named["mask"], logps, logps * 0)


held = off_policy.detached
TOKENS: dict[str, Token] = {
    "PPO's clip": lambda r, a, n, low, high: _surrogate(r, a, low, high),
    "PPO's clip with the maximum in the place of the minimum": _maximum,
    "the clipped ratio times the advantage, without the minimum": lambda r, a, n, low, high: (
        -off_policy.clip(r, low, high) * a
    ),
    "the ratio times the advantage, without a clip": lambda r, a, n, low, high: -r * a,
    "PPO's clip, both bounds the lower one": lambda r, a, n, low, high: _surrogate(r, a, low, low),
    "PPO's clip, its bounds exchanged": lambda r, a, n, low, high: _surrogate(r, a, high, low),
    "PPO's clip of the ratio upside down": lambda r, a, n, low, high: _surrogate(1 / r, a, low, high),
    "PPO's clip, maximized": lambda r, a, n, low, high: -_surrogate(r, a, low, high),
    "REINFORCE, without a ratio": lambda r, a, n, low, high: -a * _score(n),
    "GSPO (length-normalized ratio of the response)": lambda r, a, n, low, high: _surrogate(
        _sequence(n, per_token=True), a, low, high
    ),
    "PPO's clip on the ratio of the whole response, not length-normalized": lambda r, a, n, low, high: _surrogate(
        _sequence(n, per_token=False), a, low, high
    ),
    "PPO's clip on the arithmetic mean of the ratios": lambda r, a, n, low, high: _surrogate(
        _mean_ratio(n, r), a, low, high
    ),
    "CISPO": lambda r, a, n, low, high: -held(off_policy.clip(r, low, high)) * a * _score(n),
    "CISPO with the ratio unbounded": lambda r, a, n, low, high: -held(r) * a * _score(n),
    "CISPO whose weight keeps its gradient": lambda r, a, n, low, high: -off_policy.clip(r, low, high) * a * _score(n),
}
