"""The answer to "which objective is it?": named terms with factors, or words, and what a batch adds to them."""

from dataclasses import dataclass

from derivations.conformance.laws import number
from derivations.conformance.stages import MIXED

MAKE_UP = "a batch is reduced in a way that depends on its make-up"


@dataclass(frozen=True)
class Identity:
    """The answer: named terms with coefficients (empty: unknown), the residual left, and how batches are reduced."""

    terms: tuple[tuple[float, str], ...]
    residual: float
    reduction: str = ""

    @property
    def plain(self) -> bool:
        """Whether it is one term, as it stands, reduced by the mean."""
        return len(self.terms) == 1 and abs(self.terms[0][0] - 1) < 1e-5 and not self.reduction

    @property
    def known(self) -> bool:
        return bool(self.terms)

    @property
    def nameless(self) -> bool:
        """Whether what it does to a batch has no name."""
        return any(words in self.reduction for words in (MAKE_UP, MIXED))

    def __str__(self) -> str:
        if not self.known and self.reduction:
            return f"unknown in part: {self.reduction}"
        if not self.known:
            return f"unknown (the nearest sum of named terms leaves {self.residual:.2g} of it unexplained)"
        c, name = self.terms[0]
        if len(self.terms) == 1 and abs(c - 1) >= 1e-5 and " as named" in name:
            scaled = ", with the wrong sign" if abs(c + 1) < 1e-5 else f", times {number(c)} (a constant factor)"
            parts = [name.replace(" as named", "") + scaled]
        else:
            parts = [name if abs(c - 1) < 1e-5 else f"{number(c)} x {name}" for c, name in self.terms]
        return " + ".join(parts) + (f"; {self.reduction}" if self.reduction else "")


def in_words(words: str, reduction: str = "") -> Identity:
    """An answer that is a description."""
    return Identity(((1.0, words),), 0.0, reduction)
