"""How far a command is: a bar in a terminal, and in a file or pipe a line every few seconds with the time left."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SILENT = 5.0  # seconds a command may say nothing

Advance = Callable[[float], None]  # gets the share of the work done, from 0 to 1


@contextlib.contextmanager
def progress(title: str, *, quiet: bool = False, every: float = SILENT) -> Iterator[Advance]:
    """Tell on stderr how much of some work is done.

    Args:
        title: what is being done.
        quiet: tell nothing.
        every: seconds between two lines where stderr is no terminal; work that is done sooner leaves no line.

    Yields:
        The function that is given the share done.
    """
    console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
    if quiet or not console.is_terminal:
        yield _lines(console, title, every)
        return
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("remaining"), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda share: bar.update(task, completed=share)


def _lines(console: Console, title: str, every: float) -> Advance:
    start = told = time.monotonic()

    def advance(share: float) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told < every or not 0 < share < 1:
            return
        told, spent = now, now - start
        left = spent * (1 - share) / share
        console.print(f"{title}: {share:.0%} after {spent:.0f} s, about {left:.0f} s left", markup=False)

    return advance
