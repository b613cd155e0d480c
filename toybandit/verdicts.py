"""Checks, verdicts and their table: what an experiment found against what was expected of it.

A statement is a list of checks. All hold: `reproduced`; none: `not reproduced`; some: `depends`, and the
failed ones say on what. A check on a mean is judged by the mean and shown with its 95 % interval; `firm` says
whether the whole interval agrees with the verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from toybandit.metrics import Interval, interval


@dataclass(frozen=True)
class Check:
    """One expectation: what was measured, the value, the bound it should keep, and whether it does."""

    what: str
    measured: Interval
    target: str
    holds: bool
    firm: bool


@dataclass(frozen=True)
class Table:
    """Numbers to show whole, beside the checks: column heads and rows of text."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Statement:
    """A numbered statement of TOY: its sentence, its checks, remarks in words, tables, names of its figures."""

    number: str
    sentence: str
    checks: Sequence[Check]
    remarks: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[str] = field(default=())

    @property
    def verdict(self) -> str:
        """`reproduced`, `not reproduced`, or `depends`."""
        held = [check.holds for check in self.checks]
        if all(held):
            return "reproduced"
        return "depends" if any(held) else "not reproduced"


def exactly(value: float) -> Interval:
    """A number that has no spread: a maximum, a correlation of means, a count."""
    return Interval(float(value), float(value), float(value))


def _interval(values: np.ndarray | Interval | float) -> Interval:
    if isinstance(values, Interval):
        return values
    return interval(values) if isinstance(values, np.ndarray) and values.ndim == 1 else exactly(float(values))


def at_least(what: str, values: np.ndarray | Interval | float, bound: float) -> Check:
    """Expect the mean of one value a seed (or a number) to be >= bound."""
    found = _interval(values)
    holds = found.mean >= bound
    return Check(what, found, f">= {bound:g}", holds, found.low >= bound if holds else found.high < bound)


def at_most(what: str, values: np.ndarray | Interval | float, bound: float) -> Check:
    """Expect the mean of one value a seed (or a number) to be <= bound."""
    found = _interval(values)
    holds = found.mean <= bound
    return Check(what, found, f"<= {bound:g}", holds, found.high <= bound if holds else found.low > bound)


def between(what: str, values: np.ndarray | Interval | float, low: float, high: float) -> Check:
    """Expect the mean of one value a seed (or a number) to lie in [low, high]."""
    found = _interval(values)
    holds = low <= found.mean <= high
    inside = low <= found.low and found.high <= high
    return Check(what, found, f"{low:g} to {high:g}", holds, inside if holds else found.high < low or found.low > high)


def show(found: Interval, digits: int = 3) -> str:
    """`mean [low, high]`, or the number alone where there is no spread."""
    if found.low == found.high == found.mean:
        return number(found.mean, digits)
    return f"{number(found.mean, digits)} [{number(found.low, digits)}, {number(found.high, digits)}]"


def number(value: float, digits: int = 3) -> str:
    """Fixed digits; powers of ten where those would show a nonzero number as 0."""
    return f"{value:.1e}" if 0 < abs(value) < 10.0**-digits else f"{value:.{digits}f}"
