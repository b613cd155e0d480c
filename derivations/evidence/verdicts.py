"""Checks, verdicts and their table: what an experiment found against what was expected of it.

A statement is a list of checks, each a headline or a control. A headline says that something happens; a
control would hold too if nothing happened (an optimizer that does nothing loses no gold), so it can spoil a
statement and never earn one. Every check holds: `reproduced`; no headline holds and one fails firmly:
`not reproduced`; else `depends`, and the failed checks say on what. A check on a mean is judged by the mean
and shown with its 95 % interval; `firm` says whether the whole interval agrees with the verdict.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from derivations.evidence.intervals import Interval, interval
from derivations.evidence.tables import Table


@dataclass(frozen=True)
class Check:
    """One expectation: what was measured, the value, the bound it should keep, and whether it does."""

    what: str
    measured: Interval
    target: str
    holds: bool
    firm: bool
    role: Literal["headline", "control"] = "headline"

    @property
    def outcome(self) -> str:
        """`yes`, or `no`, or `not reproduced` where the whole interval lies beyond the bound."""
        return "yes" if self.holds else "not reproduced" if self.firm else "no"


def control(check: Check) -> Check:
    """The check as a control: one that would hold too if nothing happened."""
    return replace(check, role="control")


def verdict(outcomes: Iterable[tuple[str, bool, bool]]) -> str:
    """`reproduced`, `not reproduced` or `depends`, of the checks of one claim.

    Args:
        outcomes: of each check its role (`headline`, or another such as `control`), whether it holds, and whether it
            fails firmly.

    Returns:
        reproduced: every check holds. not reproduced: no headline holds and one fails. depends: anything else. A
        check that is no headline can spoil a claim and never earn it.
    """
    checks = list(outcomes)
    if all(holds for _, holds, _ in checks):
        return "reproduced"
    headlines = [(holds, fails) for role, holds, fails in checks if role == "headline"]
    nothing = not any(holds for holds, _ in headlines) and any(fails for _, fails in headlines)
    return "not reproduced" if nothing else "depends"


@dataclass(frozen=True)
class Statement:
    """A numbered statement: its sentence, its checks, remarks in words, tables, names of its figures."""

    number: str
    sentence: str
    checks: Sequence[Check]
    remarks: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[str] = field(default=())

    @property
    def verdict(self) -> str:
        """`reproduced`, `not reproduced`, or `depends`."""
        return verdict((check.role, check.holds, check.firm and not check.holds) for check in self.checks)

    @property
    def refuted(self) -> list[str]:
        """What the parts say that were firmly not reproduced."""
        return [f"{check.what} ({show(check.measured)})" for check in self.checks if check.outcome == "not reproduced"]


def statement_of(record: Mapping[str, Any]) -> Statement:
    """The statement whose `dataclasses.asdict` this is, from JSON."""
    checks = [Check(**check | {"measured": Interval(**check["measured"])}) for check in record["checks"]]
    return Statement(**dict(record) | {"checks": checks, "tables": [Table(**table) for table in record["tables"]]})


def exactly(value: float) -> Interval:
    """A number that has no spread: a maximum, a correlation of means, a count."""
    return Interval(float(value), float(value), float(value))


def _interval(values: np.ndarray | Interval | float) -> Interval:
    if isinstance(values, Interval):
        return values
    return interval(values) if isinstance(values, np.ndarray) and values.ndim == 1 else exactly(float(values))


def at_least(what: str, values: np.ndarray | Interval | float, bound: float) -> Check:
    """Expect the mean of one value per seed (or a number) to be >= bound."""
    found = _interval(values)
    holds = found.mean >= bound
    return Check(what, found, f">= {bound:g}", holds, found.low >= bound if holds else found.high < bound)


def at_most(what: str, values: np.ndarray | Interval | float, bound: float) -> Check:
    """Expect the mean of one value per seed (or a number) to be <= bound."""
    found = _interval(values)
    holds = found.mean <= bound
    return Check(what, found, f"<= {bound:g}", holds, found.high <= bound if holds else found.low > bound)


def between(what: str, values: np.ndarray | Interval | float, low: float, high: float) -> Check:
    """Expect the mean of one value per seed (or a number) to lie in [low, high]."""
    found = _interval(values)
    holds = low <= found.mean <= high
    inside = low <= found.low and found.high <= high
    return Check(what, found, f"{low:g} to {high:g}", holds, inside if holds else found.high < low or found.low > high)


def show(found: Interval, digits: int = 3) -> str:
    """`mean [low, high]`, or the number alone where there is no spread."""
    if found.low == found.high == found.mean:
        return number(found.mean, digits)
    return f"{number(found.mean, digits)} [{number(found.low, digits)}, {number(found.high, digits)}]"


def show_over_seeds(found: Interval, digits: int = 3) -> str:
    """As `show`; of one seed the number alone, and a word where it does not exist."""
    if math.isnan(found.mean):
        return "undefined"
    return f"{number(found.mean, digits)} (1 seed)" if math.isinf(found.low) else show(found, digits)


def number(value: float, digits: int = 3) -> str:
    """Fixed digits; powers of ten where those would show a nonzero number as 0."""
    return f"{value:.1e}" if 0 < abs(value) < 10.0**-digits else f"{value:.{digits}f}"
