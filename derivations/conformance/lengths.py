"""A number that depends on the lengths of a pair's responses, in words: 1/|w|, sqrt |l|, |w| - |l|, and so on."""

from collections.abc import Callable

import numpy as np

from derivations.conformance.laws import number

Vector = np.ndarray
OF_LENGTHS: dict[str, Callable[[Vector, Vector], Vector]] = {
    "": lambda w, l: 0 * w + 1,
    "/|w|": lambda w, l: 1 / w,
    "/|l|": lambda w, l: 1 / l,
    "/(|w| + |l|)": lambda w, l: 1 / (w + l),
    "/sqrt|w|": lambda w, l: w**-0.5,
    "/sqrt|l|": lambda w, l: l**-0.5,
    "/(|w| + 1)": lambda w, l: 1 / (w + 1),
    "/(|l| + 1)": lambda w, l: 1 / (l + 1),
    "/max(1, |w| - 1)": lambda w, l: 1 / np.maximum(w - 1, 1),
    "/max(1, |l| - 1)": lambda w, l: 1 / np.maximum(l - 1, 1),
    "/(|w| + 2)": lambda w, l: 1 / (w + 2),
    "/(|l| + 2)": lambda w, l: 1 / (l + 2),
    "/|w|^2": lambda w, l: w**-2.0,
    "/|l|^2": lambda w, l: l**-2.0,
    "/max(|w|, |l|)": lambda w, l: 1 / np.maximum(w, l),
    "/min(|w|, |l|)": lambda w, l: 1 / np.minimum(w, l),
    "/sqrt(|w| |l|)": lambda w, l: (w * l) ** -0.5,
    "/(|w| |l|)": lambda w, l: 1 / (w * l),
    "/sqrt(|w| + |l|)": lambda w, l: (w + l) ** -0.5,
    "/(1 + ln|w|)": lambda w, l: 1 / (1 + np.log(w)),
    "/(1 + ln|l|)": lambda w, l: 1 / (1 + np.log(l)),
    " |w|": lambda w, l: w,
    " |l|": lambda w, l: l,
    " (|w| - |l|)": lambda w, l: w - l,
    " (|w| + |l|)": lambda w, l: w + l,
    " | |w| - |l| |": lambda w, l: abs(w - l),
    " |w|/|l|": lambda w, l: w / l,
    " |l|/|w|": lambda w, l: l / w,
    " max(|w|, |l|)": np.maximum,
    " min(|w|, |l|)": np.minimum,
    " max(0, |w| - |l|)": lambda w, l: np.maximum(w - l, 0),
    " max(0, |l| - |w|)": lambda w, l: np.maximum(l - w, 0),
    " sqrt|w|": lambda w, l: w**0.5,
    " sqrt|l|": lambda w, l: l**0.5,
    " (sqrt|w| - sqrt|l|)": lambda w, l: w**0.5 - l**0.5,
    " ln(|w|/|l|)": lambda w, l: np.log(w / l),
    " (|w| - |l|)/(|w| + |l|)": lambda w, l: (w - l) / (w + l),
    " (|w| - |l|)/max(|w|, |l|)": lambda w, l: (w - l) / np.maximum(w, l),
    " |w|/(|w| + |l|)": lambda w, l: w / (w + l),
    " |l|/(|w| + |l|)": lambda w, l: l / (w + l),
    " min(|w|, |l|)/max(|w|, |l|)": lambda w, l: np.minimum(w, l) / np.maximum(w, l),
    " (1/|w| - 1/|l|)": lambda w, l: 1 / w - 1 / l,
    " |w|^2": lambda w, l: w**2,
    " |l|^2": lambda w, l: l**2,
    " |w| |l|": lambda w, l: w * l,
    " where |w| >= |l|": lambda w, l: (w >= l) * 1.0,
    " where |w| > |l|": lambda w, l: (w > l) * 1.0,
    " where |w| <= |l|": lambda w, l: (w <= l) * 1.0,
    " where |w| < |l|": lambda w, l: (w < l) * 1.0,
    " where |w| = |l|": lambda w, l: (w == l) * 1.0,
}
Rule = tuple[str, Callable[[Vector, Vector], Vector]]


def of_lengths(values: Vector, w: Vector, l: Vector, allowed: float) -> Rule | None:
    """The number as a multiple of one function of the lengths, or of one plus a constant: words, and the rule.

    Args:
        values: [n], the numbers. w: [n], l: [n], lengths of the chosen and the rejected response.
        allowed: how far off, relative to the largest.

    Returns:
        ("", ...) for numbers that are all zero; None if there is no such function.
    """
    scale = float(np.abs(values).max())
    if scale <= allowed:
        return "", lambda w, l: 0 * w
    for offset in (False, True):
        for words, rule in OF_LENGTHS.items():
            columns = [rule(w, l)] + [0 * w + 1.0] * (offset and words != "")
            found, *_ = np.linalg.lstsq(np.stack(columns, 1), values, rcond=None)
            left = np.abs(np.stack(columns, 1) @ found - values).max()
            if left <= allowed * scale and np.abs(found).min() > 10 * allowed:
                return _worded(found, words), _multiple(found, rule)
    return None


def _multiple(found: Vector, rule: Callable[[Vector, Vector], Vector]) -> Callable[[Vector, Vector], Vector]:
    return lambda w, l: found[0] * rule(w, l) + (found[1] if len(found) > 1 else 0)


def _worded(found: Vector, words: str) -> str:
    first = f"{number(found[0])}{words}"
    if len(found) == 1:
        return first
    return f"({number(found[1])} {'-' if found[0] < 0 else '+'} {number(abs(found[0]))}{words})"


def table(values: Vector, w: Vector, l: Vector) -> str:
    """A few of the numbers, where they have no rule; by one of the lengths alone if the other changes nothing."""
    for name, n in (("|w|", w), ("|l|", l)):
        at = {int(k): values[n == k] for k in np.unique(n)}
        if all(np.ptp(one) <= 1e-6 * np.abs(values).max() for one in at.values()):
            shown = ", ".join(f"{number(float(one[0]))} at {k}" for k, one in at.items())
            return f"a number that depends on {name} ({shown})"
    apart = [0, int(np.abs(values - values[0]).argmax()), len(values) - 1]
    shown = ", ".join(
        f"{number(float(values[i]))} for lengths {int(w[i])} and {int(l[i])}" for i in dict.fromkeys(apart)
    )
    return f"a number that depends on the lengths ({shown})"
