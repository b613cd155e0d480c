"""Arms of a benchmark in processes of their own that take turns: one line in (a request), one line out (an answer)."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any


class Worker:
    """The benchmark's side: an arm that runs `python -m module options`."""

    def __init__(self, arm: str, module: str, options: Sequence[str]) -> None:
        self.arm = arm
        command = [sys.executable, "-m", module, arm, *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, request: Any) -> dict[str, Any]:
        """Send a request and wait for the answer; other lines the arm prints are passed over."""
        assert self.process.stdin is not None  # noqa: S101
        assert self.process.stdout is not None  # noqa: S101
        print(json.dumps(request), file=self.process.stdin, flush=True)
        while line := self.process.stdout.readline():
            if line.startswith("{"):
                return dict(json.loads(line))
        raise RuntimeError(f"the {self.arm} process ended with status {self.process.wait()}")

    def close(self) -> None:
        """End the arm: no more requests come."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(timeout=60)


def turns(workers: Sequence[Worker], step: int) -> list[Worker]:
    """The workers in the order of this step: nobody is always first."""
    first = step % len(workers)
    return [*workers[first:], *workers[:first]]


def requests() -> Iterator[Any]:
    """The arm's side: requests as they come."""
    for line in sys.stdin:
        yield json.loads(line)


def answer(**values: float) -> None:
    """The arm's side: an answer, with the most memory the process has held so far, if it does not say itself."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"peak_gib": peak} | values), flush=True)
