"""Weights, gradients and moments spread over the processes (FSDP2), for models that one device cannot train.

Every decoder layer is a unit: it is gathered for its own pass and given back. Embedding, last norm and head belong
to the scorer's own unit and are whole for the length of its call. A layer is gathered only when every process has
come to it, so every process must make the same number of passes.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from accelerate.checkpointing import save_accelerator_state
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from derivations.cli.errors import InputError
from llm.engine.checkpoints import first_line
from llm.scoring.models import empty_model, load_model, load_tokenizer
from llm.scoring.packing import Example

PLACEHOLDER = (Example((0,), (0,), False),)  # what a process runs where it has no part and the others have one
ONE_PASS = 2**40  # places in one forward pass: however long the examples of a call are, the layers run once


def load_in_first(name: str, *, implementation: str) -> tuple[Any, Any]:
    """Model and tokenizer as `load_model` gives them in the first process; in the others a model without weights.

    So the machine holds the whole model once, however many processes run on it. Raises InputError as `load_model`
    does, and if there is one process.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        raise InputError(
            "--shard spreads a model over processes, and there is one; start several with torchrun or accelerate "
            "launch, or take --no-shard"
        )
    if not hasattr(dcp, "HuggingFaceStorageWriter"):
        raise InputError(f"--shard needs torch 2.8 or later for its checkpoints, this is {torch.__version__}")
    if os.environ.get("RANK", "0") == "0":
        return load_model(name, implementation=implementation)
    return empty_model(name, implementation=implementation), load_tokenizer(name)


def spread(scorer: torch.nn.Module, transformer: Any, device: torch.device, *, narrow: torch.dtype | None) -> None:
    """Divide the scorer's weights, which are those of the first process, over all processes.

    Args:
        scorer: The module that training calls; the weights of other processes are never read and may be missing.
        transformer: The transformers model in it.
        device: Where this process computes.
        narrow: Precision that layers are gathered in; their parts, and every sum of gradients, stay float32.

    Raises:
        InputError: If the model does not say what its layers are.
    """
    first = dist.get_rank() == 0
    weights = dict(scorer.state_dict()) if first else {}
    buffers = dict(scorer.named_buffers()) if first else {}
    _forget_weights(scorer)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    policy = MixedPrecisionPolicy(param_dtype=narrow, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for layer in decoder_layers(transformer):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(scorer, mesh=mesh)
    scorer.to_empty(device=device)
    set_model_state_dict(scorer, weights, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True))
    for name, buffer in scorer.named_buffers():  # those that no state dict holds, too
        if first:
            buffer.copy_(buffers[name])
        dist.broadcast(buffer, 0)


def decoder_layers(transformer: Any) -> list[torch.nn.Module]:
    """The layers of a transformers model, found by their class. Raises InputError if it does not name that."""
    kinds = transformer._no_split_modules or ()
    layers = [module for module in transformer.modules() if type(module).__name__ in kinds]
    if not layers:
        raise InputError(f"--shard: models of type {transformer.config.model_type!r} do not name their layers")
    return layers


def _forget_weights(module: torch.nn.Module) -> None:
    """Replace every parameter (tied ones by one) by one of its shape that holds nothing."""
    made: dict[int, torch.nn.Parameter] = {}
    for part in module.modules():
        for name, old in list(part.named_parameters(recurse=False)):
            empty = torch.nn.Parameter(old.detach().to("meta"), old.requires_grad)
            setattr(part, name, made.setdefault(id(old), empty))


def evenly(parts: list[Any], device: torch.device) -> list[Any]:
    """The parts, and behind them as many times None as makes all processes have the same number."""
    most = torch.tensor(len(parts), device=device)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    return [*parts, *[None] * (int(most) - len(parts))]


def give_back(scorer: Any) -> None:
    """After a pass without gradient: free what the scorer's own unit gathered, as a backward pass does."""
    scorer.reshard()


@contextmanager
def together(scorer: Any) -> Iterator[None]:
    """Here every process may call the transformer itself, not through the scorer, if all of them do so equally often
    (as `generate` does: transformers sees that the model is sharded, and goes on until the last has ended)."""
    scorer.unshard()
    try:
        yield
    finally:
        scorer.reshard()


def whole_weights(scorer: torch.nn.Module, transformer: Any) -> dict[str, Tensor]:
    """All weights under the transformers model's names, on the CPU of the first process; nothing on the others."""
    found = get_model_state_dict(scorer, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    every, once = (dict(transformer.named_parameters(remove_duplicate=r)).keys() for r in (False, True))
    named = {name.removeprefix("model."): value for name, value in _only_tensors(found).items()}
    return {name: value for name, value in named.items() if name not in every - once}


def save_shards(scorer: torch.nn.Module, optimizer: torch.optim.Optimizer, folder: Path, *, rank: int) -> None:
    """Write this process's part of weights and moments (safetensors), and its random states. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    from torch.distributed.checkpoint import HuggingFaceStorageWriter  # not in every torch that runs without --shard

    with _checkpoint_errors():
        writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
        dcp.save(_tensors(scorer, optimizer), storage_writer=writer, no_dist=not dist.is_initialized())
    save_accelerator_state(str(folder), [], [], [], [], rank, 0)


def holds_shards(folder: Path) -> bool:
    """Whether a checkpoint was written by `save_shards`."""
    return any(folder.glob("shard-*.safetensors"))


def load_shards(scorer: torch.nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Read weights and moments back, into however many processes there are now. Raises OSError."""
    from torch.distributed.checkpoint import HuggingFaceStorageReader

    with _checkpoint_errors():
        reader = HuggingFaceStorageReader(str(folder))
        dcp.load(_tensors(scorer, optimizer), storage_reader=reader, no_dist=not dist.is_initialized())


def _tensors(scorer: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Every weight and moment, itself and not a copy. Rates and the like are not in it: settings decide them."""
    moments = get_optimizer_state_dict(scorer, optimizer, options=StateDictOptions(flatten_optimizer_state_dict=True))
    once = dict(scorer.named_parameters()).keys()
    weights = {name: value for name, value in get_model_state_dict(scorer).items() if name in once}
    return _only_tensors(weights) | _only_tensors(moments)


def _only_tensors(state: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


@contextmanager
def _checkpoint_errors() -> Iterator[None]:
    """What torch.distributed.checkpoint raises is no Exception; here it is one, with what the first process said.
    And one process (in `replay`) is not warned that it is alone."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
            yield
    except CheckpointException as error:
        reason, _ = next(iter(error.failures.values()))
        raise OSError(first_line(Exception(str(reason)))) from error
