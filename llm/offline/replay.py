"""`replay`: the batch in which a run diverged, comparison by comparison, from the weights it diverged with."""

import math
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from derivations.cli.errors import InputError
from derivations.cli.files import read_json
from llm.data.tokens import Group
from llm.engine.engine import Engine
from llm.engine.run_folder import read_config
from llm.offline.metrics import Row, losses_and_rows
from llm.scoring.models import add_lora, load_model
from llm.scoring.packing import Example
from llm.settings.train import TrainConfig


def as_records(
    groups: Sequence[Group], reference: Callable[[Sequence[Group]], Tensor] | None, rows: Sequence[Row]
) -> list[dict[str, Any]]:
    """Comparisons as they are kept for replay: place, token ids, and log-probs under the reference if there is one; of
    single responses also whether they are good, and the reference point that their measurements (rows) have."""
    return [
        {"where": g.where, "examples": g.examples, "reference": reference([g]).tolist() if reference else None}
        | ({"good": g.good, "kl": repr(row["kl"])} if g.good is not None else {})
        for g, row in zip(groups, rows, strict=True)
    ]


def replay(out: Path) -> list[dict[str, Any]]:
    """Loss and gradient norm of every comparison of the batch alone; printed and returned.

    Raises InputError if the run in `out` did not diverge, or what it left was changed.
    """
    kept = read_json(out / "diverged.json")
    config = _config(read_config(out), out)
    objective, groups = config.make_objective(), _groups(kept, out)
    model, _ = load_model(config.model)
    if config.lora_rank:
        model = add_lora(model, rank=config.lora_rank, alpha=config.lora_alpha)
    engine = Engine(model, lr=config.lr, dtype=config.dtype, max_grad_norm=math.inf, seed=config.seed)
    step = engine.load(out / "checkpoints" / "diverged")["step"] + 1
    rows = []
    for group, reference, kl in groups:
        reference = None if reference is None else reference.to(engine.device)
        with engine.micro_steps():
            logp = engine.loss_logps(group.examples, last=True)
            losses, measured = losses_and_rows(objective, [group], logp, reference, kl)
            engine.backward(losses.sum(), last=True)
        norm = engine.gradient_norm()
        engine.optimizer.zero_grad()
        finite = math.isfinite(norm) and math.isfinite(measured[0]["loss"])
        rows.append({**measured[0], "grad_norm": norm, "finite": finite})
    print(f"the batch of step {step}, each comparison alone:")
    for row in rows:
        word = "finite    " if row["finite"] else "NOT FINITE"
        print(f"  {word}  loss {row['loss']:<12g} gradient norm {row['grad_norm']:<12g} {row['where']}")
    return rows


def _config(saved: dict[str, Any], out: Path) -> TrainConfig:
    if "objective" not in saved:
        raise InputError(f"{out} is not a run of `train`; only those are replayed")
    known = {field.name for field in fields(TrainConfig)}
    return TrainConfig(**{name: value for name, value in saved.items() if name in known} | {"out": out})


def _groups(kept: Any, out: Path) -> list[tuple[Group, Tensor | None, float | None]]:
    """The comparisons that were kept, with their log-probs under the reference, and the point of single responses."""
    try:
        found = []
        for row in kept["batch"]:
            examples = tuple(Example(tuple(e["prompt"]), tuple(e["response"]), e["complete"]) for e in row["examples"])
            group = Group(examples, row["where"], row.get("good"))
            reference = torch.tensor([float(v) for v in row["reference"]]) if row["reference"] else None
            found.append((group, reference, None if group.good is None else float(row["kl"])))
        return found
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{out / 'diverged.json'} keeps no batch of a training step ({error})") from None
