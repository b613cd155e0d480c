"""KTO on single responses: the reference point of a batch, losses and measurements.

The reference point estimates KL(pi || pi_ref), as arXiv:2402.01306 does, by pairs that do not belong together: every
prompt of the batch with another one's response. It is a constant of the step; no gradient goes through it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from derivations.cli.errors import InputError
from derivations.published import Unpaired
from llm.data.tokens import Group
from llm.engine.engine import Engine
from llm.scoring.packing import Example, lengths
from llm.scoring.passes import scored


def mismatched(groups: Sequence[Group], *, max_length: int) -> list[Group]:
    """Each prompt with the response of the next group in the round that has another prompt (of the next, if none has).

    max_length: most tokens together; a longer response is cut. Raises InputError if there is only one group.
    """
    groups = list(groups)
    if len(groups) < 2:
        raise InputError(
            f"{groups[0].where} is the only response held out, and the reference point takes two or more; give a "
            "larger --eval-size or --eval-data"
        )
    own = [group.examples[0] for group in groups]
    n = len(own)
    other = [(i + 1) % n for i in range(n)]
    if any(e.prompt != own[0].prompt for e in own):
        for i in reversed(range(2 * n)):  # twice round, for the last ones look at the first
            here, after = i % n, (i + 1) % n
            if own[after].prompt == own[here].prompt:
                other[here] = other[after]
    return [
        Group((_with_response(e, own[j], max_length),), f"{groups[i].where} with the response of {groups[j].where}")
        for i, (e, j) in enumerate(zip(own, other, strict=True))
    ]


def _with_response(example: Example, other: Example, max_length: int) -> Example:
    room = max(1, max_length - len(example.prompt))
    return Example(example.prompt, other.response[:room], other.complete and len(other.response) <= room)


def reference_point(
    groups: Sequence[Group],
    reference: Callable[[Sequence[Group]], Tensor],
    engine: Engine,
    *,
    max_length: int,
    tokens: int,
) -> float:
    """max(0, mean log pi/pi_ref) of the mismatched pairs of a batch, nats; the same in all processes.

    groups: of all processes. tokens: most of one forward pass.
    """

    def score(part: list[Group]) -> Sequence[float]:
        found: list[float] = (engine.logps([g.examples[0] for g in part]) - reference(part)).double().tolist()
        return found

    pairs = mismatched(groups, max_length=max_length)
    ratios = engine.gather(scored(pairs[engine.rank :: engine.processes], tokens, score, engine=engine))
    mean = math.fsum(ratios) / len(ratios)
    return 0.0 if mean < 0 else mean


def losses_and_rows(
    objective: Unpaired, groups: Sequence[Group], logp: Tensor, ref_logp: Tensor, kl: float
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Loss of each response [groups], with gradient, and a row of numbers for each.

    logp, ref_logp: summed over tokens, [groups], nats. kl: the reference point of the batch, nats.
    """
    good = torch.tensor([bool(group.good) for group in groups], device=logp.device)
    point = torch.tensor(kl, dtype=logp.dtype, device=logp.device)
    losses = objective.losses(logp, good, ref_logp=ref_logp, kl=point)
    size = lengths([group.examples[0] for group in groups], logp.device)
    columns = {
        "loss": losses,
        "desirable": good,
        "kl": point.expand_as(logp),
        "rewards": objective.rewards(logp, ref_logp=ref_logp),
        "logps": logp,
        "logps_per_token": logp / size,
        "tokens": size,
    }
    values = torch.stack([column.detach().double() for column in columns.values()], 1).tolist()
    return losses, [
        {"where": g.where, **dict(zip(columns, row, strict=True))} for g, row in zip(groups, values, strict=True)
    ]
