"""Advantages that are a sum of a few parts: the reward and what its group or batch has in common, some of them divided.

`reward - mean / (std + guard)`, `z - reward`, `leave-one-out - best`: a combination of at most three parts, each as it
is or over one deviation, fitted to prompts of several sizes. It counts only if it gives back the advantages of others.
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from derivations.conformance.advantage_candidates import GUARDS
from derivations.conformance.batches import Batch, batch_of, join
from derivations.conformance.calls import CallError
from derivations.conformance.families import ADVANTAGE
from derivations.conformance.how import at_ratio_one, takes_advantages
from derivations.conformance.laws import number
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.token_weights import Weigh, groups_of, named_weights
from derivations.objectives import rloo_advantage

Vector = np.ndarray
Rule = Callable[[Batch], Vector]
MOST = 3  # parts
SCREEN, EXACT = 1e-4, 1e-9  # relative
SHAPES = ((1, 3), (2, 4), (3, 2), (1, 6), (2, 3), (1, 5), (3, 4), (1, 2), (2, 5), (1, 7))  # prompts, samples a prompt
FITTED = 6  # of these


def _of_group(summary: Callable[[Vector], Vector | float]) -> Rule:
    """A number of each group, or one of each of its samples, [N]."""

    def column(batch: Batch) -> Vector:
        found = np.zeros(len(batch["rewards"]))
        for rows in groups_of(batch):
            found[rows] = summary(batch["rewards"][rows])
        return found

    return column


def _of_batch(summary: Callable[[Vector], Vector | float]) -> Rule:
    return lambda batch: summary(batch["rewards"]) + 0 * batch["rewards"]


def _others(rewards: Vector) -> Vector:
    found: Vector = (rewards.sum() - rewards) / max(1, len(rewards) - 1)
    return found


PARTS: dict[str, Rule] = {
    "the reward": lambda batch: batch["rewards"],
    "the group's mean": _of_group(np.mean),
    "the mean of the others in its group": _of_group(_others),
    "1": _of_batch(lambda r: 1.0),
    "the group's worst": _of_group(np.min),
    "the group's best": _of_group(np.max),
    "the group's median": _of_group(np.median),
    "the group's lower median": _of_group(lambda r: np.sort(r)[(len(r) - 1) // 2]),
    "the group's sum": _of_group(np.sum),
    "the group's sample deviation": _of_group(lambda r: r.std(ddof=1)),
    "the batch's mean": _of_batch(np.mean),
    "the mean of the others in the batch": _of_batch(_others),
    "the square of the reward": lambda batch: batch["rewards"] ** 2,
}


def _spreads() -> Iterator[tuple[str, Rule]]:
    """What parts are divided by."""
    for kind, ddof in (("sample", 1), ("population", 0)):
        for guard in GUARDS:
            beside = f" + {guard:g}" if guard else ""
            for words, over in (("group", _of_group), ("batch", _of_batch)):
                yield f"the {words}'s {kind} deviation{beside}", over(lambda r, d=ddof, g=guard: r.std(ddof=d) + g)  # type: ignore[misc]
            yield f"the group's {kind} variance{beside}", _of_group(lambda r, d=ddof, g=guard: r.var(ddof=d) + g)  # type: ignore[misc]
            for words, power in (("times the root of k", 0.5), ("over the root of k", -0.5), ("times k", 1.0)):
                yield (
                    f"the group's {kind} deviation {words}{beside}",
                    _of_group(lambda r, d=ddof, g=guard, p=power: r.std(ddof=d) * len(r) ** p + g),  # type: ignore[misc]
                )
            if guard:
                yield (
                    f"the root of the group's {kind} variance{beside}",
                    _of_group(lambda r, d=ddof, g=guard: (r.var(ddof=d) + g) ** 0.5),  # type: ignore[misc]
                )
    for guard in GUARDS:
        beside = f" + {guard:g}" if guard else ""
        yield f"the group's range{beside}", _of_group(lambda r, g=guard: np.ptp(r) + g)  # type: ignore[misc]
        yield (
            f"the group's mean deviation{beside}",
            _of_group(lambda r, g=guard: np.abs(r - r.mean()).mean() + g),  # type: ignore[misc]
        )


SPREADS = dict(_spreads())
USUAL = _of_group(rloo_advantage)  # the advantages of examples that have none
Found = tuple[str, Rule, Weigh]  # words, advantages, weights of tokens


def summed_advantages(subject: Subject, gradient: Callable[[Batch], Vector] | None) -> Found | None:
    """The parts in words, as advantages, and the weights of tokens with them; or nothing.

    Args:
        subject: the function. gradient: batch -> [N, T], what is to be explained; None: values of advantages.
    """
    if subject.single:
        return None
    family = subject.target.family
    given = takes_advantages(subject)
    try:
        data = [_drawn(subject, place, *shape, given=given) for place, shape in enumerate(SHAPES)]
        known = [*subject.examples, join(family, batch_of(family))]
        data += known if family is ADVANTAGE else [at_ratio_one(batch) for batch in known]
        goals = [-gradient(batch) if gradient else subject.run(batch).value.reshape(-1, 1) for batch in data]
    except CallError:
        return None
    for how, weigh in named_weights(subject)[: 1 if family is ADVANTAGE else 8]:
        each = [_shares(batch, goal, weigh) for batch, goal in zip(data, goals, strict=True)]
        shares = [share for share in each if share is not None]
        seen = [_as_rewards(batch) for batch in data] if given else data
        if len(shares) < len(data) or not (found := _fitted(seen, shares)):
            continue
        words, rule = found
        if given:
            words = words.replace("reward", "advantage").replace("group", "batch")
            return f"{words}, {how}", lambda batch, rule=rule: rule(_as_rewards(batch)), weigh
        return ", ".join(filter(None, [words, how])), rule, weigh
    return None


def _as_rewards(batch: Batch) -> Batch:
    """Advantages that are handed over, as if they were the rewards of one prompt."""
    advantages = batch["advantages"] if "advantages" in batch else USUAL(batch)
    return {"rewards": advantages, "group": np.zeros(len(advantages), dtype=np.int64)}


def _drawn(subject: Subject, seed: int, prompts: int, k: int, *, given: bool) -> Batch:
    """Rewards of other means and deviations in every prompt, at ratio 1."""
    rng, n = np.random.default_rng([37, seed]), prompts * k
    scale = np.repeat(rng.choice([0.05, 0.4, 1.5], prompts), k)
    rewards = np.repeat(rng.normal(0.4, 0.8, prompts), k) + scale * rng.normal(size=n)
    batch: Batch = {"rewards": rewards.round(3), "group": np.repeat(np.arange(prompts), k)}
    if subject.target.family is not ADVANTAGE:
        mask = np.arange(3)[None] < rng.integers(1, 4, n)[:, None]
        logps = rng.uniform(-2.5, -0.1, mask.shape).round(2)
        batch |= {"mask": mask, "logps": logps, "old_logps": logps.copy(), "ref_logps": logps - 0.1}
    if given:
        batch["advantages"] = batch["rewards"]
    return batch


def _shares(batch: Batch, goal: Vector, weigh: Weigh) -> Vector | None:
    """The advantages under which the goal is advantage x weight; nothing if there are none."""
    weights = weigh(batch, np.ones(len(goal)))
    found: Vector = (goal * weights).sum(-1) / (weights**2).sum(-1)
    off = np.abs(goal - found[:, None] * weights)
    return None if np.any(off > 1e-9 * max(1.0, float(np.abs(goal).max()))) else found


def _fitted(data: list[Batch], advantages: list[Vector]) -> tuple[str, Rule] | None:
    """The fewest parts that give all the advantages; of several such sums the one that fits best."""
    used = [i for i in range(FITTED) if np.all(np.isfinite(advantages[i]))]
    if len(used) < 3:
        return None
    goal = np.concatenate([advantages[i] for i in used])
    scale = float(np.linalg.norm(goal))

    def stacked(rule: Rule) -> Vector:
        return np.concatenate([rule(data[i]) for i in used])

    with np.errstate(all="ignore"):
        plain = np.stack([stacked(part) for part in PARTS.values()], 1)
        tables = [(words, np.hstack([plain, plain / stacked(rule)[:, None]])) for words, rule in SPREADS.items()]
    tables = [(words, table) for words, table in tables if np.all(np.isfinite(table))] if scale else []
    for count in range(1, MOST + 1):
        fits = [
            (left, words, chosen, factors)
            for words, table in tables
            for left, chosen, factors in _screened(table, goal, scale, count)
        ]
        for _, words, chosen, factors in sorted(fits, key=lambda fit: (fit[0], len(fit[1])))[:20]:
            rule = _rule(words, chosen, factors)
            if _holds(rule, data, advantages):
                return _said(words, chosen, factors), rule
    return None


def _screened(table: Vector, goal: Vector, scale: float, count: int) -> Iterator[tuple[float, list[int], Vector]]:
    """Sets of `count` columns that explain the goal: what they leave, rounded, the columns, and their factors."""
    size = np.linalg.norm(table, axis=0)
    unit = table / size
    gram, right = unit.T @ unit, unit.T @ (goal / scale)
    sets = np.array(list(itertools.combinations(range(table.shape[1]), count)))
    some = gram[sets[:, :, None], sets[:, None, :]] + 1e-13 * np.eye(count)
    found = np.linalg.solve(some, right[sets][..., None])[..., 0]
    left = 1 - (found * right[sets]).sum(-1)
    for chosen in sets[left < SCREEN**2]:
        factors = np.linalg.lstsq(unit[:, chosen], goal, rcond=None)[0]
        rest = float(np.linalg.norm(unit[:, chosen] @ factors - goal)) / scale
        factors = factors / size[chosen]
        if rest < EXACT and np.all(np.abs(factors) > 1e-7):
            yield (0.0 if rest < 1e-12 else rest), [int(i) for i in chosen], factors


def _rule(words: str, chosen: list[int], factors: Vector) -> Rule:
    parts = list(PARTS.values())

    def advantages(batch: Batch) -> Vector:
        with np.errstate(all="ignore"):
            over = SPREADS[words](batch)
            columns = [parts[i % len(parts)](batch) / (over if i >= len(parts) else 1.0) for i in chosen]
        total: Vector = sum(c * column for c, column in zip(factors, columns, strict=True))
        return total

    return advantages


def _holds(rule: Rule, data: list[Batch], advantages: list[Vector]) -> bool:
    """Whether a sum gives back the advantages of all batches, those that it was not fitted to among them."""
    for batch, meant in zip(data, advantages, strict=True):
        found = rule(batch)
        either = np.isfinite(found) & np.isfinite(meant)
        if np.any(np.abs(found - meant)[either] > 1e-7 * np.maximum(1.0, np.abs(meant[either]))):
            return False
    return True


def _said(words: str, chosen: list[int], factors: Vector) -> str:
    """`the reward - (the group's mean) / (the group's sample deviation + 0.0001)`."""
    names, whole, divided = list(PARTS), "", ""
    for i, c in zip(chosen, factors, strict=True):
        name, size = names[i % len(names)], abs(float(c))
        times = "" if abs(size - 1) < 1e-7 else number(size)
        part = (times or "1") if name == "1" else " x ".join(filter(None, [times, name]))
        if i < len(names):
            whole += f" {'-' if c < 0 else '+'} {part}"
        else:
            divided += f" {'-' if c < 0 else '+'} {part}"
    whole, inner = _led(whole), _led(divided)
    if not divided:
        return whole
    if not whole:
        return f"({inner}) / ({words})"
    if whole.startswith("- "):
        return f"({inner}) / ({words}) {whole}"
    alone = divided.startswith(" - ") and divided.count(" - ") + divided.count(" + ") == 1
    return f"{whole} - ({inner[2:]}) / ({words})" if alone else f"{whole} + ({inner}) / ({words})"


def _led(sum_: str) -> str:
    return sum_.removeprefix(" + ").replace(" - ", "- ", 1) if sum_.startswith(" - ") else sum_.removeprefix(" + ")
