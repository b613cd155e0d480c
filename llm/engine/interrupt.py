"""What Ctrl-C leaves: said in one line, with how to go on. Nothing here needs torch before it is asked."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from derivations.cli.files import read_json


@contextmanager
def saying_what_is_kept(config: Any) -> Iterator[None]:
    """Say on stderr, where the run of these settings is interrupted, what of it is kept and how to go on."""
    began = time.time()
    try:
        yield
    except KeyboardInterrupt:
        print(kept(config.out, config, since=began), file=sys.stderr)
        raise


def kept(out: Path, config: Any, *, since: float) -> str:
    """What a run folder holds of an interrupted run.

    Args:
        out: the run folder.
        config: its settings; `resume` and `checkpoint_every` are read.
        since: when the run was started, seconds of the epoch.

    Returns:
        One sentence or two.
    """
    from llm.engine.checkpoints import SEAL, last_checkpoint

    settings = out / "config.json"
    if not settings.exists() or (settings.stat().st_mtime < since - 1 and not config.resume):
        return "interrupted before the first step: nothing of this run was saved"
    folder = last_checkpoint(out / "checkpoints" / "resume")
    if folder is None:
        often = config.checkpoint_every
        why = f"the first comes after {often} steps (--checkpoint-every)" if often else "--checkpoint-every is 0"
        return f"no checkpoint was written yet ({why}), so the run cannot go on; its records so far are in {out}"
    step = read_json(folder / SEAL)["progress"]["step"]
    return f"the checkpoint after step {step} is in {folder}; the same command with --resume goes on from there"
