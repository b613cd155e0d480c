"""The folder of an offline run: started, or gone on with from its last checkpoint."""

import json
import shutil
from pathlib import Path
from typing import Any

from derivations.commands import InputError, start_run, to_json
from llm.engine import Engine, last_checkpoint
from llm.records import Records

# How a run is shown and stored may change between its parts; what it computes may not.
FREE = ("out", "quiet", "format", "resume", "plan", "tracker", "checkpoint_every", "save", "export", "runs_on")


class Run:
    """Records and checkpoints of one run folder. Only the first process writes records."""

    def __init__(self, out: Path, *, main: bool) -> None:
        self.out = out
        self.metrics, self.examples, self.samples = (
            Records(out / f"{name}.jsonl", silent=not main) for name in ("metrics", "examples", "samples")
        )
        self.checkpoint = out / "checkpoints" / "resume"

    def _records(self) -> dict[str, Records]:
        return {"metrics": self.metrics, "examples": self.examples, "samples": self.samples}

    def save(self, engine: Engine, progress: dict[str, Any]) -> None:
        """Write a checkpoint with the data cursor and the sizes of the records."""
        self.checkpoint.parent.mkdir(exist_ok=True)
        engine.save(self.checkpoint, progress | {"sizes": {n: r.size() for n, r in self._records().items()}})

    def restore(self, engine: Engine) -> dict[str, Any]:
        """State of the last checkpoint, records cut back to it; {"step": 0} if there is none."""
        folder = last_checkpoint(self.checkpoint)
        progress: dict[str, Any] = engine.load(folder) if folder else {"step": 0, "sizes": {}}
        for name, records in self._records().items():
            records.cut(progress["sizes"].get(name, 0))
        engine.accelerator.wait_for_everyone()
        return progress

    def drop_checkpoint(self) -> None:
        """The run is over: its end is in checkpoints/last."""
        for folder in (self.checkpoint, self.checkpoint.with_name(f".{self.checkpoint.name}.old")):
            shutil.rmtree(folder, ignore_errors=True)

    def evaluations(self, step: int) -> list[dict[str, Any]]:
        """Per-comparison rows of the evaluation at a step."""
        rows = [json.loads(line) for line in self.examples.path.read_text(encoding="utf-8").splitlines()]
        return [row for row in rows if row["split"] == "eval" and row["step"] == step]


def open_run(config: Any, resolved: dict[str, Any], engine: Engine) -> Run:
    """Start the run folder, or with `resume` check that it holds a run of the same settings and data.

    Raises InputError naming the settings that differ.
    """
    settings = {**vars(config), **resolved}
    found = config.out / "config.json"
    if engine.is_main and not (config.resume and found.exists()):
        start_run(config.out, settings)
    engine.accelerator.wait_for_everyone()
    if config.resume:
        require_same_settings(config.out, settings)
    return Run(config.out, main=engine.is_main)


def read_config(out: Path) -> dict[str, Any]:
    """Settings saved in a run folder. Raises InputError if they cannot be read."""
    try:
        return dict(json.loads((out / "config.json").read_text(encoding="utf-8"))["config"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read {out / 'config.json'}: {error}") from None


def require_same_settings(out: Path, settings: dict[str, Any]) -> None:
    """Refuse (InputError) to take the run in `out` for one with these settings if they differ."""
    saved, asked = read_config(out), json.loads(to_json(settings))
    differing = [k for k in asked if k not in FREE and saved.get(k) != asked[k]]
    if differing:
        raise InputError(f"--resume: {out} was run with other settings: {', '.join(differing)}")


def finished(config: Any) -> dict[str, Any] | None:
    """The summary of the run in `config.out` if it is finished, else None. Raises InputError for other settings."""
    path = config.out / "summary.json"
    if not path.exists():
        return None
    require_same_settings(config.out, vars(config))
    return dict(json.loads(path.read_text(encoding="utf-8")))
