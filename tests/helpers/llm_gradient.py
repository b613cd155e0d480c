"""The gradient of one optimizer step, as training computes it: by import in one process, by a launcher in several.

accelerate launch ... -m tests.helpers.llm_gradient MODEL DATA MICRO_BATCH_SIZE OUT [CASE ...]

Writes OUT.RANK: the number of processes and the gradient. A case (see `CASES`) is a gradient of the sharded model,
and with cases the gradients are a dictionary.
"""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from llm.data.tokens import Group
from llm.engine import sharding
from llm.engine.engine import Engine
from llm.engine.reference import EveryStep, Precomputed
from llm.offline.train import accumulate
from llm.scoring.models import load_model, recompute_layers
from llm.settings.train import TrainConfig
from tests.helpers.llm_runs import encoded

CASES = {
    "float32": {},
    "recomputed": {"recompute": True},
    "bf16": {"dtype": "bf16"},
    "bf16, gathered in float32": {"dtype": "bf16", "wide": True},
    "bf16, gathered in float32, with autocast's cache": {"dtype": "bf16", "wide": True, "cache": True},
}


def make_engine(
    folder, *, double: bool = False, shard: bool = False, dtype: str = "float32", recompute: bool = False,
    wide: bool = False, cache: bool = False,
) -> tuple[Engine, object]:  # fmt: skip
    """Engine and tokenizer of the model in a folder; in float64 it shows what of a difference is rounding.

    wide: weights are gathered in float32, so autocast has something to narrow. cache: it keeps what it narrowed.
    """
    model, tokenizer = (sharding.load_in_first if shard else load_model)(str(folder), implementation="packed")
    if double:
        model.double()
    if recompute:
        recompute_layers(model)
    with pytest.MonkeyPatch.context() as patch:
        if wide:
            spread = sharding.spread
            patch.setattr(sharding, "spread", lambda *arguments, narrow: spread(*arguments, narrow=None))
        engine = Engine(model, lr=1e-2, dtype=dtype, max_grad_norm=1e9, seed=0, shard=shard)
    if cache:
        engine.autocast = engine.accelerator.autocast
    return engine, tokenizer


def step_gradient(engine: Engine, groups: list[Group], **options) -> Tensor:
    """Gradient of the mean dpo loss over the groups of all processes, flat. The weights are moved off the reference."""
    reference = (Precomputed if engine.sharded else EveryStep)(engine, *([groups] if engine.sharded else []))
    with torch.no_grad():
        for parameter in engine.unwrapped.parameters():
            wave = torch.sin(torch.arange(parameter.numel(), device=parameter.device)).reshape(parameter.shape)
            if isinstance(parameter, DTensor):
                wave = distribute_tensor(wave, parameter.device_mesh, parameter.placements)
            parameter += 0.01 * wave
    config = TrainConfig(objective="dpo", beta=0.2, batch_size=len(groups), **options)
    accumulate(engine, config.make_objective(), groups, reference, config)
    gradients = [p.grad for p in engine.unwrapped.parameters()]
    return torch.cat([(g.full_tensor() if isinstance(g, DTensor) else g).flatten() for g in gradients])


def main() -> None:
    folder, data, size, out, *cases = sys.argv[1:]
    found = {}
    for case in cases or ["whole"]:
        engine, tokenizer = make_engine(folder, shard=bool(cases), **CASES.get(case, {}))
        found[case] = step_gradient(engine, encoded(Path(data), tokenizer), micro_batch_size=int(size))
    torch.save((engine.processes, found if cases else found["whole"]), f"{out}.{engine.rank}")
    engine.close()


if __name__ == "__main__":
    main()
