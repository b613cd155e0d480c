"""A disk that fills: a small tmpfs as the run folder's place. One clear line, and the last good checkpoint is whole."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.stress.kill import Job, results, said_by, start
from tests.stress.table import Row

PAGE = 4096  # bytes that a tmpfs gives out at a time; one of size 0 has no limit


@contextlib.contextmanager
def small_disk(place: Path, size: int) -> Iterator[bool]:
    """A tmpfs of `size` bytes at `place`; False where mounting is not allowed."""
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    try:
        yield mounted.returncode == 0
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", str(place)], check=True)


def fill(job: Job, folder: Path, *, times: int, root: int) -> Row:
    """A job on disks of `times` sizes between next to nothing and just too little; then gone on with in more room."""
    folder.mkdir(parents=True, exist_ok=True)
    row = Row("disk", f"{job.name} on a disk that fills")
    process = start(job.command, folder / "whole", folder)
    if process.wait():
        row.lost.append(f"the run without a limit failed: {said_by(process)[-300:]}")
        return row
    expected = results(folder / "whole", job.files)
    needed = sum(-(-path.stat().st_size // PAGE) * PAGE for path in (folder / "whole").rglob("*") if path.is_file())
    widest = 4 if "checkpoints" in job.aim else 1  # of what is needed: a checkpoint is written beside the last
    went_on = 0
    for number in range(times):
        size = max(PAGE, int(needed * (0.1 + widest * (number + (root % 7) / 7) / times)) // PAGE * PAGE)
        with small_disk(folder / f"disk-{number}", size) as mounted:
            if not mounted:
                row.note = "skipped: mounting a tmpfs is not allowed here"
                return row
            disk = folder / f"disk-{number}"
            problem, filled = _once(job.command, disk, folder)
            row.tried += filled
            if not problem and filled:
                subprocess.run(["mount", "-o", "remount,size=100M", str(disk)], check=True)
                process = start(job.again, disk / "run", folder)
                said = said_by(process)
                if process.returncode:
                    problem = f"going on with more room ended with {process.returncode}: {said[-300:]}"
                elif results(disk / "run", job.files) != expected:
                    problem = "after going on the results differ"
                went_on += not problem
            if problem:
                row.lost.append(f"{size} bytes: {problem}")
    row.note = f"{times} sizes around the {needed} bytes of a run, of which {row.tried} filled; "
    row.note += f"with more room {went_on} went on to the same results"
    return row


def _once(command: tuple[str, ...], disk: Path, folder: Path) -> tuple[str, bool]:
    """What was wrong with how the run ended, and whether its disk filled at all."""
    process = start(command, disk / "run", folder)
    lines = said_by(process).strip().splitlines()
    if process.returncode == 0:
        return "", False
    errors = [line for line in lines if line.startswith("error: ")]
    if process.returncode != 2 or len(errors) != 1 or any("Traceback" in line for line in lines):
        return f"status {process.returncode}: {' / '.join(lines)[-400:]}", True
    return "", True
