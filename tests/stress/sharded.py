"""FSDP2 (`fully_shard`) around the training function, on gloo: the loss and the gradients of one whole process.

Started by `torchrun --nproc_per_node 2 -m tests.stress.sharded`; prints one JSON line. accelerate's own FSDP on a CPU
would run as plain DDP, which `llm.engine.launch` refuses; so the wrapping is torch's, and what is tried is that
`Scorer` bears it.
"""

import json

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from llm.engine.engine import Scorer
from llm.scoring.packing import Example
from tests.stress.tiny import tiny_model

EXAMPLES = [
    Example((1, 2, 3), (4, 5), False),
    Example((1, 2, 3), (6, 7, 8, 9), False),
    Example((10,), (11, 12, 13), False),
    Example((14, 15), (16,), False),
    Example((17, 18, 19, 20), (21, 22), False),
]


def loss(scorer: Scorer, examples: list[Example], count: int) -> torch.Tensor:
    """A loss that is no mean of log-probs: squares, divided by the examples of all processes."""
    return (scorer(examples) ** 2).sum() / count


def whole() -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients in this process alone."""
    scorer = Scorer(tiny_model(tied=False))
    value = loss(scorer, EXAMPLES, len(EXAMPLES))
    value.backward()
    return value.item(), {name: p.grad for name, p in scorer.named_parameters() if p.grad is not None}


def sharded(rank: int, processes: int) -> tuple[float, dict[str, torch.Tensor], int]:
    """Loss over all processes, whole gradients, and how many parameters are really held in parts."""
    scorer = Scorer(tiny_model(tied=False))
    for layer in scorer.transformer.model.layers:
        fully_shard(layer)
    fully_shard(scorer)
    split = sum(isinstance(p, DTensor) and p.to_local().numel() < p.numel() for p in scorer.parameters())
    value = loss(scorer, EXAMPLES[rank::processes], len(EXAMPLES))
    (value * processes).backward()  # gradients are averaged over processes
    total = value.detach().clone()
    dist.all_reduce(total)
    gradients = {name: p.grad.full_tensor() for name, p in scorer.named_parameters() if p.grad is not None}
    return total.item(), gradients, split


def main() -> None:
    dist.init_process_group("gloo")
    rank, processes = dist.get_rank(), dist.get_world_size()
    expected, gradients = whole()
    value, found, split = sharded(rank, processes)
    gaps = [float((found[name] - g).norm() / g.norm()) for name, g in gradients.items()]
    if rank == 0:
        record = {"processes": processes, "loss": value, "expected": expected, "gap": max(gaps)}
        print(json.dumps(record | {"parameters": len(gradients), "found": len(found), "split": split}), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
