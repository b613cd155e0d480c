"""Laws of rewards and advantages: shift, scale, ties, groups, and the baseline that leaves the sample itself out."""

import itertools

import numpy as np

from derivations.advantages import group_mean, standardized
from derivations.conformance.batch_laws import share
from derivations.conformance.batches import Batch, batch_of, examples, join, unequal_groups
from derivations.conformance.calls import CallError
from derivations.conformance.derived import by_group
from derivations.conformance.families import ADVANTAGE, OFF_POLICY, POLICY_GRADIENT
from derivations.conformance.how import takes_advantages
from derivations.conformance.laws import Failure, Skip, Verdict, close, describe, law, number, numbers, tolerance
from derivations.conformance.loss_under_test import Result, Subject
from derivations.conformance.single import samples
from derivations.objectives import rloo_advantage


@law(
    "reward-shift",
    "adding a constant to all rewards of a prompt changes nothing",
    claim="online-gradient",
    families=(POLICY_GRADIENT, OFF_POLICY, ADVANTAGE),
    threads=("Relax#174",),
    why="says that a baseline is missing, where `expected-gradient` may still pass",
)
def reward_shift(subject: Subject) -> Verdict:
    for batch in subject.examples:
        moved = batch | {"rewards": batch["rewards"] + 3.0}
        if failure := _same(subject, moved, subject.run(batch), subject.run(moved), 1.0):
            return failure
    return None


@law(
    "reward-scale",
    "rewards twice or a thousand times as large give advantages and gradients as much larger (divided by their own "
    "deviation they stay)",
    claim="rloo-unbiased",
    families=(POLICY_GRADIENT, OFF_POLICY, ADVANTAGE),
    threads=("Relax#174",),
    why="tells advantages that are divided by a deviation from those that are not",
)
def reward_scale(subject: Subject) -> Verdict:
    standardized = subject.target.name == "grpo-advantage" or "std" in subject.target.options.get("scale", "")
    for batch in subject.examples:
        # the 1e-4 beside the deviation is not scale-free; at rewards near 1000 it no longer shows
        start = batch | {"rewards": batch["rewards"] * (1e6 if standardized else 1.0)}
        for times in (2.0, 1000.0):  # a thousand: a clip at 5 or 10 shows
            moved = start | {"rewards": start["rewards"] * times}
            factor = 1.0 if standardized else times
            if failure := _same(subject, moved, subject.run(start), subject.run(moved), factor):
                return failure
    return None


@law(
    "advantages-as-given",
    "advantages that are handed over are used as they are: at ratio 1 a sample's gradient is in proportion to its own, "
    "whatever their mean and deviation. Whitening them once more, an option of many codes, makes them depend on the "
    "make-up of the micro-batch; if it is meant, do it before the loss, over all samples",
    claim="online-gradient",
    families=(POLICY_GRADIENT, OFF_POLICY),
)
def as_given(subject: Subject) -> Verdict:
    if not takes_advantages(subject):
        return Skip("it makes its advantages of rewards")
    usual, given = np.array([1.0, -1.5, 0.5]), np.array([2.5, -0.6, 13.0])
    batch = samples(np.random.default_rng(31), (2, 1, 3), (1.0, -1.5, 0.5))
    batch = {name: batch[name] for name in (*subject.target.family.token_axis, "rewards", "group")}
    before, found = (subject.run(batch | {"advantages": a}) for a in (usual, given))
    meant = before.gradient["logps"] * (given / usual)[:, None]
    if close(found.gradient["logps"], meant, tolerance(found, meant, slope=True)):
        return None
    said = describe(subject, batch | {"advantages": given})
    return Failure(said, f"gradient by logps {numbers(meant)}", f"gradient by logps {numbers(found.gradient['logps'])}")


@law(
    "standardized",
    "rewards minus their group's mean, over the group's standard deviation; sample or population deviation and up to "
    "1e-4 beside it are conventions",
    claim="rloo-unbiased",
    objectives=("grpo-advantage",),
    why="what `value` is for other advantages",
)
def is_standardized(subject: Subject) -> Verdict:
    failures = [_not_standardized(subject, population) for population in (False, True)]
    return None if None in failures else failures[0]


def _not_standardized(subject: Subject, population: bool) -> Failure | None:
    """Failure unless every example comes out by this deviation, give or take the 1e-4 beside it."""
    outlier = {"rewards": np.eye(1, 128)[0], "group": np.zeros(128, dtype=np.int64)}  # 11 deviations: a clip shows
    for batch in [*examples(ADVANTAGE), outlier]:
        deviation = float(batch["rewards"].std(ddof=0 if population else 1))
        if deviation == 0:
            continue  # `equal-rewards` speaks of these
        # as they are, of deviation 1, and of one so small that a deviation clamped from below shows
        for spread in (deviation, 1.0, 0.02):
            rewards = batch["rewards"] if spread == deviation else batch["rewards"] / deviation * spread
            found = subject.run(batch | {"rewards": rewards})
            meant = standardized(rewards, epsilon=0.0, population=population)
            allowed = 1.01e-4 / spread * np.abs(meant).max() + tolerance(found, meant)
            if found.value.shape != meant.shape or not close(found.value, meant, allowed):
                return Failure(describe(subject, batch | {"rewards": rewards}), numbers(meant), numbers(found.value))
    return None


@law(
    "equal-rewards",
    "where all samples of a prompt have the same reward there is nothing to learn: zero, and finite",
    claim="online-gradient",
    families=(POLICY_GRADIENT, OFF_POLICY, ADVANTAGE),
    why="the anchor of advantages, and the place where a deviation of 0 divides",
)
def equal_rewards(subject: Subject) -> Verdict:
    for batch, reward in itertools.product(subject.examples, (0.7, 0.0, 1.0)):
        flat = batch | {"rewards": np.full_like(batch["rewards"], reward)}
        found = subject.run(flat)
        values = [found.value] if subject.target.family is ADVANTAGE else list(found.gradient.values())
        for value in values:
            if not close(value, np.zeros_like(value), tolerance(found, np.zeros(()), slope=True)):
                return Failure(describe(subject, flat), "0", numbers(value))
    return None


@law(
    "advantages-sum-to-zero",
    "the advantages of one prompt sum to zero",
    claim="rloo-unbiased",
    families=(ADVANTAGE,),
    threads=("Relax#174",),
    why="tells a wrong baseline from a wrong scale",
)
def sum_to_zero(subject: Subject) -> Verdict:
    for batch in examples(ADVANTAGE):
        result = subject.run(batch, gradient=False)
        total = float(np.sum(result.value))
        if not close(np.asarray(total), np.zeros(()), tolerance(result, result.value)):
            return Failure(describe(subject, batch), "0", number(total))
    return None


@law(
    "prompts-apart",
    "the samples of one prompt say nothing about another prompt: each prompt alone gives what it gives in a batch",
    claim="multiplier-cancels",
    families=(ADVANTAGE,),
    threads=("Relax#174",),
)
def prompts_apart(subject: Subject) -> Verdict:
    parts = batch_of(ADVANTAGE)
    whole = join(ADVANTAGE, parts)
    alone = np.concatenate([np.atleast_1d(subject.run(part, gradient=False).value) for part in parts])
    found = subject.run(whole, gradient=False)
    if found.value.shape != alone.shape or not close(found.value, alone, tolerance(found, alone)):
        return Failure(describe(subject, whole), f"{numbers(alone)} (prompt by prompt)", numbers(found.value))
    return None


@law(
    "leave-one-out",
    "each sample is measured against the others alone; with its own reward in the baseline the gradient shrinks by "
    "(k - 1)/k",
    claim="group-mean-shrinks",
    objectives=("rloo-advantage",),
    threads=("Relax#174",),
    why="`value` says that a number is off, this law that it is off by exactly (k - 1)/k",
)
def leave_one_out(subject: Subject) -> Verdict:
    for batch in examples(ADVANTAGE):
        if not batch["rewards"].std():
            continue  # nothing to learn, by either baseline
        result = subject.run(batch, gradient=False)
        found, mean = (
            result.value,
            subject.backend.value(lambda a: by_group(a["rewards"], a["group"], group_mean), batch),
        )
        if close(found, subject.backend.numpy(mean), tolerance(result, found)):
            alone = subject.backend.value(lambda a: by_group(a["rewards"], a["group"], rloo_advantage), batch)
            return Failure(
                describe(subject, batch), numbers(subject.backend.numpy(alone)), f"{numbers(found)}: (k-1)/k of it"
            )
    return None


@law(
    "unequal-groups",
    "prompts with unequal numbers of samples in one batch are each treated for themselves, or refused by an error",
    claim="rloo-unbiased",
    families=(POLICY_GRADIENT, OFF_POLICY, ADVANTAGE),
    threads=("trl#6411",),
)
def groups_of_any_size(subject: Subject) -> Verdict:
    if "group_size" in subject.names.values():
        return Skip("it asks for one group size")
    parts = unequal_groups(subject.target.family)
    whole = join(subject.target.family, parts)
    try:
        found = subject.run(whole)
    except CallError:
        return None
    alone = [subject.run(part) for part in parts]
    if subject.target.family is ADVANTAGE:
        expected = np.concatenate([result.value for result in alone])
        if not close(found.value, expected, tolerance(found, expected)):
            return Failure(describe(subject, whole), f"{numbers(expected)} (prompt by prompt)", numbers(found.value))
        return None
    parts_of = [
        result.gradient["logps"] * share(subject, part, whole) for result, part in zip(alone, parts, strict=True)
    ]
    width = whole["logps"].shape[1]
    slope = np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts_of])
    if not close(found.gradient["logps"], slope, tolerance(found, slope, slope=True)):
        words = f"gradient by logps {numbers(slope)} (prompt by prompt, weighted)"
        return Failure(describe(subject, whole), words, f"gradient by logps {numbers(found.gradient['logps'])}")
    return None


def _same(subject: Subject, batch: Batch, plain: Result, found: Result, factor: float) -> Failure | None:
    """Failure unless advantages, or gradients, are `factor` times what they were."""
    both = (
        [(plain.value, found.value)]
        if subject.target.family is ADVANTAGE
        else [(plain.gradient[leaf], found.gradient[leaf]) for leaf in plain.gradient]
    )
    for before, after in both:
        if not close(
            after, factor * before, tolerance(found, np.zeros(()), slope=True) * factor * (1 + np.abs(before).max())
        ):
            return Failure(describe(subject, batch), numbers(factor * before), numbers(after))
    return None
