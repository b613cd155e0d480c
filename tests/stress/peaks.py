"""Peak resident memory of the commands whose need of it the docs state (docs/how-to/hard-use.md)."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.stress.table import Row

# A small process in between: ru_maxrss of a child begins with the peak of the process that started it.
BETWEEN = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stdout)
sys.exit(done.returncode)
"""
UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


@dataclass(frozen=True)
class Peak:
    """command: arguments behind `python`, with {out} for a run folder. most: MiB that the docs state."""

    name: str
    command: tuple[str, ...]
    most: int


PEAKS = (
    Peak("derivations check", ("-m", "derivations", "check"), 200),
    Peak(
        "toybandit run",
        ("-m", "toybandit", "run", "--regularizer", "kl", "--coefficient", "0.5", "--out", "{out}"),
        300,
    ),
    Peak("llm train --plan", ("-m", "llm", "train", "--recipe", "llama-3-8b-simpo", "--plan"), 600),
)


def peak(command: tuple[str, ...], folder: Path) -> float:
    """Peak resident MiB of the largest process of a command.

    Raises:
        RuntimeError: the command failed; its last words.
    """
    words = [sys.executable, *(word.replace("{out}", str(folder / "run")) for word in command)]
    done = subprocess.run([sys.executable, "-c", BETWEEN, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"status {done.returncode}: {done.stderr.strip()[-300:]}")
    return int(done.stdout) * UNIT / 2**20


def peaks(folder: Path) -> Iterator[Row]:
    """Each command as the docs have it, once."""
    for stated in PEAKS:
        measured = peak(stated.command, folder)
        row = Row("peak", f"memory of `{stated.name}`", tried=1, note=f"{measured:.0f} MiB, {stated.most} are stated")
        if measured > stated.most:
            row.lost.append(row.note)
        yield row
