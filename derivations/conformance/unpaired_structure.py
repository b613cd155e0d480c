"""A loss of single responses taken apart by its values: what it does with those that are liked, and with those not.

Each is undone by every usual outer function; what stands inside must be linear in the summed log-probs of policy and
reference and the reference point, with factors that may depend on the length, or one function of their difference.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from derivations.conformance.batches import Batch
from derivations.conformance.calls import CallError
from derivations.conformance.far import far_rows
from derivations.conformance.gradient_words import flows
from derivations.conformance.grid import response
from derivations.conformance.laws import number
from derivations.conformance.lengths import of_lengths
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.one_sided import part_of
from derivations.conformance.outer import undone

Vector = np.ndarray
STATES, LONGEST, STEP = 8, 4, 0.3
NAMES = ("log pi", "log ref", "kl")
SIDES = {"desirable": True, "undesirable": False}


@dataclass(frozen=True)
class Points:
    """Losses of single responses with what went in, [n] each. moved: with the reference point STEP higher."""

    values: Vector
    moved: Vector
    s: Vector
    r: Vector
    kl: Vector
    n: Vector


def unpaired_structure(subject: Subject) -> str:
    """Both sides in words, with how the objective has them; nothing unless both are known."""
    try:
        found = {side: _points(subject.run, good) for side, good in SIDES.items()}
    except CallError:
        return ""
    asked = {side: _points(subject.expect, good) for side, good in SIDES.items()}
    allowed = 1e-4 if subject.single else 1e-8
    strengths = [float(v) for v in subject.target.options.values() if isinstance(v, int | float)]
    said = []
    for side, points in found.items():
        with np.errstate(all="ignore"):
            words = _side(points, strengths, allowed)
            meant = _side(asked[side], strengths, allowed)
        if not words:
            return ""
        same = np.allclose(points.values, asked[side].values, rtol=1e-6)
        slope = _slope(subject, side)
        beside = f", as it should be{_far(subject, side)}" if same else f", which should be {meant}"
        said.append(f"{side}: {words}{beside}{slope}")
    return "; ".join(said)


def _far(subject: Subject, side: str) -> str:
    """Where one side that is as it should be near the examples is another one far from them."""
    for row in far_rows():
        if bool(row["desirable"][0]) == SIDES[side]:
            found, meant = (run(row, gradient=False).mean for run in (subject.run, subject.expect))
            if abs(found - meant) > 1e-3 * max(1.0, abs(meant)) or not np.isfinite(found):
                d = float((row["logps"] - row["ref_logps"]).sum())
                return f" but where log pi - log ref is {number(d)}: there it is {number(found)}, not {number(meant)}"
    return ""


def _slope(subject: Subject, side: str) -> str:
    """What gradient one side has, where it is not that of its value."""
    batch = _single(response(305, 3), SIDES[side], 0.3)
    if flows(subject, batch):
        return ""
    dead = not any(slope.any() for slope in subject.run(batch).gradient.values())
    return ", but without a gradient" if dead else ", but its gradient is not that of its value"


def _single(one: tuple[Vector, Vector], good: bool, kl: float) -> Batch:
    """One response of these log-probs of policy and reference."""
    batch: Batch = {"logps": one[0][None], "ref_logps": one[1][None], "mask": np.ones((1, len(one[0])), dtype=bool)}
    return batch | {"desirable": np.array([good]), "kl": np.array([kl])}


def _points(run: Callable[..., object], good: bool) -> Points:
    rows = []
    for n in range(1, LONGEST + 1):
        for i in range(STATES):
            logps, reference = response(300 + i, n)
            kl = round(0.1 + 0.23 * ((i * 3 + n) % 5), 2)
            values = [run(_single((logps, reference), good, at), gradient=False).mean for at in (kl, kl + STEP)]  # type: ignore[attr-defined]
            rows.append((*values, logps.sum(), reference.sum(), kl, n))
    return Points(*np.array(rows, dtype=float).T)


def _side(points: Points, strengths: list[float], allowed: float) -> str:
    """One side: a constant, an outer function of a linear score, or of another function of a score."""
    if np.ptp(points.values) < 1e-9:
        return f"the constant {number(points.values[0])}"
    two, kl = np.concatenate([points.values, points.moved]), np.concatenate([points.kl, points.kl + STEP])
    opened = [
        (outer, inside[: len(points.kl)], (inside[len(points.kl) :] - inside[: len(points.kl)]) / STEP, beside)
        for beside, worth in (("", 0.0), ("1 + ", 1.0), ("kl + ", kl), ("-kl + ", -kl))
        for outer, inside in undone(two - worth, *strengths)
    ]
    for outer, inside, _, beside in opened:
        if words := _linear(points, inside, allowed):
            return beside + outer.words.format(words)
    for outer, inside, by_kl, beside in opened[: len(opened) // 2]:
        c = float(by_kl.mean()) if np.ptp(by_kl) < 1e-6 else None  # linear in the reference point, or within a bend
        name, s = ("(log pi - kl)", points.s - points.kl) if c is None else ("log pi", points.s)
        rest = inside - (c or 0.0) * points.kl
        part = part_of(rest, s, points.r, points.n, tuple(strengths) or (1.0,), 10 * allowed)
        if part is None or not part.words:
            continue
        left = rest - part.rule(s, points.r, points.n)
        if np.ptp(left) <= 1e-6:
            shift = "" if abs(left.mean()) < 1e-7 else f" + {number(float(left.mean()))}"
            apart = f" {'-' if c < 0 else '+'} {_times(abs(c))}kl" if c and abs(c) > 1e-7 else ""
            return beside + outer.words.format(part.words.replace("log pi", name) + apart + shift)
    return _index(points)


def _times(factor: float) -> str:
    return "" if abs(factor - 1) < 1e-6 else f"{number(factor)} "


def _linear(points: Points, inside: Vector, allowed: float) -> str:
    lengths = np.arange(1, LONGEST + 1, dtype=float)
    fitted = []
    for n in lengths:
        rows = points.n == n
        matrix = np.stack([points.s[rows], points.r[rows], points.kl[rows], np.ones(rows.sum())], 1)
        found, *_ = np.linalg.lstsq(matrix, inside[rows], rcond=None)
        if np.abs(matrix @ found - inside[rows]).max() > allowed * max(1.0, float(np.abs(inside).max())):
            return ""
        fitted.append(found)
    factors = np.array(fitted)
    largest, words = float(np.abs(factors[:, :3]).max()), []
    if largest < 1e-9:
        return ""
    for name, column in zip((*NAMES, ""), factors.T, strict=True):
        rule = of_lengths(np.where(np.abs(column) < 1e-6 * largest, 0.0, column), lengths, lengths, 1e-6)
        if rule is None:
            return ""
        if rule[0]:
            first, slash, over = rule[0].replace("|w|", "|y|").partition("/")
            words.append(f"{first} {name}{slash}{over}".strip())
    return " + ".join(words).replace("+ -", "- ")


def _index(points: Points) -> str:
    """Whether the values are one rising or falling line of dots along a known score, and which."""
    for words, score in (
        ("log pi - log ref - kl", points.s - points.r - points.kl),
        ("log pi - log ref", points.s - points.r),
        ("log pi", points.s),
        ("log pi - kl", points.s - points.kl),
        ("log pi/|y|", points.s / points.n),
        ("(log pi - log ref)/|y|", (points.s - points.r) / points.n),
    ):
        order = np.argsort(score)
        x, y = score[order], points.values[order]
        steps = np.diff(y) / np.diff(x)
        if np.all(np.isfinite(steps)) and np.abs(np.diff(steps)).max() < 0.2 * np.abs(steps).max():
            ends = [f"{number(y[i])} at {number(x[i])}" for i in (0, -1)]
            return f"a smooth function of {words}, from {' to '.join(ends)}"
    return ""
