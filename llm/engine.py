"""What every training run shares: devices, precision, processes, the optimizer step, checkpoints.

accelerate owns them. Weights are float32 masters; bf16 runs the layers under autocast. The model is
held by a `Scorer`, whose forward is `sequence_logps`: so distribution wraps what training calls.
"""

import ctypes
import gc
import math
import os
import random
import resource
import shutil
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedType
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import gather_object, load, set_seed
from safetensors import SafetensorError
from torch import Tensor

from derivations.commands import InputError, input_errors
from llm.checkpoints import first_line, seal, unseal
from llm.head import weight_gradient_in_place
from llm.logprobs import sequence_logps
from llm.packing import Example


def keep_memory() -> None:
    """Let glibc keep freed memory: giving pages back and faulting them in again costs more than the arithmetic.

    And let oneDNN, which compiles a kernel for every shape it meets, keep only the last: packed shapes hardly repeat.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "100")  # read at its first product in bf16
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        m_trim_threshold, m_mmap_threshold = -1, -3  # <malloc.h>
        libc.mallopt(m_mmap_threshold, 1 << 25)  # larger blocks between small ones would only break the heap up
        libc.mallopt(m_trim_threshold, (1 << 31) - 1)


def sparse_embedding(model: Any) -> None:
    """Let an embedding that is also the head give a gradient of the rows it read alone.

    It is added to the dense one, which the head has made by then; a second of the vocabulary's size is not.

    Args:
        model: a transformers model, changed in place; one whose head is a matrix of its own stays as it is.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if isinstance(embedding, torch.nn.Embedding) and embedding.weight is head.weight:
        embedding.sparse = True


class Scorer(torch.nn.Module):
    """A causal model as the function that training needs: examples in, summed log-probs out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model  # a transformers model, or the peft model around it

    @property
    def transformer(self) -> Any:
        """The transformers model itself, adapters in place."""
        return self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model

    def forward(self, examples: Sequence[Example]) -> Tensor:
        return sequence_logps(self.transformer, examples)


class Engine:
    """A model on its devices with its optimizer.

    `with engine.micro_steps():` surrounds the forward and backward passes of one optimizer step;
    `engine.backward(loss, last=...)` accumulates gradients of a loss that is already divided by the
    number of examples of the whole step, over all processes; `engine.gradient_norm()` clips;
    `engine.step()` updates and clears. optimizer: `adamw` (no weight decay) or `sgd` (no momentum).
    """

    def __init__(
        self,
        model: Any,
        *,
        lr: float,
        dtype: str,
        max_grad_norm: float,
        seed: int,
        schedule: str = "constant",
        steps: int = 1,
        optimizer: str = "adamw",
        tracker: str = "none",
        out: Path | None = None,
    ) -> None:
        keep_memory()
        set_seed(seed)
        AcceleratorState._reset_state(reset_partial_state=False)  # an earlier run here chose its own precision
        if tracker not in ("none", *map(str, get_available_trackers())):  # accelerate would warn and do without
            raise InputError(f"--tracker {tracker}: its package is not installed; pip install {tracker}")
        with input_errors():  # a device without bf16
            self.accelerator = Accelerator(
                mixed_precision="bf16" if dtype == "bf16" else "no",
                log_with=None if tracker == "none" else tracker,
                project_dir=out,
            )
        require_what_was_asked(self.accelerator)
        if self.device.type == "cuda":
            # with a mask cuDNN plans every shape anew (tens of ms) and can give NaN gradients (pytorch issue 196678)
            torch.backends.cuda.enable_cudnn_sdp(False)
        self.accelerator.gradient_accumulation_steps = 1  # not the environment's: losses come divided already
        self.max_grad_norm = max_grad_norm
        scorer = Scorer(model)
        trained = [p for p in model.parameters() if p.requires_grad]
        own: torch.optim.Optimizer = (
            torch.optim.SGD(trained, lr=lr)
            if optimizer == "sgd"
            else torch.optim.AdamW(trained, lr=lr, weight_decay=0.0, fused=self.device.type in ("cpu", "cuda"))
        )
        # accelerate moves a prepared schedule once per process; ours counts optimizer steps
        self.rate = torch.optim.lr_scheduler.LambdaLR(own, lambda step: rate_factor(step, steps, schedule))
        self.scorer, self.optimizer = self.accelerator.prepare(scorer, own)
        self.unwrapped: Scorer = self.accelerator.unwrap_model(self.scorer)
        if self.device.type == "cpu" and self.processes == 1:  # DDP reduces no such mixture
            sparse_embedding(self.transformer)

    @classmethod
    def of(cls, config: Any, model: Any) -> "Engine":
        """The engine that a run's settings ask for (a `TrainConfig` or an `OnlineConfig`)."""
        names = ("lr", "dtype", "max_grad_norm", "seed", "schedule", "optimizer", "tracker", "out")
        options = {name: getattr(config, name) for name in names if hasattr(config, name)}
        return cls(model, steps=config.max_steps, **options)

    @property
    def transformer(self) -> Any:
        """The transformers model itself."""
        return self.unwrapped.transformer

    @property
    def processes(self) -> int:
        return self.accelerator.num_processes

    @property
    def rank(self) -> int:
        return self.accelerator.process_index

    @property
    def is_main(self) -> bool:
        return self.accelerator.is_main_process

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision every forward pass runs in."""
        return self.accelerator.autocast()

    def logps(self, examples: Sequence[Example]) -> Tensor:
        """Summed log-probs without gradient: float32 [n], nats."""
        with torch.no_grad(), self.autocast():
            return self.unwrapped(examples)

    def micro_steps(self) -> AbstractContextManager[Any]:
        """Precision of the passes of one step; weights are narrowed to bf16 once for all of them."""
        return self.autocast()

    def loss_logps(self, examples: Sequence[Example], *, last: bool) -> Tensor:
        """As `logps`, with gradient. last: the last pass of the step, whose backward meets other processes'."""
        with self._meeting(last):
            return self.scorer(examples)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Accumulate the gradient of a part of the step's mean loss. Distributed gradients are averaged, hence *."""
        alone = weight_gradient_in_place(self.processes == 1)
        with self._meeting(last), torch.autocast(self.device.type, enabled=False), alone:
            self.accelerator.backward(loss * self.processes)

    def _meeting(self, last: bool) -> AbstractContextManager[Any]:
        return nullcontext() if last else self.accelerator.no_sync(self.scorer)

    def gradient_norm(self) -> float:
        """Norm of the accumulated gradient; the gradient is then scaled down to `max_grad_norm` if longer."""
        return float(self.accelerator.clip_grad_norm_(self.scorer.parameters(), self.max_grad_norm))

    def step(self) -> None:
        self.optimizer.step()
        self.rate.step()
        self.optimizer.zero_grad()

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.rate.get_last_lr()[0])

    def gather(self, rows: list[Any]) -> list[Any]:
        """The rows of all processes, dealt back into the order they were dealt out in (round robin)."""
        if self.processes == 1:
            return rows
        dealt = gather_object([rows])
        return [part[i] for i in range(max(map(len, dealt))) for part in dealt if i < len(part)]

    def start_tracking(self, config: Any) -> None:
        """Open the trackers, if any."""
        if self.accelerator.log_with:
            settings = {name: str(value) for name, value in vars(config).items()}
            self.accelerator.init_trackers("maxent-rlhf", config=settings)

    def track(self, row: dict[str, Any]) -> None:
        """Send one row of metrics to the trackers."""
        self.accelerator.log({k: v for k, v in row.items() if k != "step"}, step=row["step"])

    def close(self) -> None:
        """End trackers and processes. The wrapped model goes first: a DDP reducer that dies with the last hold on its
        process group waits for gloo's threads, they for Python, and neither ends (pytorch issue 56297)."""
        self.scorer = self.unwrapped
        self.accelerator.free_memory()
        gc.collect()  # autocast ties the wrapped model to itself
        self.accelerator.end_training()

    def save(self, folder: Path, progress: dict[str, Any]) -> None:
        """A checkpoint: model, optimizer, schedule, every random state, and `progress`; whole or not at all."""
        temporary = folder.with_name(f".{folder.name}.new")
        if self.is_main:
            shutil.rmtree(temporary, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        try:
            self.accelerator.save_state(str(temporary))
            self.accelerator.wait_for_everyone()
            if self.is_main:
                seal(temporary, progress | {"rate": self.rate.state_dict()})
        except (OSError, RuntimeError, SafetensorError, InputError) as error:  # a full disk comes as any of them
            shutil.rmtree(temporary, ignore_errors=True)
            raise InputError(
                f"cannot write the checkpoint {folder}: {first_line(error)}; the one before it is whole"
            ) from error
        if self.is_main:
            old = folder.with_name(f".{folder.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            if folder.exists():
                folder.rename(old)
            temporary.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        self.accelerator.wait_for_everyone()

    def load(self, folder: Path) -> dict[str, Any]:
        """Go back to a checkpoint; returns its `progress`. Raises InputError if it is not as it was written."""
        progress = unseal(folder)
        try:
            self.accelerator.load_state(str(folder))
            self._load_random_states(folder)
            self.rate.load_state_dict(progress.pop("rate"))
        except Exception as error:  # torch, accelerate and safetensors raise whatever their formats meet
            raise InputError(f"the checkpoint {folder} does not fit this run ({first_line(error)})") from error
        return progress

    def _load_random_states(self, folder: Path) -> None:
        """Once more what accelerate loads and, where it fails, passes over in silence."""
        own, first = (folder / f"random_states_{rank}.pkl" for rank in (self.rank, 0))
        states = load(own if own.exists() else first)  # tensors and plain values only; a run may get more processes
        random.setstate(states["random_state"])
        np.random.set_state(states["numpy_random_seed"])  # noqa: NPY002 (the global state is what was saved)
        torch.set_rng_state(states["torch_manual_seed"])
        if torch.cuda.is_available() and "torch_cuda_manual_seed" in states:
            torch.cuda.set_rng_state_all(states["torch_cuda_manual_seed"])


def require_what_was_asked(accelerator: Accelerator) -> None:
    """Refuse (InputError) what accelerate would replace in silence, and what this trainer cannot do.

    FSDP on a CPU would run as plain DDP, and processes that a launcher started on a machine without a GPU as
    that many separate runs, all writing to one folder. A model split over devices needs every process to make
    the same number of passes, which uneven parts do not.
    """
    kind = accelerator.distributed_type
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("1", "true")
    if asked and kind is not DistributedType.FSDP:
        raise InputError(
            f"FSDP was asked for, but accelerate runs {kind.value} on "
            f"{accelerator.device.type}; use a configuration without FSDP here"
        )
    if kind is not DistributedType.NO and not kind.value.startswith("MULTI_"):
        raise InputError(
            f"accelerate runs {kind.value}, but every process must hold the whole model here: use a data-parallel "
            "configuration, and --lora-rank or --gradient-checkpointing where memory is short"
        )
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started > 1 and kind is DistributedType.NO:
        raise InputError(
            f"the launcher started {started} processes, but each would be a run of its own, because no GPU was "
            "found; set ACCELERATE_USE_CPU=true to run them together on CPUs"
        )


def peak_memory_gib() -> float:
    """The most memory this process has held: of the GPU where there is one."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_reserved() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def describe(accelerator: Accelerator) -> str:
    """What really runs, in one line."""
    kind = accelerator.distributed_type.value
    return f"{accelerator.num_processes} process(es), {kind}, {accelerator.device.type}, {accelerator.mixed_precision}"


def rate_factor(step: int, steps: int, schedule: str) -> float:
    """Learning rate of step 0, 1, ..., steps - 1 as a share of its peak; no step has rate 0.

    `constant`: 1. `cosine`: a tenth of the steps up, the whole way down along a half cosine.
    """
    if schedule == "constant":
        return 1.0
    warmup = max(1, steps // 10)
    return min(1.0, (step + 1) / (warmup + 1)) * (1 + math.cos(math.pi * step / steps)) / 2
