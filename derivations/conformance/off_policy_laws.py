"""Laws of losses whose samples an older policy drew: what happens to the gradient where the ratio leaves the clip."""

from collections.abc import Iterator

import numpy as np

from derivations.conformance.batches import Batch
from derivations.conformance.families import OFF_POLICY
from derivations.conformance.further import OFF
from derivations.conformance.how import at_ratio_one
from derivations.conformance.laws import Failure, Skip, Verdict, close, compare, describe, law, numbers, tolerance
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.single import drawn_before

CLIPPED = ("ppo-clip", "grpo", "gspo", "rloo-ratio")


def has_clip(subject: Subject) -> bool:
    """Whether the objective stops gradients; RLOO with a ratio only does if it is given an epsilon."""
    return subject.target.name != "rloo-ratio" or subject.target.options.get("epsilon") is not None


def outside(subject: Subject) -> Iterator[tuple[Batch, np.ndarray]]:
    """Batches of two samples whose ratios are all out of the clip on one side, and which of them the clip stops."""
    family = subject.target.family
    for move, stopped in (("up", [True, False]), ("down", [False, True])):
        for lengths in ((1, 1), (2, 2)):  # the first sample is the better one: its advantage is positive
            batch = drawn_before(np.random.default_rng(11), lengths, (move, move), family.clip, (1.5, -0.5))
            yield {name: batch[name] for name in (*family.token_axis, "rewards", "group")}, np.array(stopped)


@law(
    "at-ratio-one",
    "where old and new policy agree, the gradient is REINFORCE's: the advantage times the gradient of the log-probs",
    claim="off-policy-at-ratio-one",
    families=(OFF_POLICY,),
    why="passes where only the clip is wrong, and so tells a wrong clip from a wrong advantage, mask or reduction",
)
def reinforce_at_one(subject: Subject) -> Verdict:
    for batch in subject.examples:
        same = at_ratio_one(batch)
        if failure := compare(subject, same, subject.run(same), subject.expect(same), value=False):
            return failure
    return None


@law(
    "clip-stops",
    "outside of the clip, on the side to which the advantage pushes, nothing is left to gain: the gradient is zero",
    claim="ppo-clip-slope",
    objectives=CLIPPED,
    threads=("trl#3823",),
    why="says which side of the clip is open, where `gradient` shows numbers",
)
def clip_stops(subject: Subject) -> Verdict:
    if not has_clip(subject):
        return Skip("it has no clip")
    for batch, stopped in outside(subject):
        slopes = subject.run(batch).gradient["logps"][stopped]
        if not close(slopes, np.zeros_like(slopes), 1e-4 if subject.rough else 1e-9):
            row = int(np.flatnonzero(stopped)[0])
            return Failure(describe(subject, batch), f"gradient 0 by logps[{row}]", numbers(slopes[0]))
    return None


@law(
    "clip-returns",
    "outside of the clip, on the other side, the gradient leads back and is not clipped: the minimum is there for that",
    claim="ppo-clip-slope",
    objectives=CLIPPED,
    why="says that a clip without the minimum was written, where `gradient` shows numbers",
)
def clip_returns(subject: Subject) -> Verdict:
    for batch, stopped in outside(subject):
        found, expected = subject.run(batch), subject.expect(batch).gradient["logps"]
        slopes, meant = found.gradient["logps"][~stopped], expected[~stopped]
        if not close(slopes, meant, tolerance(found, meant, slope=True)):
            words = f"gradient by logps[{int(np.flatnonzero(~stopped)[0])}] "
            return Failure(describe(subject, batch), words + numbers(meant[0]), words + numbers(slopes[0]))
    return None


@law(
    "old-policy-live",
    "the policy that drew the samples counts: with other old log-probs the gradient is another one",
    claim="off-policy-at-ratio-one",
    families=(OFF_POLICY,),
    why="says that the ratio is always 1 (old log-probs unread, or recomputed), where `gradient` shows numbers",
)
def old_policy_live(subject: Subject) -> Verdict:
    batch = subject.examples[0]  # inside of the clip: no clip is to blame
    off, on = (subject.run(one).gradient["logps"] for one in (batch, at_ratio_one(batch)))
    if np.array_equal(off, on):
        return Failure(describe(subject, batch), "another gradient than at ratio 1", f"the same: {numbers(off)}")
    return None


@law(
    "ratio-one-only",
    "old_logps are equal to logps here, so what the function does with a ratio other than 1 goes untried",
    claim="off-policy-at-ratio-one",
    kind="advice",
    objectives=("rloo",),
)
def ratio_one_only(subject: Subject) -> Verdict:
    if "old_logps" not in subject.names.values():
        return None
    return Failure(
        "old_logps = logps, as at the step at which the samples are drawn",
        "ratios inside and outside of a clip, with both signs of the advantage",
        f"no ratio other than 1: clip, minimum and sign were never at work; --objective {', '.join(OFF)} try them",
    )
