"""How an off-policy loss is reduced and how it scales rewards: read off its gradient where no ratio is at work yet.

Neither is part of what PPO's clip, GRPO or CISPO is: papers and libraries divide by different things, and each is right
under its name. So it is read off the function, said in the verdict, and everything else is held against it.
"""

import itertools

import numpy as np

from derivations.conformance.batches import Batch, batch_of, join
from derivations.conformance.calls import CallError
from derivations.conformance.families import OFF_POLICY
from derivations.conformance.further import OFF, SCALES, complete
from derivations.conformance.laws import tolerance
from derivations.conformance.loss_under_test import Subject

FREE = ("token-mean", "sequence-mean", "sum")  # a fixed denominator has to be given


def takes_advantages(subject: Subject) -> bool:
    """Whether the loss is handed advantages and makes none of rewards."""
    names = set(subject.names.values())
    return not names & {"rewards", "group"} and bool(
        names & {"advantages", "token_advantages"} or subject.target.family.name == OFF_POLICY.name
    )


def at_ratio_one(batch: Batch) -> Batch:
    """The batch as if the policy itself had drawn it."""
    return batch | {"old_logps": batch["logps"].copy()}


def read_off(subject: Subject) -> Subject:
    """The subject with the reduction and the scale that its gradient shows, where they were not given."""
    if subject.target.name not in OFF:
        return subject
    target = subject.target
    full = complete(target.name, target.options)
    reductions = [full["reduction"], *(FREE if "reduction" not in target.options else ())]
    scales = [full["scale"], *(SCALES if "scale" not in target.options else ())]
    if target.name == "rloo-ratio":  # leave-one-out is what it is, and its loss is one of responses
        reductions, scales = reductions[:1], scales[:1]
    if takes_advantages(subject):
        scales = ["given"]
    batch = at_ratio_one(join(target.family, batch_of(target.family)))
    best, least = target.with_options(reduction=reductions[0], scale=scales[0]), np.inf
    try:
        found = subject.run(batch)
    except CallError:
        return subject.with_target(best)
    for reduction, scale in itertools.product(reductions, scales):
        tried = target.with_options(reduction=reduction, scale=scale)
        meant = subject.expect(batch, target=tried).gradient["logps"]
        apart = float(np.abs(found.gradient["logps"] - meant).max())
        if apart <= tolerance(found, meant, slope=True) and apart < 0.1 * least:
            best, least = tried, max(apart, 1e-15)
        if least <= 1e-9:
            break
    return subject.with_target(best)
