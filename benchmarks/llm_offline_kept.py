"""What `benchmarks.llm_offline` has measured so far: one JSON that grows seed by seed and keeps rows of other runs."""

import hashlib
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from derivations.cli.files import read_json, write_json

ROOT = Path(__file__).parents[1]
SOURCES = ("llm/**/*.py", "benchmarks/llm_offline*.py", "benchmarks/worker.py")


@dataclass
class Kept:
    """lines: the table's rows, by case. steps: every measured step of every row, in the order measured."""

    path: Path
    lines: dict[str, dict[str, Any]]
    steps: list[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> "Kept":
        """What the file holds; nothing if there is none. Raises InputError if it is damaged."""
        found = read_json(path) if path.exists() else {"lines": [], "steps": []}
        return cls(path, {line["case"]: line for line in found["lines"]}, found["steps"])

    def begin(self, case: str, conditions: dict[str, Any]) -> None:
        """Forget what was measured of a case under other conditions (the file keeps it until the next `add`)."""
        if self.lines.get(case, {}).get("conditions") != conditions:
            self.steps = [step for step in self.steps if step["case"] != case]

    def of(self, case: str) -> list[dict[str, Any]]:
        """The steps of a case."""
        return [step for step in self.steps if step["case"] == case]

    def seeds(self, case: str) -> set[int]:
        """Its seeds that are measured to the end."""
        return {step["seed"] for step in self.of(case)}

    def put(self, line: dict[str, Any], order: Sequence[str]) -> list[dict[str, Any]]:
        """Write the file with this line in place of its case's. Returns all lines, in the order of the cases."""
        self.lines[line["case"]] = line
        lines = [self.lines[name] for name in order if name in self.lines]
        write_json(self.path, {"lines": lines, "steps": self.steps})
        return lines


def conditions(settings: Any) -> dict[str, Any]:
    """What the seeds of one row must have in common: settings, package versions, and a hash of the code measured."""
    digest = hashlib.sha256()
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(path.read_bytes())
    own = {name: value for name, value in vars(settings).items() if name not in ("cases", "seeds", "out", "file")}
    packages = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "trl")}
    return own | {"file": settings.file and settings.file.name, "packages": packages, "code": digest.hexdigest()[:12]}
