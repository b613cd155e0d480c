"""Policy gradients that are no named one: which advantage, changed how, and each token weighted how.

At ratio 1 the gradient by a log-prob is -(the sample's advantage) x (the token's weight), whatever the clip. So it is
compared with every advantage under every change and every weight, over single prompts and a batch of them; that names
both, and what the ratio adds can then be looked for with the right ones (`known_off_policy`).
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from derivations.conformance.batches import Batch, batch_of, join
from derivations.conformance.calls import CallError
from derivations.conformance.families import ADVANTAGE, OFF_POLICY
from derivations.conformance.how import at_ratio_one
from derivations.conformance.laws import number
from derivations.conformance.loss_under_test import Subject
from derivations.objectives import rloo_advantage

Vector = np.ndarray
FIT = 1e-6
GUARDS = (0.0, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)


@dataclass(frozen=True)
class Composite:
    """What was found: the advantages [N] of a batch, the tokens' weights [N, T], and both in words."""

    advantages: Callable[[Batch], Vector]
    weights: Callable[[Batch], Vector]
    factor: float
    words: str


def composite(subject: Subject) -> Composite | None:
    """The advantage and the weights that explain the gradient at ratio 1 (or, of advantages, the value), or nothing."""
    family = subject.target.family
    whole = join(family, batch_of(family))
    data = [*subject.examples, whole]
    if family.name == OFF_POLICY.name:
        data = [at_ratio_one(batch) for batch in data]
    try:
        runs = [subject.run(batch, gradient=family is not ADVANTAGE) for batch in data]
    except CallError:
        return None
    goal = np.concatenate([-run.gradient["logps"].ravel() if run.gradient else run.value.ravel() for run in runs])
    allowed = 1e-4 if subject.rough or not runs[0].exact else FIT
    if not np.all(np.isfinite(goal)) or not goal.any():
        return None
    best, least = None, np.inf
    for found, left in _fits(subject, data, goal, allowed):
        rank = left + (1.0 if ", times " in found.words else 0.0)
        if rank < least:
            best, least = found, rank
        if rank < 1e-9:
            break
    return best


def _fits(subject: Subject, data: list[Batch], goal: Vector, allowed: float) -> Iterator[tuple[Composite, float]]:
    """Every advantage and weight that explains the numbers, with what is left over."""
    weights = _weights(subject)
    fixed = {how: np.concatenate([w(b, np.ones(len(b["rewards"]))).ravel() for b in data]) for how, w in weights}
    width = [w.shape[1] for w in (weights[0][1](b, np.ones(len(b["rewards"]))) for b in data)]
    size = float(np.linalg.norm(goal))
    for what, advantages in _advantages(subject):
        with np.errstate(all="ignore"):
            each = [advantages(b) for b in data]
        long = np.concatenate([np.repeat(a, n) for a, n in zip(each, width, strict=True)])
        if not np.all(np.isfinite(long)):
            continue
        for how, weigh in weights:
            w = fixed[how]
            if "advantage" in how:
                w = np.concatenate([weigh(b, a).ravel() for b, a in zip(data, each, strict=True)])
            column = long * w
            own = float(column @ column)
            factor = float(column @ goal) / own if own else 0.0
            left = float(np.linalg.norm(goal - factor * column)) / size
            if left < allowed:
                times = "" if abs(factor - 1) < 1e-5 else f", times {number(factor)}"
                words = ", ".join(filter(None, [what, how])) + times
                yield Composite(advantages, lambda b, a=advantages, w=weigh: w(b, a(b)), factor, words), left  # type: ignore[misc]


def _groups(batch: Batch) -> list[Vector]:
    """Rows of each prompt."""
    return [np.flatnonzero(batch["group"] == g) for g in np.unique(batch["group"])]


def _by_prompt(change: Callable[[Vector], Vector]) -> Callable[[Batch], Vector]:
    def advantages(batch: Batch) -> Vector:
        found = np.zeros(len(batch["rewards"]))
        for rows in _groups(batch):
            found[rows] = change(batch["rewards"][rows])
        return found

    return advantages


def _deviations() -> Iterator[tuple[str, Callable[[Vector], float]]]:
    for kind, ddof in (("sample", 1), ("population", 0)):
        for guard in GUARDS:
            yield f"the {kind} deviation + {guard:g}", lambda r, d=ddof, g=guard: float(r.std(ddof=d) + g)  # type: ignore[misc]
        for guard in GUARDS:
            yield f"the {kind} variance + {guard:g}", lambda r, d=ddof, g=guard: float(r.var(ddof=d) + g)  # type: ignore[misc]
        for guard in GUARDS[1:]:
            yield (
                f"the root of the {kind} variance + {guard:g}",
                lambda r, d=ddof, g=guard: float((r.var(ddof=d) + g) ** 0.5),  # type: ignore[misc]
            )
        for least in (0.01, 0.1, 1.0):
            yield (
                f"the {kind} deviation, at least {least:g}",
                lambda r, d=ddof, g=least: float(max(r.std(ddof=d), g)),  # type: ignore[misc]
            )
    yield "the range + 1e-8", lambda r: float(np.ptp(r) + 1e-8)
    yield "the largest size + 1e-8", lambda r: float(np.abs(r).max() + 1e-8)
    yield "the mean deviation + 1e-8", lambda r: float(np.abs(r - r.mean()).mean() + 1e-8)


BASELINES: dict[str, Callable[[Vector], Vector]] = {
    "leave-one-out": rloo_advantage,
    "reward minus the group's mean": lambda r: r - r.mean(),
    "the plain reward": lambda r: r,
    "reward minus the group's median": lambda r: r - np.median(r),
    "reward minus the group's lower median": lambda r: r - np.sort(r)[(len(r) - 1) // 2],
    "reward minus the group's sum over k - 1": lambda r: r - r.sum() / (len(r) - 1),
    "reward minus the mean of the group and 0": lambda r: r - r.sum() / (len(r) + 1),
    "reward minus 1/2": lambda r: r - 0.5,
    "reward minus the group's best": lambda r: r - r.max(),
    "reward minus the group's worst": lambda r: r - r.min(),
}
RANKS: dict[str, Callable[[Vector], Vector]] = {
    "a softmax of the group's rewards": lambda r: np.exp(r - r.max()) / np.exp(r - r.max()).sum(),
    "a softmax of the group's rewards minus 1/k": lambda r: (
        np.exp(r - r.max()) / np.exp(r - r.max()).sum() - 1 / len(r)
    ),
    "one for the group's best": lambda r: (r == r.max()).astype(float),
}


def _plain(subject: Subject) -> Iterator[tuple[str, Callable[[Batch], Vector]]]:
    """Advantages before they are changed; those of the whole batch after those of a prompt."""
    if subject.target.family.name == OFF_POLICY.name and not {"rewards", "group"} & set(subject.names.values()):
        yield "", _by_prompt(rloo_advantage)
        return
    for words, base in BASELINES.items():
        yield words, _by_prompt(base)
    for words, base in RANKS.items():
        yield words, _by_prompt(base)
    for over, deviation in _deviations():
        for words, base in BASELINES.items():
            yield f"{words}, over {over}", _by_prompt(lambda r, b=base, d=deviation: b(r) / d(r))  # type: ignore[misc]
    for words, base in BASELINES.items():
        yield words.replace("group", "batch"), lambda b, f=base: f(b["rewards"])  # type: ignore[misc]
    for over, deviation in _deviations():
        for words, base in BASELINES.items():
            yield (
                f"{words}, over {over} of all rewards of the batch",
                lambda b, f=base, d=deviation: _by_prompt(f)(b) / d(b["rewards"]),  # type: ignore[misc]
            )
            yield (
                f"{words.replace('group', 'batch')}, over {over} of its prompt",
                lambda b, f=base, d=deviation: f(b["rewards"]) / _by_prompt(lambda r: 0 * r + d(r))(b),  # type: ignore[misc]
            )
            yield (
                f"{words}, over the mean over prompts of {over}",
                lambda b, f=base, d=deviation: (
                    _by_prompt(f)(b) / np.mean([d(b["rewards"][rows]) for rows in _groups(b)])  # type: ignore[misc]
                ),
            )
            yield (
                f"{words.replace('group', 'batch')}, over {over}, of the batch",
                lambda b, f=base, d=deviation: f(b["rewards"]) / d(b["rewards"]),  # type: ignore[misc]
            )


def _changes() -> Iterator[tuple[str, Callable[[Vector], Vector]]]:
    yield "", lambda a: a
    for most in (1.0, 2.0, 5.0, 0.5):
        yield f"clamped at {most:g}", lambda a, m=most: a.clip(-m, m)  # type: ignore[misc]
    yield "its sign alone", np.sign
    yield "without its sign", np.abs
    yield "only where it is positive", lambda a: np.maximum(a, 0)
    yield "only where it is negative", lambda a: np.minimum(a, 0)
    yield "squared", lambda a: a**2
    yield "centred once more over the batch", lambda a: a - a.mean()
    for kind, ddof in (("sample", 1), ("population", 0)):
        for guard in (0.0, 1e-8, 1e-6, 1e-5, 1e-4):
            yield (
                f"then whitened over the batch ({kind} deviation)",
                lambda a, d=ddof, g=guard: (a - a.mean()) / (a.std(ddof=d) + g),  # type: ignore[misc]
            )
            yield (
                f"then divided by the {kind} deviation of the batch",
                lambda a, d=ddof, g=guard: a / (a.std(ddof=d) + g),  # type: ignore[misc]
            )


def _advantages(subject: Subject) -> Iterator[tuple[str, Callable[[Batch], Vector]]]:
    """Every advantage as it is; then the usual ones, changed."""
    yield from _plain(subject)
    usual = ("", "leave-one-out", "reward minus the group's mean", "the plain reward")
    for words, advantages in _plain(subject):
        if words in usual or (" deviation + " in words and "batch" not in words and words.startswith(usual[2])):
            for changed, change in itertools.islice(_changes(), 1, None):
                said = ", ".join(filter(None, [words, changed])) or changed
                yield (said if words else f"the advantage {said}"), lambda b, f=advantages, c=change: c(f(b))  # type: ignore[misc]


def _weights(subject: Subject) -> list[tuple[str, Callable[[Batch, Vector], Vector]]]:
    """Weights of tokens: of the mean over samples of sums over tokens it is 1/N."""
    if subject.target.family is ADVANTAGE:
        return [("", lambda b, a: np.ones((len(a), 1)))]

    def mask(b: Batch) -> Vector:
        return b["mask"].astype(float)

    def share(b: Batch, kept: Vector) -> Vector:
        """A mean over all tokens of the samples that are kept."""
        m = mask(b) * kept[:, None]
        return m / max(m.sum(), 1e-300)

    def prompts(b: Batch, a: Vector) -> Vector:
        found = mask(b)
        for rows in _groups(b):
            found[rows] /= found[rows].sum() * len(_groups(b))
        return found

    def lengths(b: Batch) -> Vector:
        return mask(b).sum(-1, keepdims=True)

    return [
        ("averaged over all tokens", lambda b, a: mask(b) / mask(b).sum()),
        ("averaged over each response's tokens, then over responses", lambda b, a: mask(b) / lengths(b) / len(a)),
        ("summed over tokens, averaged over responses", lambda b, a: mask(b) / len(a)),
        ("summed over tokens and responses", lambda b, a: mask(b)),
        ("averaged over each response's tokens, summed over responses", lambda b, a: mask(b) / lengths(b)),
        ("averaged over the padding too", lambda b, a: mask(b) / mask(b).size),
        ("summed over responses, divided by the padded width", lambda b, a: mask(b) / mask(b).shape[1]),
        ("averaged over all tokens of each prompt, then over prompts", prompts),
        ("averaged over each response's tokens and one more", lambda b, a: mask(b) / (lengths(b) + 1) / len(a)),
        ("averaged over the tokens of responses whose advantage is not 0", lambda b, a: share(b, np.abs(a) > 1e-12)),
        (
            "summed over tokens, averaged over responses whose advantage is not 0",
            lambda b, a: mask(b) / max(1, int((np.abs(a) > 1e-12).sum())),
        ),
        ("over the square root of each response's length", lambda b, a: mask(b) / lengths(b) ** 0.5 / len(a)),
        ("divided by the longest response's length", lambda b, a: mask(b) / lengths(b).max() / len(a)),
        ("of each response's last token alone", lambda b, a: _last(b) / len(a)),
        ("of each response's first token alone", lambda b, a: _last(b, first=True) / len(a)),
    ]  # fmt: skip


def _last(batch: Batch, *, first: bool = False) -> Vector:
    found = np.zeros(batch["mask"].shape)
    for row, kept in enumerate(batch["mask"]):
        places = np.flatnonzero(kept)
        found[row, places[0 if first else -1]] = 1.0
    return found
