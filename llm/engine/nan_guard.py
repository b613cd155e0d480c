"""A loss or gradient that is not finite ends the run, with what it takes to look into it."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from derivations.cli.errors import InputError
from derivations.cli.files import write_json
from llm.engine.checkpoints import last_checkpoint
from llm.engine.engine import Engine


def stop_if_diverged(
    norm: float,
    loss: float,
    step: int,
    batch: Sequence[Any] | Callable[[], Sequence[Any]],
    out: Path,
    lr: float,
    *,
    engine: Engine | None = None,
) -> None:
    """Refuse to go on (InputError) from a loss or gradient that is not finite.

    The batch is written for replay and, with `engine`, the state in which it diverges (`llm replay`). batch: rows
    with the key `where`, or places alone, or samples; or a function that gives them, called only then.
    """
    if math.isfinite(norm) and math.isfinite(loss):
        return
    batch = batch() if callable(batch) else batch
    write_json(out / "diverged.json", {"step": step, "loss": repr(loss), "grad_norm": repr(norm), "batch": batch})
    if engine is not None:
        engine.save(out / "checkpoints" / "diverged", {"step": step - 1})
    places = [row["where"] if isinstance(row, dict) else row for row in batch if isinstance(row, dict | str)]
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    named = f"{', '.join(places[:3])}{more}" if places else f"{len(batch)} samples"
    good = last_checkpoint(out / "checkpoints" / "resume")
    kept = f"Batch: {named}, kept in {out / 'diverged.json'}. Last good checkpoint: {good or 'none was written'}"
    if step == 0:  # of the evaluation before the first step, no learning rate is to blame
        raise InputError(f"the loss of the untrained model is {loss:g}; check --beta, --alpha and the model. {kept}")
    raise InputError(
        f"training diverged at step {step}: loss {loss:g}, gradient norm {norm:g}; lower --lr (now {lr:g}). {kept}"
    )
