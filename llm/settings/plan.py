"""`train --plan`: what a run would need, from shapes alone; nothing is loaded and nothing is allocated.

The model is built of fake tensors, and the largest pass that the settings allow is traced to count what
autograd keeps; so parameters and activations are counts, not rules of thumb. Comparisons are taken for
pairs; a ranking of m responses has up to m times the longest response.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM

from derivations.cli.errors import InputError
from llm.engine.checkpoints import first_line
from llm.engine.jsonl import print_table
from llm.engine.sharding import decoder_layers
from llm.scoring import attention
from llm.scoring.adapters import lineage
from llm.scoring.logprobs import longest_sequence, require_room, sequence_logps
from llm.scoring.models import add_lora, place_of, quiet_transformers, recompute_layers
from llm.scoring.packing import Example
from llm.scoring.passes import PassSizes, pass_sizes
from llm.settings.recipe import architecture_of
from llm.settings.train import TrainConfig

GIB = 2**30
PLANNED_LENGTH = 1024  # tokens of a sequence, where the data will choose


@dataclass(frozen=True)
class Plan:
    """Counts, and bytes on every device: each process holds the whole model, or its share of it (`--shard`).

    narrowed: bf16 copies of trained weights that autocast holds over a step; where layers are not recomputed
    they are among the activations, and copies of frozen weights come and go with their layer. logits: a chunk
    of them twice, and the gradient of the head before it is added to the others. gathered: what a sharded pass
    holds of other processes' shares at once, see `_gathered`. update: what AdamW takes on a GPU beside its
    moments, after the passes. tokens: of one pair at its longest, of one forward pass, of a step
    over all processes.
    """

    parameters: int
    trained: int
    weights: int
    narrowed: int
    reference: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    gathered: int
    update: int
    comparison_tokens: int
    pass_tokens: int
    step_tokens: int
    step_flops: float

    @property
    def total(self) -> int:
        """Passes and update follow one another, so only the larger counts."""
        states = self.weights + self.reference + self.gradients + self.optimizer
        return states + max(self.narrowed + self.activations + self.logits + self.gathered, self.update)


def this_kind() -> str:
    """The kind of device a run here takes."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def make_plan(config: TrainConfig) -> Plan:
    """The plan of a run on this machine. Raises InputError if the model's architecture cannot be found."""
    usual = pass_sizes(this_kind())
    quiet_transformers()
    architecture = _architecture(config.model)
    config = replace(config, max_length=planned_length(config, architecture))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(architecture, dtype=torch.float32)
        model.set_attn_implementation(attention.NAME)
        if config.lora_rank:
            model = add_lora(model, rank=config.lora_rank, alpha=config.lora_alpha).get_base_model()
    if config.gradient_checkpointing:
        recompute_layers(model)
    layers = decoder_layers(model) if config.shard else []
    if config.dtype == "bf16":
        for layer in layers:  # gathered in bf16, so autocast makes and keeps no copies of their weights
            layer.to(torch.bfloat16)
    largest = largest_pass(config, usual)
    with FakeTensorMode():
        _fake(model)
        kept = _kept_by_autograd(model, [e for pair in largest for e in pair], config.dtype)
    total = sum(p.numel() for p in model.parameters())
    shares = config.plan_processes if config.shard else 1
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    needs = config.make_objective().regularizer.needs_reference
    copies = needs and config.reference == "every-step" and not config.lora_rank
    head = model.get_output_embeddings().weight
    tokens = pair_tokens(config)
    passes = 3 if trained == total else 2  # forward and backward; frozen weights need no gradient of their own
    passes += (1 if config.gradient_checkpointing else 0) + (1 if needs and config.reference == "every-step" else 0)
    return Plan(
        parameters=total,
        trained=trained,
        weights=4 * total // shares,
        narrowed=2 * trained if config.dtype == "bf16" and config.gradient_checkpointing and not layers else 0,
        reference=4 * total if copies else 0,
        gradients=4 * trained // shares,
        optimizer=8 * trained // shares,
        activations=kept,
        logits=4 * (2 * usual.chunk_tokens * len(head) + (head.numel() if head.requires_grad else 0)),
        gathered=_gathered(model, layers, config.dtype) if layers else 0,
        update=4 * trained // shares,
        comparison_tokens=tokens,
        pass_tokens=sum(len(pair[0]) + len(pair[1].response) for pair in largest),
        step_tokens=tokens * config.batch_size,
        step_flops=2.0 * passes * total * tokens * config.batch_size,
    )


def _gathered(model: Any, layers: list[Any], dtype: str) -> int:
    """Bytes that FSDP2 holds whole: of what is no layer, weights and gradient (float32); of the layers, two of them
    (one runs, the next is fetched), the buffer it comes in, and a gradient before and while it is summed."""
    width = 2 if dtype == "bf16" else 4
    sizes = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    rest = sum(p.numel() for p in model.parameters()) - sum(sizes)
    return 8 * rest + (4 * width + 4) * max(sizes)


def _architecture(model: str) -> Any:
    known = architecture_of(model)
    if known is not None:
        return AutoConfig.for_model(**known)
    try:
        return AutoConfig.from_pretrained(place_of(lineage(model)[-1]), trust_remote_code=False)
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


def planned_length(config: TrainConfig, architecture: Any) -> int:
    """Most tokens of a sequence: as given, else what is planned for, since a plan reads no data."""
    if config.max_length is None:
        return min(PLANNED_LENGTH, longest_sequence(architecture) or PLANNED_LENGTH)
    require_room(architecture, config.max_length)
    return config.max_length


def pair_tokens(config: TrainConfig) -> int:
    """Most tokens of a pair, its prompt counted once: a prompt of one token, and two responses to the limit."""
    return 2 * (config.max_length or PLANNED_LENGTH) - 1


def largest_pass(config: TrainConfig, usual: PassSizes) -> list[tuple[Example, Example]]:
    """Pairs of one forward pass that holds as many tokens as the settings allow."""
    most = pair_tokens(config)
    share = -(-config.batch_size // config.plan_processes)
    pairs = min(config.micro_batch_size or share, share)
    left = max(most, min(config.micro_batch_tokens or usual.offline_tokens, pairs * most))
    found: list[tuple[Example, Example]] = []
    while left >= 3 and len(found) < pairs:
        response = ((min(left, most) - 1) // 2) * (1,)
        found.append((Example((len(found),), response, False), Example((len(found),), response, True)))
        left -= 1 + 2 * len(response)
    return found


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

    narrow = torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), narrow:
        sequence_logps(model, examples)
    return sum(kept.values())


def print_plan(config: TrainConfig) -> Plan:
    """Print the plan."""
    plan = make_plan(config)
    names = ["weights", "narrowed", "reference", "gradients", "optimizer", "activations", "logits"]
    names += ["gathered", "update"] if config.shard else ["update"]
    rows = [(name, f"{getattr(plan, name) / GIB:.2f}") for name in names]
    rows += [("together (update after the passes)", f"{plan.total / GIB:.2f}")]
    spread = f", sharded over {config.plan_processes} processes" if config.shard else ""
    print(f"{config.model}: {plan.parameters:,} parameters, {plan.trained:,} trained, {config.dtype}{spread}")
    print_table("memory on every device, without a backward pass's temporaries", ("what", "GiB"), rows, quiet=False)
    if config.max_length is None:
        print(f"--max-length will be chosen from the data; planned for {(plan.comparison_tokens + 1) // 2}")
    print(
        f"passes as on a {this_kind()} device, which this machine has; --micro-batch-tokens overrides\n"
        f"tokens: at most {plan.comparison_tokens:,} a pair, {plan.pass_tokens:,} a pass, {plan.step_tokens:,} a step\n"
        f"arithmetic: {plan.step_flops / 1e12:,.1f} TFLOP a step at most, "
        f"{plan.step_flops * config.max_steps / 1e15:,.1f} PFLOP in {config.max_steps} steps "
        f"({plan.step_flops * config.max_steps / 1e14 / 3600 / config.plan_processes:,.1f} h at an assumed 100 TFLOP/s "
        f"in each of {config.plan_processes} process(es))"
    )
    return plan
