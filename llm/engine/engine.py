"""What every training run shares: devices, precision, processes, the optimizer step, checkpoints.

accelerate owns them. Weights are float32 masters; bf16 runs the layers under autocast. The model is
held by a `Scorer`, whose forward is `sequence_logps`: so distribution wraps what training calls.
"""

import gc
import math
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import AutocastKwargs, broadcast_object_list, gather_object, set_seed
from safetensors import SafetensorError
from torch import Tensor

from derivations.cli.errors import InputError, input_errors
from llm.engine import sharding
from llm.engine.checkpoints import first_line, load_random_states, put_in_place, seal, unseal
from llm.engine.launch import require_what_was_asked
from llm.engine.memory import keep_memory, sparse_embedding
from llm.scoring.head import weight_gradient_in_place
from llm.scoring.logprobs import sequence_logps
from llm.scoring.packing import Example


class Scorer(torch.nn.Module):
    """A causal model as the function that training needs: examples in, summed log-probs out."""

    def __init__(self, model: Any, *, batch_tokens: int | None = None) -> None:
        super().__init__()
        self.batch_tokens = batch_tokens
        self.model = model  # a transformers model, or the peft model around it

    @property
    def transformer(self) -> Any:
        """The transformers model itself, adapters in place."""
        return self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model

    def forward(self, examples: Sequence[Example]) -> Tensor:
        return sequence_logps(self.transformer, examples, batch_tokens=self.batch_tokens)


class Engine:
    """A model on its devices with its optimizer.

    `with engine.micro_steps():` surrounds the forward and backward passes of one optimizer step;
    `engine.backward(loss, last=...)` accumulates gradients of a loss that is already divided by the
    number of examples of the whole step, over all processes; `engine.gradient_norm()` clips;
    `engine.step()` updates and clears. optimizer: `adamw` (no weight decay) or `sgd` (no momentum).
    shard: every process holds its part of the model (`llm.engine.sharding`); see `evenly` for what that asks.
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
        shard: bool = False,
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
        self.sharded = shard
        scorer = Scorer(model, batch_tokens=sharding.ONE_PASS if shard else None)
        if shard:
            narrow = torch.bfloat16 if dtype == "bf16" else None
            sharding.spread(scorer, scorer.transformer, self.device, narrow=narrow)
        trained = [p for p in model.parameters() if p.requires_grad]
        own: torch.optim.Optimizer = (
            torch.optim.SGD(trained, lr=lr)
            if optimizer == "sgd"
            else torch.optim.AdamW(trained, lr=lr, weight_decay=0.0, fused=self.device.type in ("cpu", "cuda"))
        )
        # accelerate moves a prepared schedule once per process; ours counts optimizer steps
        self.rate = torch.optim.lr_scheduler.LambdaLR(own, lambda step: rate_factor(step, steps, schedule))
        prepared: Any = (scorer, own) if shard else self.accelerator.prepare(scorer, own)
        self.scorer, self.optimizer = prepared
        self.unwrapped: Scorer = self.accelerator.unwrap_model(self.scorer)
        if self.device.type == "cpu" and self.processes == 1:  # DDP reduces no such mixture
            sparse_embedding(self.transformer)

    @classmethod
    def of(cls, config: Any, model: Any) -> "Engine":
        """The engine that a run's settings ask for (a `TrainConfig` or an `OnlineConfig`)."""
        names = ("lr", "dtype", "max_grad_norm", "seed", "schedule", "optimizer", "tracker", "out", "shard")
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
        """The precision every forward pass runs in. Sharded weights come and go, so no narrowed copy may be kept:
        it would be the copy of another pass, and take the gradient with it."""
        return self.accelerator.autocast(AutocastKwargs(cache_enabled=not self.sharded))

    def sampling(self) -> AbstractContextManager[Any]:
        """Surrounds `generate` with the transformers model itself. Sharded: every process must draw the same."""
        with ExitStack() as stack:
            stack.enter_context(self.autocast())
            if self.sharded:
                stack.enter_context(sharding.together(self.unwrapped))
            return stack.pop_all()

    def logps(self, examples: Sequence[Example]) -> Tensor:
        """Summed log-probs without gradient: float32 [n], nats."""
        with torch.no_grad(), self.autocast():
            values: Tensor = self.unwrapped(examples)
        if self.sharded:
            sharding.give_back(self.unwrapped)
        return values

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
        # nobody could hold the whole of a sharded gradient: it is summed into its parts at every pass
        return nullcontext() if last or self.sharded else self.accelerator.no_sync(self.scorer)

    def evenly(self, parts: list[Any]) -> list[Any]:
        """The parts, filled up with None so that all processes of a sharded model make as many passes as each other."""
        return sharding.evenly(parts, self.device) if self.sharded else parts

    def idle_pass(self) -> None:
        """What a process runs where `evenly` gave it None."""
        self.logps(sharding.PLACEHOLDER)

    def gradient_norm(self) -> float:
        """Norm of the accumulated gradient; the gradient is then scaled down to `max_grad_norm` if longer."""
        norm: Any = self.accelerator.clip_grad_norm_(self.scorer.parameters(), self.max_grad_norm)
        return float(norm.full_tensor() if self.sharded else norm)

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

    def agree(self, value: Any) -> Any:
        """What the first process says, in all of them."""
        return broadcast_object_list([value])[0] if self.processes > 1 else value

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
            if self.sharded:
                sharding.save_shards(self.unwrapped, self.rate.optimizer, temporary, rank=self.rank)
            else:
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
            put_in_place(temporary, folder)
        self.accelerator.wait_for_everyone()

    def load(self, folder: Path) -> dict[str, Any]:
        """Go back to a checkpoint; returns its `progress`. Raises InputError if it is not as it was written."""
        progress = unseal(folder)
        try:
            if self.sharded or sharding.holds_shards(folder):  # which one process can read, too
                sharding.load_shards(self.unwrapped, self.rate.optimizer, folder)
            else:
                self.accelerator.load_state(str(folder))
            load_random_states(folder, self.rank)
            self.rate.load_state_dict(progress.pop("rate"))
            for group in self.rate.optimizer.param_groups:  # a schedule sets it after a step only
                group["lr"] = self.lr
        except Exception as error:  # torch, accelerate and safetensors raise whatever their formats meet
            raise InputError(f"the checkpoint {folder} does not fit this run ({first_line(error)})") from error
        return progress

    def whole_weights(self) -> dict[str, Tensor] | None:
        """Of a sharded model: all weights, on the CPU of the first process. Every process must call it."""
        return sharding.whole_weights(self.unwrapped, self.transformer) if self.sharded else None


def rate_factor(step: int, steps: int, schedule: str) -> float:
    """Learning rate of step 0, 1, ..., steps - 1 as a share of its peak; no step has rate 0.

    `constant`: 1. `cosine`: a tenth of the steps up, the whole way down along a half cosine.
    """
    if schedule == "constant":
        return 1.0
    warmup = max(1, steps // 10)
    return min(1.0, (step + 1) / (warmup + 1)) * (1 + math.cos(math.pi * step / steps)) / 2
