"""The gradient of one optimizer step, as training computes it: by import in one process, by a launcher in several.

accelerate launch ... -m tests.llm_gradient MODEL DATA MICRO_BATCH_SIZE OUT
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from llm.config import TrainConfig
from llm.engine import Engine
from llm.models import load_model
from llm.offline import accumulate
from llm.reference import EveryStep
from llm.tokens import Group
from tests.llm_runs import encoded


def make_engine(folder, *, double: bool = False) -> tuple[Engine, object]:
    """Engine and tokenizer of the model in a folder; in float64 it shows what of a difference is rounding."""
    model, tokenizer = load_model(str(folder))
    if double:
        model.double()
    return Engine(model, lr=1e-2, dtype="float32", max_grad_norm=1e9, seed=0), tokenizer


def step_gradient(engine: Engine, groups: list[Group], **options) -> Tensor:
    """Gradient of the mean dpo loss over the groups of all processes, flat. The weights are moved off the reference."""
    reference = EveryStep(engine)
    with torch.no_grad():
        for parameter in engine.unwrapped.parameters():
            wave = torch.sin(torch.arange(parameter.numel(), device=parameter.device))
            parameter += 0.01 * wave.reshape(parameter.shape)
    config = TrainConfig(objective="dpo", beta=0.2, batch_size=len(groups), **options)
    accumulate(engine, config.make_objective(), groups, reference, config)
    return torch.cat([p.grad.flatten() for p in engine.unwrapped.parameters()])


def main() -> None:
    folder, data, size, out = sys.argv[1:]
    engine, tokenizer = make_engine(folder)
    gradient = step_gradient(engine, encoded(Path(data), tokenizer), micro_batch_size=int(size))
    torch.save((engine.processes, gradient), f"{out}.{engine.rank}")
    engine.close()


if __name__ == "__main__":
    main()
