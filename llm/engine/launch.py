"""What the launcher (torchrun, accelerate) started: checked against what was asked, and told in one line."""

import os
from typing import Any

from accelerate import Accelerator, DistributedType

from derivations.cli.errors import InputError


def require_what_was_asked(accelerator: Accelerator) -> None:
    """Refuse (InputError) what accelerate would replace in silence, and what this trainer cannot do.

    FSDP on a CPU would run as plain DDP, and processes that a launcher started on a machine without a GPU as
    that many separate runs, all writing to one folder. A model is split by `llm.engine.sharding` alone, which sees to
    it that every process makes the same number of passes.
    """
    kind = accelerator.distributed_type
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("1", "true")
    if asked and kind is not DistributedType.FSDP:
        raise InputError(
            f"FSDP was asked for, but accelerate runs {kind.value} on "
            f"{accelerator.device.type}; use a configuration without FSDP, and --shard"
        )
    if kind is not DistributedType.NO and not kind.value.startswith("MULTI_"):
        raise InputError(
            f"accelerate runs {kind.value}, but only --shard splits a model here: use a data-parallel configuration, "
            "and --shard, --lora-rank or --gradient-checkpointing where memory is short"
        )
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started > 1 and kind is DistributedType.NO:
        raise InputError(
            f"the launcher started {started} processes, but each would be a run of its own, because no GPU was "
            "found; set ACCELERATE_USE_CPU=true to run them together on CPUs"
        )


def describe(accelerator: Accelerator, *, sharded: bool = False) -> str:
    """What really runs, in one line."""
    n, kind = accelerator.num_processes, accelerator.distributed_type.value
    precision = "float32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision
    processes = "1 process" if n == 1 else f"{n} processes ({kind})"
    return f"{processes}, {accelerator.device.type}, {precision}{', sharded' if sharded else ''}"


def is_silent(config: Any) -> bool:
    """Whether a run says nothing of what it is at: asked to be quiet, told by machine, or not the first process."""
    return bool(config.quiet or config.format == "json" or os.environ.get("RANK", "0") != "0")
