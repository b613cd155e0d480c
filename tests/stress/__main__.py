"""Hard use of the whole project, in parts; one table at the end, whose last number has to be 0 throughout.

Example: python -m tests.stress fuzz --examples 2000
Exit status: 0 nothing was lost, 1 something was, 2 the input was wrong.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from derivations.cli.command_line import run_command
from derivations.cli.errors import InputError
from tests.stress.table import Row, show

Part = Literal["fuzz", "kill", "disk", "same", "processes", "soak"]
PARTS: tuple[Part, ...] = ("fuzz", "kill", "disk", "same", "processes", "soak")


@dataclass(frozen=True)
class Hard:
    """Feed it rubbish, kill it, starve it, repeat it, split it over processes, run it for long."""

    parts: Annotated[tuple[Part, ...], tyro.conf.Positional] = PARTS
    """What to do; all of it by default."""
    examples: int = 2000
    """fuzz: generated files for each reader, and lines for each program."""
    only: str = ""
    """fuzz and kill: only readers and commands whose name contains this."""
    kills: int = 20
    """kill: times each command is killed; three in ten of them aimed at a file being written."""
    steps: int = 2000
    """soak: optimizer steps."""
    seed: int = 0
    """Of what is generated, and of the moments of the kills."""
    out: Path = Path("out/hard.json")
    """The table as JSON."""

    def run(self) -> int:
        if min(self.examples, self.kills, self.steps) < 1:
            raise InputError("--examples, --kills and --steps are numbers of 1 or more")
        rows = []
        for part in self.parts:
            with tempfile.TemporaryDirectory(prefix="hard-") as folder:
                for row in BEHIND[part](self, Path(folder)):
                    print(f"{row.part}, {row.what}: {row.tried} tried, {len(row.lost)} lost; {row.note}", flush=True)
                    rows.append(row)
        return show(rows, self.out)


def fuzz_part(hard: Hard, folder: Path) -> "list[Row]":
    from tests.stress.fuzz import fuzz
    from tests.stress.lines import WORK, fuzz_lines
    from tests.stress.llm_readers import llm_readers
    from tests.stress.other_readers import other_readers

    rows = []
    for reader in [*other_readers(), *llm_readers()]:
        if hard.only in reader.name:
            rows.append(fuzz(reader, examples=hard.examples, root=hard.seed))
            print(f"  {rows[-1].what}: {rows[-1].note}", file=sys.stderr, flush=True)
    for program in WORK:
        if hard.only in f"command lines of {program}":
            rows.append(fuzz_lines(program, examples=hard.examples, root=hard.seed))
    return rows


def kill_part(hard: Hard, folder: Path) -> "list[Row]":
    from tests.stress.jobs import all_jobs
    from tests.stress.kill import kill

    jobs = [job for job in all_jobs(folder) if hard.only in job.name]
    times, aimed = hard.kills, hard.kills * 3 // 10
    return [kill(job, folder / str(n), times=times, aimed=aimed, root=hard.seed + n) for n, job in enumerate(jobs)]


def disk_part(hard: Hard, folder: Path) -> "list[Row]":
    from tests.stress.disk import fill

    return [fill(folder, times=12, root=hard.seed)]


def same_part(hard: Hard, folder: Path) -> "list[Row]":
    from tests.stress.same import same

    return same(folder)


def processes_part(hard: Hard, folder: Path) -> "list[Row]":
    from tests.stress.processes import split

    return split(folder, root=hard.seed)


def soak_part(hard: Hard, folder: Path) -> "list[Row]":
    from tests.stress.soak import soak

    return [soak(folder, steps=hard.steps, root=hard.seed)]


BEHIND: dict[str, Callable[[Hard, Path], list[Row]]] = {
    "fuzz": fuzz_part,
    "kill": kill_part,
    "disk": disk_part,
    "same": same_part,
    "processes": processes_part,
    "soak": soak_part,
}


def main() -> int:
    return tyro.cli(Hard, prog="python -m tests.stress", description=__doc__).run()


if __name__ == "__main__":
    run_command(main)
