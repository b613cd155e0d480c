"""A mistake planted by hand, and what is expected to catch it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mistake:
    """In `file`, `right` (which occurs there) becomes `wrong`. by: a glob of claims, or the id of a test with `::`."""

    words: str
    file: str
    right: str
    wrong: str
    by: str = "*"
