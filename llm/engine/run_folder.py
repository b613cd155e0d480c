"""The folder of an offline run: started, or gone on with from its last checkpoint."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from derivations.cli.errors import InputError
from derivations.cli.files import clear_temporaries, read_json, to_json
from derivations.cli.run_folder import start_run
from llm.engine.checkpoints import last_checkpoint
from llm.engine.engine import Engine
from llm.engine.jsonl import Records, read_rows
from llm.offline.metrics import TEXT

# How a run is shown and stored may change between its parts; what it computes may not.
SHOWN = ("out", "quiet", "format", "resume", "plan", "plan_processes", "runs_on", "passes")
FREE = (*SHOWN, "tracker", "checkpoint_every", "save", "export")


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
        if self.metrics.silent is False:
            self._clear_killed_writes()
        for name, records in self._records().items():
            records.cut(progress["sizes"].get(name, 0))
        engine.accelerator.wait_for_everyone()
        return progress

    def _clear_killed_writes(self) -> None:
        """Remove what a kill left half written: temporary files, a checkpoint, a model."""
        clear_temporaries(self.out)
        for folder in [*self.checkpoint.parent.glob(".last.*"), self.checkpoint.with_name(".resume.new")]:
            shutil.rmtree(folder, ignore_errors=True)

    def drop_checkpoint(self) -> None:
        """The run is over: its end is in checkpoints/last."""
        for folder in (self.checkpoint, self.checkpoint.with_name(f".{self.checkpoint.name}.old")):
            shutil.rmtree(folder, ignore_errors=True)

    def evaluations(self, step: int) -> list[dict[str, Any]]:
        """Per-comparison rows of the evaluation at a step."""
        rows = read_rows(self.examples.path)
        found = [row for row in rows if row.get("split") == "eval" and row.get("step") == step]
        if any(not _measured(row) or row.keys() != found[0].keys() for row in found):
            raise InputError(f"{self.examples.path}: the evaluation of step {step} is damaged; begin the run anew")
        return found


def _measured(row: dict[str, Any]) -> bool:
    """Whether all but the row's labels are numbers."""
    return all(type(value) in (int, float) for name, value in row.items() if name not in TEXT)


def open_run(config: Any, resolved: dict[str, Any], engine: Engine) -> Run:
    """Start the run folder, or with `resume` check that it holds a run of the same settings and data.

    A run that stopped before its first checkpoint is moved aside, not overwritten, and this is said.

    Raises InputError naming the settings that differ.
    """
    settings = {**vars(config), **resolved}
    if config.resume and (config.out / "config.json").exists():
        require_same_settings(config.out, settings)
    start = not config.resume or last_checkpoint(config.out / "checkpoints" / "resume") is None
    engine.accelerator.wait_for_everyone()
    if engine.is_main and start:
        if config.resume:
            print(f"note: --resume: {config.out} has no checkpoint to go on from; starting at step 1", file=sys.stderr)
        start_run(config.out, settings)
    engine.accelerator.wait_for_everyone()
    return Run(config.out, main=engine.is_main)


def read_config(out: Path) -> dict[str, Any]:
    """Settings saved in a run folder. Raises InputError if they cannot be read."""
    found = read_json(out / "config.json")
    config = found.get("config") if isinstance(found, dict) else None
    if not isinstance(config, dict):
        raise InputError(f"{out / 'config.json'} is not the config of a run: expected an object with `config` in it")
    return config


def require_same_settings(out: Path, settings: dict[str, Any]) -> None:
    """Refuse (InputError) to take the run in `out` for one with these settings if they differ."""
    saved, asked = read_config(out), json.loads(to_json(settings))
    differing = [k for k in asked if k not in FREE and saved.get(k) != asked[k]]
    if differing:
        raise InputError(f"--resume: {out} was run with other settings: {', '.join(differing)}")


def as_started(config: Any) -> Any:
    """The config of a resumed run with what was chosen for it when it started, where the user names nothing else."""
    if not config.resume or config.max_length is not None or not (config.out / "config.json").exists():
        return config
    saved = read_config(config.out).get("max_length")
    return replace(config, max_length=saved) if type(saved) is int else config


def finished(config: Any) -> dict[str, Any] | None:
    """The summary of the run in `config.out` if it is finished, which is then said, else None.

    Raises InputError for other settings.
    """
    path = config.out / "summary.json"
    if not path.exists():
        return None
    require_same_settings(config.out, vars(config))
    summary = read_json(path)
    if not isinstance(summary, dict):
        raise InputError(f"{path} is not the summary of a run; remove it to go on from the last checkpoint")
    if not told_as_json(config, summary) and not config.quiet:
        print(f"{config.out} is finished; nothing is left to do")
    return summary


def told_as_json(config: Any, summary: dict[str, Any]) -> bool:
    """Print a run's folder, settings and summary for machines, if that is how its end is to be told."""
    if config.format == "json" and not config.quiet:
        print(to_json({"out": config.out, "settings": config, "summary": summary}, indent=2))
    return bool(config.format == "json")
