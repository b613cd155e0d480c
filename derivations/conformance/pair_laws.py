"""Laws of preference losses: length, swap, anchors, extreme inputs, hidden terms, the reach of a margin, rankings."""

import itertools
import math

import numpy as np

from derivations.conformance.batches import Batch, examples, ranking, repeat_tokens, take
from derivations.conformance.calls import CallError
from derivations.conformance.families import PAIRS, RANKINGS
from derivations.conformance.laws import (
    Failure,
    Skip,
    Verdict,
    close,
    compare,
    describe,
    law,
    number,
    tolerance,
)
from derivations.conformance.loss_under_test import Subject
from derivations.names import OBJECTIVES
from derivations.regularizers import LengthNormalizedShannon

LIKELIHOODS = tuple(name for name, recipe in OBJECTIVES.items() if not recipe.listwise and not recipe.least_squares)
REACH = (
    2.0  # nats a token: beyond, rejected tokens must be below e^-2 = 14 % on average even if chosen ones are certain
)


def one(subject: Subject, batch: Batch) -> float:
    return subject.run(batch, gradient=False).mean


def differs(subject: Subject, batch: Batch, found: float, expected: float, words: str = "loss") -> Failure | None:
    """A failure if two numbers that the law equates are apart."""
    result = subject.run(batch, gradient=False)
    allowed = tolerance(result, np.asarray(expected))
    if close(np.asarray(found), np.asarray(expected), allowed):
        return None
    return Failure(describe(subject, batch), f"{words} {number(expected)}", f"{words} {number(found)}")


@law(
    "token-count",
    "numerator and denominator count the same tokens: equal tokens score the same whatever their number, EOS included",
    claim="implicit-reward-length-normalized",
    families=(PAIRS,),
    threads=("PaddleFormers#4908", "SimPO#13"),
    why="kills nothing in the zoo that `value` does not; its input (equal tokens) shows by eye which count is off",
)
def token_count(subject: Subject) -> Verdict:
    for chosen, rejected in ((1, 1), (1, 2), (3, 1), (2, 5)):
        batch: Batch = {}
        for side, length in (("chosen", chosen), ("rejected", rejected)):
            batch[f"{side}_logps"] = np.full((1, length), -0.5)
            batch[f"{side}_mask"] = np.ones((1, length), dtype=bool)
            batch[f"ref_{side}_logps"] = np.full((1, length), -0.5)
        kink = subject.target.name == "dpop"  # its gradient at policy = reference is anything between two
        if failure := compare(subject, batch, subject.run(batch), subject.expect(batch), gradient=not kink):
            return failure
    return None


@law(
    "empty-response",
    "a response without tokens is refused by name; it has no mean log-prob, and NaN or 0 in its place goes unnoticed",
    claim="implicit-reward-length-normalized",
    kind="advice",
    families=(PAIRS,),
    threads=("trl#1033", "trl#3339", "trl#6548", "SimPO#35"),
)
def empty_response(subject: Subject) -> Verdict:
    if not subject.target.needs_length:
        return Skip("only a length-normalized objective has no value there")
    batch = examples(PAIRS)[1]
    empty = batch | {"rejected_mask": np.zeros_like(batch["rejected_mask"])}
    try:
        found = one(subject, empty)
    except CallError:
        return None
    return Failure(describe(subject, empty), "an error that names the empty response", f"loss {number(found)}")


@law(
    "length-law",
    "a response with every token repeated: a mean log-prob stays, a sum is multiplied (SimPO's margin stays, DPO's "
    "doubles)",
    claim="implicit-reward-length-normalized",
    families=(PAIRS, RANKINGS),
    threads=("trl#1265", "SimPO#13"),
)
def length_law(subject: Subject) -> Verdict:
    family = subject.target.family
    if subject.target.name in ("r-dpo", "wpo") or isinstance(_regularizer(subject), LengthNormalizedShannon):
        return Skip("its score depends on the length by itself")
    for batch in subject.examples[:3]:
        for times in (2, 9):
            longer = repeat_tokens(family, batch, times)
            same = dict(batch)
            if not subject.target.needs_length:
                floats = [name for name in family.token_axis if batch[name].dtype == np.float64]
                same |= {name: times * batch[name] for name in floats}
            if failure := differs(subject, longer, one(subject, longer), one(subject, same)):
                return Failure(failure.given, f"{failure.expected} (each token {times} times)", failure.found)
    return None


def _regularizer(subject: Subject) -> object:
    """The regularizer of the target's objective."""
    if subject.target.name not in OBJECTIVES:
        return None
    from derivations.names import make_objective

    return make_objective(subject.target.name, **subject.target.options).regularizer


@law(
    "swap",
    "swapping chosen and rejected turns the loss -log sigmoid(m) into the one of the swapped scores, and at gamma = 0 "
    "the difference is the margin itself",
    claim="maxent-bradley-terry",
    families=(PAIRS,),
    objectives=(*LIKELIHOODS, "chi-po", "r-dpo", "ln-dpo"),
    why="kills nothing in the zoo that `value` does not; its difference tells a wrong sign from a wrong size",
)
def swap(subject: Subject) -> Verdict:
    for batch in examples(PAIRS):
        swapped = {_other(name): array for name, array in batch.items()}
        found = one(subject, batch) - one(subject, swapped)
        expected = float((subject.expect(batch).value - subject.expect(swapped).value)[0])
        if failure := differs(subject, batch, found, expected, "loss(w, l) - loss(l, w) ="):
            return failure
    return None


def _other(name: str) -> str:
    return name.replace("chosen", "\0").replace("rejected", "chosen").replace("\0", "rejected")


@law(
    "anchor",
    "equal scores (policy = reference, or equal mean log-probs) give a number known in advance: log 2, or "
    "-log sigmoid(-gamma)",
    claim="margin-rao-kupper",
    families=(PAIRS,),
    objectives=LIKELIHOODS,
    threads=("ms-swift#10167", "trl#5071"),
    why="an absolute number, in which two implementations that share a mistake cannot agree",
)
def anchor(subject: Subject) -> Verdict:
    if isinstance(_regularizer(subject), LengthNormalizedShannon):
        return Skip("its offset depends on the length")
    gamma, eps = (subject.target.options.get(name) or 0.0 for name in ("gamma", "label_smoothing"))
    expected = (1 - eps) * math.log1p(math.exp(gamma)) + eps * math.log1p(math.exp(-gamma))
    for batch in examples(PAIRS)[:4]:
        if subject.target.needs_reference:
            equal = batch | {f"ref_{side}_logps": batch[f"{side}_logps"] for side in ("chosen", "rejected")}
        elif subject.target.needs_length:
            equal = batch | {f"{s}_logps": np.full_like(batch[f"{s}_logps"], -1.25) for s in ("chosen", "rejected")}
        else:
            total = {s: batch[f"{s}_logps"].size for s in ("chosen", "rejected")}
            equal = batch | {f"{s}_logps": np.full_like(batch[f"{s}_logps"], -3.0 / total[s]) for s in total}
        if failure := differs(subject, equal, one(subject, equal), expected):
            return failure
    return None


@law(
    "only-differences",
    "raising all scores alike changes nothing: the loss sees differences, so a term of one response alone (an NLL) "
    "cannot hide",
    claim="multiplier-cancels",
    families=(PAIRS, RANKINGS),
    objectives=tuple(name for name in OBJECTIVES if not name.startswith("f-dpo")),
    threads=("trl#1760", "trl#1705"),
    why="says that an extra term is there; `value` only shows that a number is off",
)
def only_differences(subject: Subject) -> Verdict:
    for batch in subject.examples[:4]:
        raised = dict(batch)
        for leaf in subject.target.family.leaves:
            mask = batch[leaf.replace("logps", "mask")]
            count = 1 if subject.target.needs_length else mask.sum(axis=-1, keepdims=True)
            raised[leaf] = batch[leaf] - 0.6 / count
        if failure := differs(subject, raised, one(subject, raised), one(subject, batch)):
            return Failure(f"{failure.given} (all scores lowered alike)", failure.expected, failure.found)
    return None


@law(
    "reach",
    f"gamma/beta is a gap that a mean token can reach (at most {REACH:g} nats)",
    claim="margin-overstates",
    kind="advice",
    objectives=("simpo", "simpo-shannon"),
    threads=("trl#5071", "trl#1725"),
)
def reach(subject: Subject) -> Verdict:
    gamma, beta = subject.target.options.get("gamma") or 0.0, subject.target.options["beta"]
    if gamma <= REACH * beta:
        return None
    return Failure(
        f"beta = {beta}, gamma = {gamma}",
        f"gamma/beta at most {REACH:g} nats a token (0.55 in the settings TRL's documentation quotes from the paper)",
        f"gamma/beta = {number(gamma / beta)}: even if every chosen token were certain, the margin is met only where "
        f"rejected tokens have probability {100 * math.exp(-gamma / beta):.2g} % on average",
    )


@law(
    "ranking-order",
    "which slot a response sits in does not matter, only the order that `ranking` gives",
    claim="listwise-objectives",
    families=(RANKINGS,),
    threads=("dpo#71",),
    why="tells a misread `ranking` from a wrong likelihood",
)
def ranking_order(subject: Subject) -> Verdict:
    for batch in subject.examples:
        k = batch["ranking"].shape[1]
        turn = np.roll(np.arange(k), -1)  # slot j of the new batch holds response turn[j]
        moved = {name: array[:, turn] for name, array in batch.items() if name != "ranking"}
        moved["ranking"] = np.argsort(turn)[batch["ranking"]]
        if failure := differs(subject, moved, one(subject, moved), one(subject, batch)):
            return failure
    return None


@law(
    "two-responses",
    "a ranking of two is a pair: Bradley-Terry",
    claim="plackett-luce-bradley-terry",
    families=(RANKINGS,),
    threads=("dpo#71", "trl#1831"),
    why="the anchor of rankings: at equal scores of two responses the loss is log 2 without computing anything",
)
def two_responses(subject: Subject) -> Verdict:
    if subject.target.options.get("top") == 2:
        return Skip("a ranking of two has no second place to be observed")
    batch = ranking(np.random.default_rng(5), (1, 1))
    batch |= {"logps": np.full((1, 2, 1), -0.75), "ref_logps": np.full((1, 2, 1), -0.75)}
    batch = {name: batch[name] for name in ("logps", "ref_logps", "mask", "ranking")}
    return differs(subject, batch, one(subject, batch), math.log(2))


@law(
    "rankings-sum-to-one",
    "the probabilities exp(-loss) of all rankings of the same responses sum to 1",
    claim="plackett-luce-normalized",
    families=(RANKINGS,),
    threads=("trl#1831",),
    why="needs no reference implementation: it tells a likelihood from any other ranking loss",
)
def rankings_sum_to_one(subject: Subject) -> Verdict:
    if subject.target.options.get("top") is not None:
        return Skip("top-k: rankings that agree in the first places share one probability")
    for batch in examples(RANKINGS)[1:3]:
        k = batch["ranking"].shape[1]
        orders = [batch | {"ranking": np.array([order])} for order in itertools.permutations(range(k))]
        total = sum(float(np.exp(-one(subject, take(order, [0])))) for order in orders)
        if failure := differs(subject, batch, total, 1.0, "sum of exp(-loss) over all rankings"):
            return failure
    return None
