"""How the report's stages run: two at a time, each a command of its own, with what is left said at least every 5 s.

A finished stage is not run again while its command and the sources it runs stay the same: a hash beside its results
says so.
"""

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from derivations.cli.errors import InputError
from derivations.cli.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
LANES = 2  # stages that run at once, each with its share of the cores
EVERY = 5.0  # seconds of silence, at most
LOOK = 0.1  # seconds between two looks at what runs


@dataclass(frozen=True)
class Stage:
    """One command of the report.

    result: the file whose presence says that it finished. sources: what its result depends on besides
    the command; folders stand for the Python files in them. after: stages whose results it reads. lane: stages of
    one lane run one after another. seconds: what it takes on one of two quiet cores (without AMX); once: what it takes
    besides where the caches are empty.
    """

    name: str
    does: str
    command: tuple[str, ...]
    result: Path
    sources: tuple[str, ...]
    after: tuple[str, ...] = ()
    lane: int = 0
    seconds: float = 10.0
    once: float = 0.0


def fingerprint(stage: Stage, finished: dict[str, str]) -> str:
    """Hash of the command, of every source it runs and of the stages it reads."""
    digest = hashlib.sha256(repr(stage.command).encode())
    for source in stage.sources:
        path = ROOT / source
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    for name in stage.after:
        digest.update(finished[name].encode())
    return digest.hexdigest()


def done_before(marker: Path, mark: str) -> bool:
    """Whether a marker says that this very stage is done; one that is missing or damaged says no such thing."""
    try:
        found = read_json(marker)
    except InputError:
        return False
    return isinstance(found, dict) and found.get("fingerprint") == mark


@dataclass
class Running:
    """A stage whose process runs."""

    stage: Stage
    process: subprocess.Popen[str]
    reader: threading.Thread
    began: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began


class Clock:
    """Expected and elapsed time of all stages, and what is left at the speed of this machine as far as it is known."""

    def __init__(self, stages: Sequence[Stage], *, first_time: bool) -> None:
        self.began = time.monotonic()
        self.expected = {stage.name: stage.seconds + (stage.once if first_time else 0.0) for stage in stages}
        self.lanes = {stage.name: stage.lane for stage in stages}
        self.took: dict[str, float] = {}

    @property
    def so_far(self) -> float:
        return time.monotonic() - self.began

    def skip(self, name: str) -> None:
        """Count a stage as one that takes no time."""
        self.expected.pop(name)

    def slowness(self) -> float:
        """How many times as long as expected the finished stages took."""
        known = sum(self.expected[name] for name in self.took)
        return sum(self.took.values()) / known if known else 1.0

    def left(self, running: Sequence[Running]) -> float:
        """Seconds until the last lane is through; a stage that is overdue is given a fifth of its time more."""
        slow, lanes = self.slowness(), dict.fromkeys(self.lanes.values(), 0.0)
        elapsed = {run.stage.name: run.elapsed for run in running}
        for name, expected in self.expected.items():
            if name not in self.took:
                own = elapsed.get(name, 0.0)
                lanes[self.lanes[name]] += max(slow * expected - own, own / 5)
        last = lanes.pop(-1, 0.0)  # the lane of what runs when all others are through
        return max(lanes.values(), default=0.0) + last


class Runner:
    """Runs stages and says what they do. out: where the markers are kept."""

    def __init__(self, out: Path, console: Console, clock: Clock) -> None:
        self.out, self.console, self.clock = out, console, clock
        self.running: list[Running] = []
        self.spoke = time.monotonic()

    def say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, markup=False)
        self.spoke = time.monotonic()

    def run(self, stages: Sequence[Stage], marks: dict[str, str], *, lanes: int = LANES) -> int:
        """Run what is not done yet, the stages of a lane in order, so many lanes at once. Returns the exit status."""
        waiting = [stage for stage in stages if not self._done(stage, marks[stage.name])]
        try:
            with self.console.status("") as status:
                while waiting or self.running:
                    self._start(waiting, lanes)
                    time.sleep(LOOK)
                    for run in [r for r in self.running if r.process.poll() is not None]:
                        code = self._end(run, marks)
                        if code != 0:
                            return code
                    self._tell(status.update)
        finally:
            for run in self.running:
                run.process.terminate()
                run.process.wait()
        return 0

    def _done(self, stage: Stage, mark: str) -> bool:
        done = stage.result.exists() and done_before(self._marker(stage), mark)
        if done:
            self.clock.skip(stage.name)
            self.say(f"  {stage.name:16} done before")
        return done

    def _marker(self, stage: Stage) -> Path:
        return self.out / "stages" / f"{stage.name}.json"

    def _start(self, waiting: list[Stage], lanes: int) -> None:
        for stage in list(waiting):
            busy = {run.stage.lane for run in self.running}
            if len(busy) < lanes and stage.lane not in busy:
                waiting.remove(stage)
                self.say(f"  {stage.name:16} starts: {stage.does} (expected {self.clock.expected[stage.name]:.0f} s)")
                threads = str(max(1, CORES // lanes))
                given = {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
                process = subprocess.Popen(  # noqa: S603
                    [sys.executable, *stage.command],
                    cwd=ROOT,
                    env=given | os.environ,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                reader = threading.Thread(target=self._read, args=(process,), daemon=True)
                reader.start()
                self.running.append(Running(stage, process, reader))

    def _read(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            self.say(line.rstrip("\n"))

    def _end(self, run: Running, marks: dict[str, str]) -> int:
        """Note a finished stage, or say that it failed. Returns its exit status."""
        run.reader.join()
        self.running.remove(run)
        stage, code = run.stage, run.process.returncode
        if code != 0:
            self.say(f"  {stage.name:16} failed with exit status {code}: python {' '.join(stage.command)}")
            return code
        seconds = run.elapsed
        found = {"fingerprint": marks[stage.name], "seconds": round(seconds, 1), "command": ["python", *stage.command]}
        write_json(self._marker(stage), found)
        expected = self.clock.expected[stage.name]
        self.clock.took[stage.name] = seconds
        self.say(f"  {stage.name:16} {seconds:6.1f} s (expected {expected:.0f} s); {self._left()}")
        return 0

    def _left(self) -> str:
        left = self.clock.left(self.running)
        return f"{self.clock.so_far:.0f} s so far, about {left:.0f} s left" if left >= 1 else "all done"

    def _tell(self, update: Callable[[str], None]) -> None:
        """What runs, on the terminal's last line or as a line where nothing was said for a while."""
        expected = self.clock.expected
        own = [f"{r.stage.name} {r.elapsed:.0f} of about {expected[r.stage.name]:.0f} s" for r in self.running]
        if not own:
            return
        text = f"{', '.join(own)}; {self._left()}"
        if self.console.is_terminal:
            update(text)
        elif time.monotonic() - self.spoke >= EVERY - 2 * LOOK:
            self.say(f"    {text}")
