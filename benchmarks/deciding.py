"""How the deciding procedure compares with the plain route, `simplify(lhs - rhs) == 0`, on the same identities.

Every identity of every claim is decided both ways, one after the other in one process; the plain route is
cut off after `--limit` seconds. Prints how many each route decides, the ratio of total times, and the
identities that the plain route cannot decide. Run as `make bench-derivations` (some minutes).
"""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import sympy as sp
import tyro

from derivations.prover.claims import load_claims
from derivations.prover.kinds import Equal
from derivations.prover.zero_test import is_zero


class TimeUp(Exception):
    """The time allowed is over."""


@dataclass(frozen=True)
class Settings:
    """Time the field of kernels against SymPy's `simplify` on every identity of the claims."""

    limit: int = 10
    """Seconds that the plain route may take for one identity."""
    only: str = "*"
    """Glob over claim ids."""


def within(limit: int, function: Callable[[], bool]) -> tuple[bool | None, float]:
    """The function's answer (None if time was up) and the seconds it took."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TimeUp

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(limit)
    start = time.perf_counter()
    try:
        return function(), time.perf_counter() - start
    except TimeUp:
        return None, time.perf_counter() - start
    finally:
        signal.alarm(0)


def main(settings: Settings) -> None:
    ours_total = plain_total = 0.0
    identities, lost = 0, {}
    for claim in load_claims(settings.only):
        missed: list[Any] = []
        steps = [step for step in claim.steps() if isinstance(step, Equal)]
        for step in steps:
            residual = step.residual()
            identities += 1
            sp.core.cache.clear_cache()
            proved, seconds = within(600, lambda residual=residual: is_zero(residual))
            if not proved:
                raise SystemExit(f"{claim.id}: {step.statement}: not decided")
            ours_total += seconds
            sp.core.cache.clear_cache()
            plain, seconds = within(settings.limit, lambda residual=residual: sp.simplify(residual) == 0)
            plain_total += seconds
            if not plain:
                missed.append((step.statement, "no answer in time" if plain is None else "not reduced to 0"))
        if missed:
            lost[claim.id] = missed
        print(f"{claim.id}: {len(steps)} identities, plain route misses {len(missed)}", flush=True)
    print()
    for name, missed in lost.items():
        for statement, why in missed:
            print(f"  {name}: {statement}: {why}")
    print(
        f"{identities} identities: ours decides all in {ours_total:.1f} s; simplify decides "
        f"{identities - sum(map(len, lost.values()))} in {plain_total:.1f} s (at most {settings.limit} s each), "
        f"time ratio {plain_total / ours_total:.1f}; {len(lost)} claims have an identity it cannot decide"
    )


if __name__ == "__main__":
    main(tyro.cli(Settings))
