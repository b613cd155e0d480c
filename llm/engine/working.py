"""What a run is at while it prints no results: a bar on a terminal, and lines in a pipe, so that no run is silent."""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")
FIRST = 1.0  # seconds before the first line: what fails at once says its error alone
EVERY = 5.0  # seconds between two lines in a pipe
SELDOM = 60.0  # the same once a run has lasted
LASTED = 600.0  # so many seconds


@dataclass
class Work:
    """Something that takes a while, in `total` equal parts (0: unknown), of which `done` are done."""

    what: str
    total: int = 0
    done: int = 0
    began: float = field(default_factory=time.monotonic)

    def add(self, parts: int) -> None:
        """So many more are done; never more than there are."""
        self.done = min(self.total, self.done + parts)

    def said(self) -> str:
        """`simpo: 3 of 20, 12 s so far, about 68 s left`."""
        seconds = time.monotonic() - self.began
        if not self.total:
            return f"{self.what}: {seconds:.0f} s so far"
        left = f", about {seconds / self.done * (self.total - self.done):.0f} s left" if self.done else ""
        return f"{self.what}: {self.done} of {self.total}, {seconds:.0f} s so far{left}"


@contextmanager
def working(what: str, *, quiet: bool, total: int = 0) -> Iterator[Work]:
    """Say on stderr what is being done, if it lasts, and again while it does.

    Args:
        what: in a few words.
        quiet: say nothing.
        total: number of equal parts, whose `done` the caller counts; 0: unknown.
    """
    work = Work(what, total)
    if quiet:
        yield work
        return
    ended = threading.Event()
    tell = _on_terminal if sys.stderr.isatty() else _in_pipe
    thread = threading.Thread(target=tell, args=(work, ended), daemon=True)
    thread.start()
    try:
        yield work
    finally:
        ended.set()
        thread.join()


def _in_pipe(work: Work, ended: threading.Event) -> None:
    """A line soon after the start and every few seconds until the end."""
    if ended.wait(FIRST):
        return
    print(work.what, file=sys.stderr, flush=True)
    while not ended.wait(EVERY if time.monotonic() - work.began < LASTED else SELDOM):
        print(f"  {work.said()}", file=sys.stderr, flush=True)


def _on_terminal(work: Work, ended: threading.Event) -> None:
    """A bar that goes when the work ends, with the seconds that are left where that is known."""
    columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()]
    if work.total:
        columns += [BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(work.what, total=work.total or None)
        while not ended.wait(0.2):
            bar.update(task, completed=work.done)


def progress(items: Sequence[T], what: str, *, quiet: bool) -> Iterator[T]:
    """The items, one after another, with `working` around them."""
    with working(what, quiet=quiet, total=len(items)) as work:
        for item in items:
            yield item
            work.add(1)
