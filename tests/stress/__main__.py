"""Hard use of the whole project, in parts; one table at the end, whose last number has to be 0 throughout.

Rows are kept in --out as they come, each in place of the last one about the same thing, so that it can be run in
pieces; `table` writes a page of all that is kept.

Example: python -m tests.stress fuzz --examples 2000
Example: python -m tests.stress kill --only sweep online --out docs/results/hard-use.json
Example: python -m tests.stress table --out docs/results/hard-use.json
Exit status: 0 nothing was lost, 1 something was, 2 the input was wrong.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from derivations.cli.command_line import run_command
from derivations.cli.errors import InputError
from tests.stress.table import Row, circumstances, keep, read_kept, show, write_page

Part = Literal["fuzz", "kill", "disk", "same", "processes", "soak", "peak", "table"]
PARTS: tuple[Part, ...] = ("fuzz", "kill", "disk", "same", "processes", "soak", "peak")


@dataclass(frozen=True)
class Hard:
    """Feed it rubbish, kill it, starve it, repeat it, split it over processes, run it for long."""

    parts: Annotated[tuple[Part, ...], tyro.conf.Positional] = PARTS
    """What to do; all of it by default. table: nothing of it, write the page of what is kept, beside it."""
    examples: int = 2000
    """fuzz: generated files for each reader, and lines for each program."""
    only: tuple[str, ...] = ()
    """fuzz, kill, disk and same: only readers and commands whose name contains one of these; all by default."""
    kills: int = 20
    """kill: times each command is killed; three in ten of them aimed at a file being written."""
    steps: int = 2000
    """soak: optimizer steps."""
    seed: int = 0
    """Of what is generated, and of the moments of the kills."""
    out: Path = Path("out/hard.json")
    """The rows as JSON, with those that it holds already about other things."""

    def run(self) -> int:
        if min(self.examples, self.kills, self.steps) < 1:
            raise InputError("--examples, --kills and --steps are numbers of 1 or more")
        if "table" in self.parts:
            if self.parts != ("table",):
                raise InputError("table goes without another part: it writes the page of what was kept")
            print(write_page(self.out))
            return 0
        rows, when = [], circumstances()
        if self.out.exists():
            read_kept(self.out)
        for part in self.parts:
            with tempfile.TemporaryDirectory(prefix="hard-") as folder:
                for row in BEHIND[part](self, Path(folder)):
                    print(f"{row.part}, {row.what}: {row.tried} tried, {len(row.lost)} lost; {row.note}", flush=True)
                    keep(row, self.out, when)
                    rows.append(row)
        return show(rows)

    def takes(self, name: str) -> bool:
        """Whether --only asks for this."""
        return not self.only or any(part in name for part in self.only)


def fuzz_part(hard: Hard, folder: Path) -> "Iterator[Row]":
    from tests.stress.fuzz import fuzz
    from tests.stress.lines import WORK, fuzz_lines
    from tests.stress.llm_readers import llm_readers
    from tests.stress.other_readers import other_readers

    for reader in [*other_readers(), *llm_readers()]:
        if hard.takes(reader.name):
            yield fuzz(reader, examples=hard.examples, root=hard.seed)
    for program in WORK:
        if hard.takes(f"command lines of {program}"):
            yield fuzz_lines(program, examples=hard.examples, root=hard.seed)


def kill_part(hard: Hard, folder: Path) -> "Iterator[Row]":
    from tests.stress.jobs import all_jobs
    from tests.stress.kill import kill

    times, aimed = hard.kills, hard.kills * 3 // 10
    for n, job in enumerate(all_jobs(folder)):
        if hard.takes(job.name):
            yield kill(job, folder / str(n), times=times, aimed=aimed, root=hard.seed + n)


def disk_part(hard: Hard, folder: Path) -> "Iterator[Row]":
    from tests.stress.disk import fill
    from tests.stress.jobs import small_jobs

    for n, job in enumerate(small_jobs(folder)):
        if hard.takes(job.name):
            yield fill(job, folder / str(n), times=12, root=hard.seed)


def same_part(hard: Hard, folder: Path) -> "Iterator[Row]":
    from tests.stress.same import same

    yield from same(folder, hard.takes)


def processes_part(hard: Hard, folder: Path) -> "Iterator[Row]":
    from tests.stress.processes import split

    yield from split(folder, root=hard.seed)


def soak_part(hard: Hard, folder: Path) -> "Iterator[Row]":
    from tests.stress.soak import soak

    yield soak(folder, steps=hard.steps, root=hard.seed)


def peak_part(hard: Hard, folder: Path) -> "Iterator[Row]":
    from tests.stress.peaks import peaks

    yield from peaks(folder)


BEHIND: dict[Part, Callable[[Hard, Path], Iterable[Row]]] = {
    "fuzz": fuzz_part,
    "kill": kill_part,
    "disk": disk_part,
    "same": same_part,
    "processes": processes_part,
    "soak": soak_part,
    "peak": peak_part,
}


def main() -> int:
    return tyro.cli(Hard, prog="python -m tests.stress", description=__doc__).run()


if __name__ == "__main__":
    run_command(main)
