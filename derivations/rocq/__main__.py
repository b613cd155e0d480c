"""`make rocq`: compile the theorems, the traced code and the steps of the claims; skipped without `coqc`."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from derivations.cli.command_line import read_command, run_command
from derivations.prover.claims import load_claims
from derivations.rocq import kernel, report


@dataclass(frozen=True)
class Compile:
    """Compile everything that the kernel can check, and say what it refused.

    Exit status: 0 all of it compiles (or there is no coqc), 1 something was refused, 2 the input was wrong.

    Example: python -m derivations.rocq compile --folder out/rocq
    """

    only: str = "*"
    """Glob over claim ids, for the steps; the theorems are always compiled."""
    folder: Path = Path("out/rocq")
    """Where the files are written and compiled; what stands there is replaced."""
    jobs: int = os.cpu_count() or 1
    """Processes; the result does not depend on it."""

    def run(self) -> int:
        if shutil.which("coqc") is None:
            print("skipped: coqc is not installed")
            return 0
        claims = load_claims(self.only)
        verdict = kernel.check([(claim, claim.steps()) for claim in claims], jobs=self.jobs, folder=self.folder)
        print(report.as_text(verdict, claims), end="")
        return 0 if verdict.ok else 1


def main() -> int | None:
    return read_command({"compile": Compile}, prog="python -m derivations.rocq", about=str(__doc__)).run()


if __name__ == "__main__":
    run_command(main)
