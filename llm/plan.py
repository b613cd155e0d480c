"""`train --plan`: what a run would need, from shapes alone; nothing is loaded and nothing is allocated.

The model is built of fake tensors, and one pass of the largest comparison is traced to count what
autograd keeps; so parameters and activations are counts, not rules of thumb.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM

from derivations.commands import InputError
from llm import attention
from llm.checkpoints import first_line
from llm.config import TrainConfig
from llm.logprobs import CHUNK_TOKENS, require_room, sequence_logps
from llm.models import add_lora, bundled_folder, quiet_transformers, recompute_layers
from llm.packing import Example
from llm.recipe import architecture_of
from llm.records import print_table

GIB = 2**30


@dataclass(frozen=True)
class Plan:
    """Counts and bytes on one device that holds everything. tokens: of one comparison at its longest."""

    parameters: int
    trained: int
    weights: int
    narrowed: int
    reference: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    comparison_tokens: int
    step_tokens: int
    step_flops: float

    @property
    def states(self) -> int:
        """What sharding divides by the number of devices."""
        return self.weights + self.reference + self.gradients + self.optimizer

    @property
    def total(self) -> int:
        return self.states + self.narrowed + self.activations + self.logits


def make_plan(config: TrainConfig) -> Plan:
    """The plan of a run. Raises InputError if the model's architecture cannot be found."""
    quiet_transformers()
    architecture = _architecture(config.model)
    require_room(architecture, config.max_length)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(architecture, dtype=torch.float32)
        model.set_attn_implementation(attention.NAME)
        if config.lora_rank:
            model = add_lora(model, rank=config.lora_rank, alpha=config.lora_alpha).get_base_model()
    if config.gradient_checkpointing:
        recompute_layers(model)
    with FakeTensorMode():
        _fake(model)
        kept = _kept_by_autograd(model, _longest(config), config.dtype)
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    needs = config.make_objective().regularizer.needs_reference
    copies = needs and config.reference == "every-step" and not config.lora_rank
    tokens = sum(len(e.response) for e in _longest(config)) + len(_longest(config)[0].prompt)
    passes = 3 if trained == total else 2  # forward and backward; frozen weights need no gradient of their own
    passes += (1 if config.gradient_checkpointing else 0) + (1 if needs and config.reference == "every-step" else 0)
    return Plan(
        parameters=total,
        trained=trained,
        weights=4 * total,
        narrowed=2 * total if config.dtype == "bf16" else 0,
        reference=4 * total if copies else 0,
        gradients=4 * trained,
        optimizer=8 * trained,
        activations=kept,
        logits=2 * 4 * CHUNK_TOKENS * architecture.vocab_size,
        comparison_tokens=tokens,
        step_tokens=tokens * config.batch_size,
        step_flops=2.0 * passes * total * tokens * config.batch_size,
    )


def _architecture(model: str) -> Any:
    known = architecture_of(model)
    if known is not None:
        return AutoConfig.for_model(**known)
    try:
        place = bundled_folder() if model == "bundled" else model
        return AutoConfig.from_pretrained(place, trust_remote_code=False)
    except Exception as error:  # on damaged files it raises whatever it stumbles over
        reason = first_line(error)
        raise InputError(f"model {model!r} cannot be planned ({reason}); no recipe gives its architecture") from error


def _fake(model: Any) -> None:
    """Replace every weight and buffer (tied ones by one) by a fake tensor of the current mode, on the CPU."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for name, old in module._parameters.items():
            if old is not None:
                fake = torch.empty(old.shape, dtype=old.dtype)
                module._parameters[name] = made.setdefault(id(old), torch.nn.Parameter(fake, old.requires_grad))
        for name, old in module._buffers.items():
            if old is not None:
                module._buffers[name] = torch.empty(old.shape, dtype=old.dtype)


def _longest(config: TrainConfig) -> list[Example]:
    """A pair at the limit: a prompt of half the length and two responses of the other half."""
    half = config.max_length // 2
    return [Example((1,) * half, (token,) * (config.max_length - half), False) for token in (1, 2)]


def _kept_by_autograd(model: Any, examples: list[Example], dtype: str) -> int:
    """Bytes that the forward pass keeps for the backward pass, weights left out."""
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, int] = {}
    held = []  # storages may not be freed and their addresses given again while they are counted

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
            held.append(storage)
        return tensor

    narrow = torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16", cache_enabled=False)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), narrow:
        sequence_logps(model, examples)
    return sum(kept.values())


def print_plan(config: TrainConfig) -> Plan:
    """Print the plan for one device and for eight that share weights, gradients and optimizer."""
    plan = make_plan(config)
    names = ("weights", "narrowed", "reference", "gradients", "optimizer", "activations", "logits")
    rows = [(name, f"{getattr(plan, name) / GIB:.2f}") for name in names]
    rows += [("together", f"{plan.total / GIB:.2f}")]
    rows += [("together on each of 8, sharded", f"{(plan.total - plan.states * 7 / 8) / GIB:.2f}")]
    print(f"{config.model}: {plan.parameters:,} parameters, {plan.trained:,} trained, {config.dtype}")
    print_table("memory at most, one comparison in a pass", ("what", "GiB"), rows, quiet=False)
    print(
        f"tokens: at most {plan.comparison_tokens:,} a comparison, {plan.step_tokens:,} a step\n"
        f"arithmetic: {plan.step_flops / 1e12:,.1f} TFLOP a step at most, "
        f"{plan.step_flops * config.max_steps / 1e15:,.1f} PFLOP in {config.max_steps} steps "
        f"({plan.step_flops * config.max_steps / 1e14 / 3600:,.1f} h at an assumed 100 TFLOP/s)"
    )
    return plan
