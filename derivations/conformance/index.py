"""A loss of pairs that is some function of one linear score: which, and how its slope compares with what was asked.

The slopes by the four summed log-probs stand in the same proportion everywhere, whatever the function is. Pairs of
other lengths with the same score are then tried: if their losses agree, the function sees nothing else.
"""

import numpy as np

from derivations.conformance.batches import Batch
from derivations.conformance.far import far_pairs, far_values
from derivations.conformance.gradient_words import gradient_words
from derivations.conformance.grid import pair_of, response
from derivations.conformance.laws import number
from derivations.conformance.lengths import Rule, of_lengths
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.one_score import of_one_score

Vector = np.ndarray
LEAVES = {"log pi(w)": "chosen_logps", "log pi(l)": "rejected_logps", "log ref(w)": "ref_chosen_logps",
          "log ref(l)": "ref_rejected_logps"}  # fmt: skip
LENGTHS = ((1, 1), (2, 2), (1, 3), (3, 2), (2, 4))
POINTS = 3
WIDTH, ALLOWED = 1e-3, 1e-6
WORDED = ", where x is "
MARGINS: dict[tuple[str, ...], str] = {
    ("1", "-1", "-1", "1"): "DPO's margin",
    ("1/|w|", "-1/|l|", "", ""): "SimPO's margin",
    ("1", "-1", "", ""): "MaxEnt's (DPO's without a reference) margin",
    ("1/|w|", "-1/|l|", "-1/|w|", "1/|l|"): "length-normalized DPO's margin",
}  # fmt: skip


def index(subject: Subject) -> str:
    """The score in words, and the slope by it, or nothing."""
    if subject.single:
        return ""
    batches = [[pair_of(response(i, w), response(50 + i, l)) for i in range(POINTS)] for w, l in LENGTHS]
    slopes = np.array([[_slopes(subject, batch) for batch in block] for block in batches])
    if not np.all(np.isfinite(slopes)) or not slopes.any():
        return ""
    factors = _proportions(slopes)
    if factors is None:
        return ""
    w, l = (np.array([pair[i] for pair in LENGTHS], dtype=float) for i in (0, 1))
    scale = 1 / w if np.allclose(factors[:, 1] * l / w, factors[0, 1] * l[0] / w[0], rtol=1e-5) else 0 * w + 1
    if not factors[:, 1].any() and subject.target.needs_length:
        scale = 1 / w
    named = [of_lengths(column * scale, w, l, 1e-5) for column in factors.T]
    if None in named:
        return ""
    rules = [rule for rule in named if rule]
    alone = _sees_nothing_else(subject, batches, rules)
    words = MARGINS.get(tuple(rule[0] for rule in rules)) or _score(rules)
    if alone and (said := _worded(subject, batches, rules)):
        return f"{said}{WORDED}{words}{gradient_words(subject)}"
    also = "alone" if alone else "and of the lengths"
    return f"a function of {words} {also} that is none of the usual ones ({_compared(subject, batches[1][0])})"


def _score(rules: list[Rule]) -> str:
    parts = [f"{rule[0]} x {name}" for rule, name in zip(rules, LEAVES, strict=True) if rule[0]]
    return "the score " + " + ".join(parts).replace("+ -", "- ").replace("1 x ", "")


def _slopes(subject: Subject, batch: Batch) -> Vector:
    """Slopes by the four summed log-probs, by differences of the fourth order."""
    found = []
    for leaf in LEAVES.values():
        near, far = ([_value(subject, batch, leaf, s * h * WIDTH) for s in (1, -1)] for h in (1, 2))
        found.append((8 * (near[0] - near[1]) - (far[0] - far[1])) / (12 * WIDTH))
    return np.array(found)


def _value(subject: Subject, batch: Batch, leaf: str, by: float) -> float:
    return subject.run(_moved(batch, leaf, by), gradient=False).mean


def _moved(batch: Batch, leaf: str, by: float) -> Batch:
    return batch | {leaf: batch[leaf] + by * (np.arange(batch[leaf].shape[1]) == 0)}


def _proportions(slopes: Vector) -> Vector | None:
    """The factors of the score for each pair of lengths, relative to the first input that counts, if they are fixed."""
    lead = 0 if np.abs(slopes[:, :, 0]).max() > ALLOWED * np.abs(slopes).max() else 1
    found = []
    for block in slopes:
        live = block[np.abs(block[:, lead]) > 1e-4 * np.abs(slopes).max()]
        if len(live) < 2:
            return None
        each = live / np.abs(live[:, [lead]]) * np.sign(live[:, [lead]])
        if np.ptp(each, axis=0).max() > ALLOWED * 10:
            return None
        found.append(each.mean(0))
    return np.where(np.abs(found) < 1e-6, 0.0, found)


def _value_of(rules: list[Rule], batch: Batch) -> float:
    """The score of one pair."""
    w, l = (batch[f"{side}_mask"].sum(-1).astype(float) for side in ("chosen", "rejected"))
    parts = [float(r[1](w, l)[0]) * batch[leaf].sum() for r, leaf in zip(rules, LEAVES.values(), strict=True)]
    return float(sum(parts))


def _worded(subject: Subject, batches: list[list[Batch]], rules: list[Rule]) -> str:
    """The function of the score in words, over scores far apart."""
    leaf = next(leaf for rule, leaf in zip(rules, LEAVES.values(), strict=True) if rule[0])
    pairs = [pair for block in batches for pair in block]
    pairs += [_moved(pair, leaf, by) for pair in pairs[::6] for by in (-40.0, -11.0, -4.0, -1.7, 2.3, 6.0, 13.0, 36.0)]
    x = np.array([_value_of(rules, pair) for pair in pairs])
    y = np.array([subject.run(pair, gradient=False).mean for pair in pairs])
    beyond = far_values(subject)
    kept = np.isfinite(beyond)  # an exponential overflows there
    x = np.concatenate([x, np.array([_value_of(rules, pair) for *_, pair in far_pairs()])[kept]])
    y = np.concatenate([y, beyond[kept]])
    strengths = tuple(float(v) for v in subject.target.options.values() if isinstance(v, int | float) and v)
    return of_one_score(x, y, strengths, 1e-8)


def _sees_nothing_else(subject: Subject, batches: list[list[Batch]], rules: list[Rule]) -> bool:
    """Whether pairs of other lengths whose score is the same have the same loss."""

    lead = next(i for i, rule in enumerate(rules) if rule[0])
    leaf = list(LEAVES.values())[lead]
    for number_, block in enumerate(batches):
        one, other = block[0], batches[number_ - 1][1]
        factor = _value_of(rules, _moved(other, leaf, 1.0)) - _value_of(rules, other)
        moved = _moved(other, leaf, (_value_of(rules, one) - _value_of(rules, other)) / factor)
        values = [subject.run(batch, gradient=False).mean for batch in (one, moved)]
        if abs(values[0] - values[1]) > 1e-8 * max(1.0, abs(values[0])):
            return False
    return True


def _compared(subject: Subject, batch: Batch) -> str:
    """Slope by the chosen log-prob beside that of the objective, the chosen response 3 nats less likely to 3 more."""
    said = []
    for by in (-3.0, 0.0, 3.0):
        moved = _moved(batch, "chosen_logps", by)
        own = _slopes(subject, moved)[0]
        asked = float(subject.expect(moved).gradient["chosen_logps"][0, 0])
        said.append((own, asked))
    shares = [own / asked if abs(asked) > 1e-12 else float("nan") for own, asked in said]
    if np.ptp(shares) < 1e-5:
        return f"its slope is {number(shares[0])} times that of {subject.target.name}"
    found, meant = (", ".join(number(one[i]) for one in said) for i in (0, 1))
    return (
        f"for one pair, the chosen response 3 nats less likely, as it is, and 3 more: slope {found}; "
        f"that of {subject.target.name}: {meant}"
    )
