"""What is measured of a comparison, and how it is averaged: every logged number comes from these rows."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from derivations.evidence.intervals import interval, proportion
from derivations.objectives import Objective, preference_metrics
from derivations.published import Published, Trained, Unpaired
from llm.data.tokens import Group
from llm.offline import unpaired
from llm.scoring.packing import lengths, on_device, put_back

Row = dict[str, Any]
TEXT = ("step", "split", "where")  # of a row; the rest are measured


def losses_and_rows(
    objective: Trained, groups: Sequence[Group], logp: Tensor, ref_logp: Tensor | None, kl: float | None = None
) -> tuple[Tensor, list[Row]]:
    """Loss and measurements of each comparison, or single response.

    Args:
        objective: gives rewards and loss.
        groups: the comparisons, pairs or rankings.
        logp, ref_logp: of policy and reference, summed over tokens, [responses of all groups], nats.
        kl: the reference point of an unpaired objective, nats.

    Returns:
        The losses [groups], with gradient, and a row of numbers per comparison. Rewards, log-probs and tokens of a
        ranking are those of its first response (chosen) and its last (rejected).
    """
    if isinstance(objective, Unpaired):
        if ref_logp is None or kl is None:
            raise ValueError(f"objective {objective.name} needs the reference and its point")
        return unpaired.losses_and_rows(objective, groups, logp, ref_logp, kl)
    sizes = [len(g.examples) for g in groups]
    length = lengths([e for g in groups for e in g.examples], logp.device)
    rewards = objective.rewards(logp, length=length, ref_logp=ref_logp)
    size = on_device(sizes, logp.device)
    ends = size.cumsum(0)
    first, last = ends - size, ends - 1
    if isinstance(objective, Published):
        pairs = torch.stack([first, last], 1)
        reference = None if ref_logp is None else ref_logp[pairs]
        losses = objective.losses(logp[pairs], length=length[pairs], ref_logp=reference)
    else:
        losses = _losses(objective, rewards, sizes)
    columns = {
        "loss": losses,
        **preference_metrics(rewards[first], rewards[last], logp[first], logp[last]),
        "logps_per_token/chosen": logp[first] / length[first],
        "logps_per_token/rejected": logp[last] / length[last],
        "tokens/chosen": length[first],
        "tokens/rejected": length[last],
    }
    values = torch.stack([column.detach().double() for column in columns.values()], 1).tolist()  # one transfer
    return losses, [
        {"where": g.where, **dict(zip(columns, row, strict=True))} for g, row in zip(groups, values, strict=True)
    ]


def _losses(objective: Objective, rewards: Tensor, sizes: Sequence[int]) -> Tensor:
    """Loss of each comparison; comparisons of one size together, so that pairs take one call."""
    device = rewards.device
    starts = [0, *itertools.accumulate(sizes)]
    found, order = [], []
    for size in sorted(set(sizes)):
        own = [i for i, n in enumerate(sizes) if n == size]
        places = on_device([starts[i] for i in own], device).unsqueeze(1) + torch.arange(size, device=device)
        found.append(objective.loss(rewards[places]))
        order += own
    return torch.cat(found)[put_back(order, device)]


def columns(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Every measurement of the rows. Of single responses, what is said of good ones (chosen) and of bad ones
    (rejected) stands apart, under the names that pairs have."""
    if "desirable" not in rows[0]:
        return {name: [row[name] for row in rows] for name in rows[0] if name not in TEXT}
    found = {name: [row[name] for row in rows] for name in ("loss", "kl", "desirable")}
    for name in ("rewards", "logps", "logps_per_token", "tokens"):
        for side, good in (("chosen", 1), ("rejected", 0)):
            found[f"{name}/{side}"] = [row[name] for row in rows if row["desirable"] == good]
    return {name: values for name, values in found.items() if values}


def means(rows: Sequence[Row]) -> dict[str, float]:
    """Mean of every measurement over the rows."""
    return {name: math.fsum(values) / len(values) for name, values in columns(rows).items()}


SHARES = ("rewards/accuracies",)  # of comparisons: from 0 to 1


def change(before: Sequence[Row], after: Sequence[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """Intervals over comparisons of every measurement before, after, and of its change comparison by comparison.

    Those of a share stay where a share can be: in [0, 1] (Wilson's), their change in [-1, 1].
    """
    levels, ends = columns(before), columns(after)

    def level(values: Sequence[float], name: str) -> dict[str, float]:
        return asdict(proportion(sum(values), len(values))) if name in SHARES else asdict(interval(values))

    def difference(name: str) -> dict[str, float]:
        found = asdict(interval(a - b for a, b in zip(ends[name], levels[name], strict=True)))
        return {k: min(1.0, max(-1.0, v)) for k, v in found.items()} if name in SHARES else found

    return {
        "before": {n: level(v, n) for n, v in levels.items()},
        "after": {n: level(v, n) for n, v in ends.items()},
        "change": {n: difference(n) for n in levels},
    }
