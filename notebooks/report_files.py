"""Where the stages of the report left their results, and the words in which numbers are said."""

import json
import os
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OUT = Path(os.environ.get("REPORT_OUT", ROOT / "out"))  # a test reports on a folder of its own
RUNS = OUT / "runs"


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def interval(entry: dict[str, float], sign: str = "") -> str:
    """Mean and 95 % interval: `0.55 [0.44, 0.66]`."""
    return f"{entry['mean']:{sign}.2f} [{entry['low']:{sign}.2f}, {entry['high']:{sign}.2f}]"


def stage_commands(*names: str) -> list[str]:
    """The commands of the stages, as they were run."""
    return [" ".join(read_json(OUT / "stages" / f"{name}.json")["command"]) for name in names]
