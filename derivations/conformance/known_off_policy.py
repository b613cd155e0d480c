"""The named terms of off-policy losses: the objectives, and what clips are mistaken for."""

from collections.abc import Callable
from typing import Any

import numpy as np

from derivations import off_policy
from derivations.arrays import Array, masked_sum, namespace
from derivations.conformance.batches import Batch, batch_of, join
from derivations.conformance.composites import Composite
from derivations.conformance.contracts import scaled
from derivations.conformance.derived import Arrays, by_group
from derivations.conformance.families import OFF_POLICY
from derivations.conformance.far import wild_samples
from derivations.conformance.further import complete
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.ratio_profile import NOT_FAR, far_samples
from derivations.conformance.ratio_use import ratio_use


def known_surrogate(subject: Subject, found: Composite, gradient: Callable[[Batch], np.ndarray]) -> str:
    """What a loss with these advantages and weights, and this gradient, does with the ratio, as measured."""

    def scale(batch: Batch) -> np.ndarray:
        each: np.ndarray = found.factor * found.advantages(batch)[:, None] * found.weights(batch)
        return each

    full = complete(subject.target.name, subject.target.options)
    low = full["epsilon"] or 0.2
    return ratio_use(subject, gradient, scale, (low, full["epsilon_high"] or low))


Known = tuple[Batch, np.ndarray, np.ndarray, np.ndarray]  # a batch, its gradient, advantages and weights


def named_surrogate(subject: Subject, found: Composite, gradient: Callable[[Batch], np.ndarray]) -> str:
    """The same by the named uses of the ratio alone; one that only holds near ratio 1 ends with NOT_FAR."""

    def known(batches: list[Batch]) -> list[Known]:
        every = [(b, gradient(b), found.factor * found.advantages(b), found.weights(b)) for b in batches]
        return [one for one in every if np.all(np.isfinite(one[1]))]

    family = subject.target.family
    near = known([join(family, batch_of(family)), *wild_samples(subject), *subject.examples])
    far, first = known(far_samples(subject)[:3]), ""
    size = float(np.sqrt(sum((goal**2).sum() for _, goal, *_ in near))) or 1e-300
    allowed = max(1e-4 if subject.single else 1e-6, 3 * found.left)
    for words, token in TOKENS.items():
        left = 0.0
        for one in near:
            left += _left(subject, token, one)
            if not np.sqrt(left) < allowed * size:
                break  # most are another one on the first batch
        else:
            with np.errstate(all="ignore"):
                off = [np.sqrt(_left(subject, token, one)) / max(1e-3, float(np.linalg.norm(one[1]))) for one in far]
            if all(each < 10 * allowed for each in off):
                return words
            first = first or words + NOT_FAR
    return first


def _left(subject: Subject, token: "Token", known: Known) -> float:
    """What a use of the ratio leaves of the gradient of a batch, squared."""
    batch, goal, advantages, weights = known
    full = complete(subject.target.name, subject.target.options)
    low = full["epsilon"] or 0.2
    high = full["epsilon_high"] or low

    def loss(arrays: Arrays) -> Array:
        named = OFF_POLICY.derive(arrays)
        ratio = off_policy.ratios(named["logps"], named["old_logps"], named["mask"])
        losses = token(ratio, subject.backend.array(advantages)[:, None], named, low, high) + 0 * ratio
        return namespace(ratio).sum(losses * subject.backend.array(weights))

    slope = subject.backend.gradient(loss, batch, ("logps",))[1]["logps"]
    return float(((slope - goal) ** 2).sum())


Token = Callable[[Array, Array, Arrays, Any, Any], Array]


def off_policy_mains(subject: Subject) -> list[tuple[str, Callable[[Arrays], Array]]]:
    """Each under the reduction and the scale that were read off the function."""
    full = complete(subject.target.name, subject.target.options)
    low = full["epsilon"] or 0.2
    high = full["epsilon_high"] or low
    found = []
    for words, token in TOKENS.items():
        found.append((words, _term(token, low, high, full["scale"], full["reduction"], full["denominator"])))
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


def _over_width(ratio: Array, named: Arrays) -> Array:
    total = masked_sum(_log(ratio), named["mask"])
    return _exp(total / named["mask"].shape[1])[:, None]


def _score(named: Arrays) -> Array:
    """Log-probs, 0 under the mask."""
    logps = named["logps"]
    return namespace(logps).where(named["mask"], logps, logps * 0)


def _least(one: Array, other: Array) -> Array:
    return namespace(one).minimum(one, other)


def _between(x: Array, low: Any, high: Any) -> Array:
    return _least(namespace(x).maximum(x, 0 * x + low), 0 * x + high)


def _log(x: Array) -> Array:
    return namespace(x).log(x)


def _exp(x: Array) -> Array:
    return namespace(x).exp(x)


def _inside(ratio: Array, low: Any, high: Any) -> Array:
    """1 where a ratio is inside of the clip, else 0."""
    return held(off_policy.clip(ratio, low, high)) == held(ratio)


held = off_policy.detached
TOKENS: dict[str, Token] = {
    "PPO's clip": lambda r, a, n, low, high: _surrogate(r, a, low, high),
    "PPO's clip with the maximum in the place of the minimum": _maximum,
    "the clipped ratio times the advantage, without the minimum": lambda r, a, n, low, high: (
        -off_policy.clip(r, low, high) * a
    ),
    "the ratio times the advantage, without a clip": lambda r, a, n, low, high: -r * a,
    "REINFORCE, without a ratio": lambda r, a, n, low, high: -a * _score(n),
    "PPO's clip, both bounds the lower one": lambda r, a, n, low, high: _surrogate(r, a, low, low),
    "PPO's clip, its bounds exchanged": lambda r, a, n, low, high: _surrogate(r, a, high, low),
    "PPO's clip of the ratio upside down": lambda r, a, n, low, high: _surrogate(1 / r, a, low, high),
    "PPO's clip, maximized": lambda r, a, n, low, high: -_surrogate(r, a, low, high),
    "PPO's clip of the log-ratio, not of the ratio": lambda r, a, n, low, high: (
        -_least(r * a, _exp(_between(_log(r), -low, high)) * a)
    ),
    "PPO's surrogate of the log-ratio in the place of the ratio": lambda r, a, n, low, high: (
        -_least(_log(r) * a, _between(_log(r), -low, high) * a)
    ),
    "PPO's clip without its lower bound": lambda r, a, n, low, high: -_least(r * a, _least(r, 1 + high + 0 * r) * a),
    "PPO's clip without its upper bound": lambda r, a, n, low, high: -_least(r * a, -_least(-r, low - 1 + 0 * r) * a),
    "PPO's clip of the log-ratio taken for the ratio": lambda r, a, n, low, high: _surrogate(_log(r), a, low, high),
    "PPO's clip of the probability taken for the ratio, the old policy left out": lambda r, a, n, low, high: _surrogate(
        _exp(_score(n)), a, low, high
    ),
    "PPO's clip whose clipped ratio is detached, so half the gradient in the clip": lambda r, a, n, low, high: (
        -_least(r * a, held(off_policy.clip(r, low, high)) * a)
    ),
    "PPO's clip of the ratio clipped before, so no minimum": lambda r, a, n, low, high: _surrogate(
        off_policy.clip(r, low, high), a, low, high
    ),
    "the least of the ratio and the clipped ratio, times the advantage": lambda r, a, n, low, high: (
        -_least(r, off_policy.clip(r, low, high)) * a
    ),
    "the largest of the ratio and the clipped ratio, times the advantage": lambda r, a, n, low, high: (
        _least(-r, -off_policy.clip(r, low, high)) * a
    ),
    "the least of the ratio times the advantage and of the clipped ratio alone": lambda r, a, n, low, high: (
        -_least(r * a, off_policy.clip(r, low, high) + 0 * a)
    ),
    "PPO's clip of the squared ratio": lambda r, a, n, low, high: _surrogate(r**2, a, low, high),
    "PPO's clip of 1 + the log-ratio": lambda r, a, n, low, high: _surrogate(1 + _log(r), a, low, high),
    "PPO's clip with tighter bounds than epsilon says": lambda r, a, n, low, high: _surrogate(r, a, low / 2, high / 2),
    "PPO's clip with wider bounds than epsilon says": lambda r, a, n, low, high: _surrogate(r, a, 2 * low, 2 * high),
    "PPO's clip, both bounds the upper one": lambda r, a, n, low, high: _surrogate(r, a, high, high),
    "PPO's clip where the advantage is positive, no clip elsewhere": lambda r, a, n, low, high: namespace(r).where(
        a + 0 * r > 0, _surrogate(r, a, low, high), -r * a
    ),
    "PPO's clip where the advantage is negative, no clip elsewhere": lambda r, a, n, low, high: namespace(r).where(
        a + 0 * r < 0, _surrogate(r, a, low, high), -r * a
    ),
    "the ratio times the advantage, tokens beyond the clip dropped": lambda r, a, n, low, high: (
        -r * a * _inside(r, low, high)
    ),
    "REINFORCE, tokens beyond the clip dropped": lambda r, a, n, low, high: -a * _score(n) * _inside(r, low, high),
    "the squared ratio times the advantage": lambda r, a, n, low, high: -(r**2) * a / 2,
    "the clipped log-ratio times the advantage": lambda r, a, n, low, high: -_between(_log(r), -low, high) * a,
    "PPO's clip of a detached ratio, times the log-prob": lambda r, a, n, low, high: (
        held(_surrogate(r, a, low, high)) * _score(n)
    ),
    "PPO's clip on the ratio of the whole response, the minimum left out": lambda r, a, n, low, high: (
        -off_policy.clip(_sequence(n, per_token=False), low, high) * a
    ),
    "GSPO without the minimum": lambda r, a, n, low, high: (
        -off_policy.clip(_sequence(n, per_token=True), low, high) * a
    ),
    "the ratio of the whole response times the advantage, without a clip": lambda r, a, n, low, high: (
        -_sequence(n, per_token=False) * a
    ),
    "the length-normalized ratio of the response times the advantage, without a clip": lambda r, a, n, low, high: (
        -_sequence(n, per_token=True) * a
    ),
    "CISPO with 1 + bound exchanged for the bound": lambda r, a, n, low, high: (
        -held(_between(r, 1 - low, high)) * a * _score(n)
    ),
    "CISPO with the ratio upside down": lambda r, a, n, low, high: (
        -held(off_policy.clip(1 / r, low, high)) * a * _score(n)
    ),
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
    "PPO's clip on the ratio of the response over the padded width": lambda r, a, n, low, high: _surrogate(
        _over_width(r, n), a, low, high
    ),
    "PPO's clip on the mean of the ratios over the padded width": lambda r, a, n, low, high: _surrogate(
        namespace(r).mean(r, axis=-1)[:, None], a, low, high
    ),
    "CISPO without its lower bound": lambda r, a, n, low, high: -held(_least(r, 1 + high + 0 * r)) * a * _score(n),
    "CISPO without its lower bound, whose weight keeps its gradient": lambda r, a, n, low, high: (
        -_least(r, 1 + high + 0 * r) * a * _score(n)
    ),
    "CISPO with the probability for the log-prob": lambda r, a, n, low, high: (
        -held(off_policy.clip(r, low, high)) * a * _exp(_score(n))
    ),
    "CISPO with the ratio unbounded": lambda r, a, n, low, high: -held(r) * a * _score(n),
    "CISPO whose weight keeps its gradient": lambda r, a, n, low, high: -off_policy.clip(r, low, high) * a * _score(n),
}
