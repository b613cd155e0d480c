"""The checker on trial: it must refute every wrong version of what it proves.

Each decided step makes its own mutants (`derivations.checks`): of both sides of an identity and of the
condition it stands under, of a limit, of the sign of an inequality. One that is neither refuted nor
proved equal to the original has survived, and then the claim counts as failed.
"""

from dataclasses import dataclass, field

from derivations.checks import Equal, Step

PER_CLAIM, MOST_PER_SIDE = 60, 6  # a claim of many identities has fewer mutants of each


@dataclass
class Tally:
    """How the mutants of one claim fared."""

    made: int = 0
    refuted: int = 0
    equivalent: list[str] = field(default_factory=list)
    survived: list[str] = field(default_factory=list)


def try_mutants(steps: list[Step]) -> Tally:
    """Put every mutant of every step on trial and count what the checks say."""
    tally = Tally()
    identities = sum(isinstance(step, Equal) for step in steps)
    per_side = max(1, min(MOST_PER_SIDE, PER_CLAIM // max(1, 2 * identities)))
    for step in steps:
        for mutant in step.mutants(per_side):
            tally.made += 1
            if mutant.fate == "refuted":
                tally.refuted += 1
            else:
                getattr(tally, mutant.fate).append(f"{step.statement}: {' '.join(map(str, mutant.says))}")
    return tally
