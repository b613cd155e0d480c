"""What a policy gradient of known advantages and weights does with the ratio, where that has no name.

The slope by a log-prob, over -advantage x weight, is measured: in the clip as a product of powers of ratios (the
token's own, the response's, that of the tokens up to it), then below and above the clip for each sign of the advantage.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from derivations.conformance.batches import Batch
from derivations.conformance.laws import number
from derivations.conformance.loss_under_test import Subject

Vector = np.ndarray
EXACT = 1e-6
MEASURED = "slopes by the log-prob, over -A, as measured"
MEANS: dict[str, Callable[[Vector, Vector], Vector]] = {  # log-ratios [N, T], mask -> the log of a mean ratio [N, T]
    "r": lambda d, m: d,
    "the response's geometric mean ratio": lambda d, m: d.sum(-1, keepdims=True) / m.sum(-1, keepdims=True) + 0 * d,
    "the response's ratio": lambda d, m: d.sum(-1, keepdims=True) + 0 * d,
    "the ratio of the tokens up to it": lambda d, m: d.cumsum(-1),
    "the ratio of the tokens before it": lambda d, m: d.cumsum(-1) - d,
    "the ratio of the tokens from it on": lambda d, m: d.sum(-1, keepdims=True) - d.cumsum(-1) + d,
    "the batch's mean ratio": lambda d, m: d.sum() / m.sum() + 0 * d,
    "the response's ratio over all tokens of the batch": lambda d, m: d.sum(-1, keepdims=True) / m.sum() + 0 * d,
    "the response's ratio over the padded width": lambda d, m: d.sum(-1, keepdims=True) / m.shape[1] + 0 * d,
}


@dataclass(frozen=True)
class Slopes:
    """Slopes by log-probs of batches, over -advantage x weight, flat, with what they may depend on."""

    slope: Vector
    sign: Vector
    means: dict[str, Vector]


def ratio_use(
    subject: Subject,
    gradient: Callable[[Batch], Vector],
    scale: Callable[[Batch], Vector],
    clip: tuple[float, float],
) -> str:
    """The use of the ratio in words, or nothing.

    Args:
        subject: the function. gradient: batch -> its gradient, [N, T]. scale: batch -> advantage x weight, [N, T].
        clip: how far below and above 1 a ratio counts.
    """
    near = _slopes([_drawn(i, 0.15 * min(*clip, 1.0)) for i in range(6)], gradient, scale)
    inside = _powers(near, np.full(len(near.slope), True)) if near else None
    spread = np.log1p(clip[1]) + 0.5
    far = [*subject.examples, *(_drawn(10 + i, spread if i % 2 else spread / 3) for i in range(12))]
    wide = _slopes(far, gradient, scale)
    if wide is None:
        return ""
    if own := _of_own_ratio(gradient, scale, clip) if inside is None else "":
        return own
    if inside is None:
        return _table(wide, clip)
    says = f"a surrogate whose slope by the log-prob, over -A, is {inside[0]} in the clip"
    leads = [inside[1](wide.means), *wide.means.values()]
    zones = next((words for lead in leads if np.ptp(lead) and (words := _zones(wide, lead, clip))), "")
    return f"{says}, and {zones}" if zones else f"{says}; {_table(wide, clip)}"


def _slopes(
    batches: list[Batch], gradient: Callable[[Batch], Vector], scale: Callable[[Batch], Vector]
) -> Slopes | None:
    rows: list[Vector] = []
    for batch in batches:
        mask = batch["mask"]
        d = np.where(mask, batch["logps"] - batch["old_logps"], 0.0)
        worth, slope = -scale(batch), gradient(batch)
        kept = mask & (np.abs(worth) > 1e-9)
        with np.errstate(all="ignore"):
            columns = [slope / worth, -np.sign(worth), *(mean(d, mask) for mean in MEANS.values())]
        rows.append(np.stack([column[kept] for column in columns]))
    found = np.concatenate(rows, 1)
    if not found.size or not np.all(np.isfinite(found)):
        return None
    return Slopes(found[0], found[1], dict(zip(MEANS, found[2:], strict=True)))


def _of_own_ratio(
    gradient: Callable[[Batch], Vector], scale: Callable[[Batch], Vector], clip: tuple[float, float]
) -> str:
    """The slope at a few ratios, if it is the same for every token that has one of them and the same sign of A."""
    low, high = clip
    ratios = np.array([1 - 2 * min(low, 0.45), 1 - low / 2, 1.0, 1 + high / 2, 1 + 2 * high])
    batches = []
    for seed in range(10):
        batch = _drawn(40 + seed, 0.1)
        which = np.random.default_rng([19, seed]).integers(len(ratios), size=batch["mask"].shape)
        batches.append(batch | {"old_logps": batch["logps"] - np.log(ratios)[which]})
    found = _slopes(batches, gradient, scale)
    if found is None:
        return ""
    said, place = [], np.abs(np.exp(found.means["r"])[:, None] - ratios).argmin(1)
    for sign, words in ((1, "A > 0"), (-1, "A < 0")):
        cells = [found.slope[(found.sign == sign) & (place == i)] for i in range(len(ratios))]
        if not all(len(cell) > 1 and np.ptp(cell) < EXACT * 10 for cell in cells):
            return ""
        said.append(f"for {words} " + ", ".join(number(float(cell[0])) for cell in cells))
    at = ", ".join(number(float(r)) for r in ratios)
    what = "a surrogate of each token's own ratio whose slope by the log-prob, over -A, is at ratios"
    return f"{what} {at}: {'; '.join(said)}"


def _drawn(seed: int, spread: float) -> Batch:
    """Two prompts of three samples, every ratio a little off 1."""
    rng = np.random.default_rng([17, seed])
    mask = np.arange(4)[None] < rng.permutation([4, 2, 3, 1, 3, 2])[:, None]
    logps = rng.uniform(-2.5, -0.1, mask.shape).round(3)
    rewards = rng.permutation([1.4, -0.3, 0.8, 0.2, -0.9, 1.1])
    old = logps - rng.uniform(-spread, spread, mask.shape)
    return {"logps": logps, "old_logps": old, "mask": mask, "rewards": rewards, "group": np.array([0, 0, 0, 1, 1, 1])}


Log = Callable[[dict[str, Vector]], Vector]


def _powers(slopes: Slopes, kept: Vector) -> tuple[str, Log] | None:
    """The slope as a number times powers of at most two of the mean ratios: words, and the log of the product."""
    size = slopes.slope[kept]
    if not ((size > 0).all() or (size < 0).all()):
        return ("0", lambda means: 0 * means["r"]) if np.abs(size).max() < EXACT else None
    goal, names = np.log(np.abs(size)), list(MEANS)
    tried = [(), *((a,) for a in names), *((a, b) for i, a in enumerate(names) for b in names[i + 1 :])]
    for chosen in tried:
        matrix = np.column_stack([*(slopes.means[name][kept] for name in chosen), np.ones(len(goal))])
        if len(goal) < matrix.shape[1] + 2:
            return None
        found, *_ = np.linalg.lstsq(matrix, goal, rcond=None)
        powers = np.round(2 * found[:-1]) / 2
        if np.abs(found[:-1] - powers).max(initial=0) < 1e-4 and np.abs(matrix @ found - goal).max() < EXACT:
            factor = float(np.exp(found[-1]) * np.sign(size[0]))
            parts = [name if p == 1 else f"{name}^{p:g}" for name, p in zip(chosen, powers, strict=True) if p]
            first = [] if parts and abs(factor - 1) < 1e-5 else [number(factor)]

            def log(means: dict[str, Vector], chosen: tuple[str, ...] = chosen, powers: Vector = powers) -> Vector:
                total: Vector = sum(p * means[name] for name, p in zip(chosen, powers, strict=True)) + 0 * means["r"]
                return total

            return " x ".join(first + parts), log
    return None


def _zones(slopes: Slopes, lead: Vector, clip: tuple[float, float]) -> str:
    """The slope below and above the clip of one ratio for each sign of the advantage."""
    place = np.digitize(np.exp(lead), [1 - clip[0], 1 + clip[1]])
    said = []
    for sign, words in ((1, "A > 0"), (-1, "A < 0")):
        cells = [_powers(slopes, (slopes.sign == sign) & (place == zone)) for zone in (0, 1, 2)]
        if None in cells:
            return ""
        said.append(f"for {words} {cells[0][0]} below and {cells[2][0]} above it")  # type: ignore[index]
    return ", ".join(said)


def _table(slopes: Slopes, clip: tuple[float, float]) -> str:
    """Slopes as measured, with the ratio they stand at."""
    ratio, said = np.exp(slopes.means["r"]), []
    for sign, words in ((1, "A > 0"), (-1, "A < 0")):
        rows = np.flatnonzero(slopes.sign == sign)
        meant = [1 - 2 * clip[0], 1 - clip[0] / 2, 1 + clip[1] / 2, 1 + 2 * clip[1]]
        at = dict.fromkeys(int(rows[np.abs(ratio[rows] - r).argmin()]) for r in meant) if len(rows) else {}
        said.append(f"for {words} " + ", ".join(f"{slopes.slope[i]:.3g} at ratio {ratio[i]:.3g}" for i in at))
    return f"{MEASURED}: {'; '.join(said)}"
