"""Laws that hold for every objective: value, gradient, batches, padding, masks, precision, options."""

import copy
import functools

import numpy as np

from derivations.conformance.backends import STEP, differences
from derivations.conformance.batches import (
    Batch,
    batch_of,
    holed,
    join,
    pad,
    refill,
    size,
    splits,
    take,
)
from derivations.conformance.families import (
    ADVANTAGE,
    ENTROPY,
    KL_FAMILY,
    OFF_POLICY,
    PAIRS,
    POLICY_GRADIENT,
    RANKINGS,
    UNPAIRED,
)
from derivations.conformance.laws import Failure, Skip, Verdict, close, compare, describe, law, number, numbers
from derivations.conformance.loss_under_test import Result, Subject

LOSSES = (PAIRS, RANKINGS)
VALUED = (*LOSSES, UNPAIRED)
MASKED = (*VALUED, POLICY_GRADIENT, OFF_POLICY, KL_FAMILY, ENTROPY)
PSEUDO = (POLICY_GRADIENT.name, OFF_POLICY.name)  # families whose value is free
POINTWISE = ("rloo-advantage", "grpo-advantage", "entropy-token")  # online names with one right value an example
SUMS = Skip("the function takes sums over tokens, so the kit does the masking")


def has_value(subject: Subject) -> bool:
    """Whether the objective fixes a value for each example (policy gradients and KL estimators fix expectations)."""
    return subject.target.family in VALUED or subject.target.name in POINTWISE


@law(
    "value",
    "the loss of one example is the objective's",
    claim="objectives-by-name",
    families=(*VALUED, ADVANTAGE, ENTROPY),
    threads=("trl#1760", "trl#1677"),
    why="the definition; the laws that fail with it say what kind of mistake it is",
)
def value(subject: Subject) -> Verdict:
    if subject.target.name == "grpo-advantage":
        return Skip("conventions differ; `standardized` holds it")
    if not has_value(subject):
        return Skip("only its expected gradient is fixed")
    for batch in subject.examples:
        found = subject.run(batch, gradient=False)
        if failure := compare(subject, batch, found, subject.expect(batch, gradient=False)):
            return failure
    return None


@law(
    "gradient",
    "the gradient of one example is the objective's, and that of the function's own finite differences",
    claim="loss-gradients",
    families=(*VALUED, POLICY_GRADIENT, OFF_POLICY, ENTROPY),
    threads=("trl#5595", "ms-swift#10167"),
    why="the definition for training; the laws that fail with it say what kind of mistake it is",
)
def gradient(subject: Subject) -> Verdict:
    if subject.target.name == "entropy-sequence":
        return Skip("only its expected gradient is fixed")
    family = subject.target.family
    for batch in subject.examples:
        found = subject.run(batch)
        if failure := compare(subject, batch, found, subject.expect(batch), value=False):
            return failure
        held = subject.target.name == "wpo"  # a weight that is held moves with the values
        certain = held or any(
            (batch[leaf] == 0).any() for leaf in family.leaves
        )  # nothing above: no difference to take
        if family in LOSSES and not certain:
            step, allowed = (STEP, 1e-6) if found.exact else (1e-2, 2e-3)  # 1e-2: float32 sees nothing of 1e-5
            slopes = differences(subject.backend, subject.call, batch, family.leaves, step)
            for leaf, slope in slopes.items():
                if not close(found.gradient[leaf], slope, allowed * max(1.0, np.abs(slope).max())):
                    words = f"by {leaf} {numbers(slope)} (differences of its own values)"
                    return Failure(describe(subject, batch), words, f"by {leaf} {numbers(found.gradient[leaf])}")
    return None


@law(
    "partition",
    "a batch cut into micro-batches of unequal lengths has the same gradient, weighted by the number of examples",
    claim="objectives-by-name",
    families=MASKED,
    threads=("trl#3021", "trl#6024", "ms-swift#10117"),
)
def partition(subject: Subject) -> Verdict:
    family = subject.target.family
    several = batch_of(family)

    @functools.cache
    def micro_batch(chosen: tuple[int, ...]) -> tuple[Batch, Result]:
        """These examples together, and what they give: run once, however often the larger batches repeat them."""
        piece = join(family, [several[i] for i in chosen])
        return piece, subject.run(piece)

    for n in (2, 3, 5, 9, 17):  # 5 and more: a loss that works in chunks, which do not divide these
        parts = [i % len(several) for i in range(n)]
        whole = join(family, [several[i] for i in parts])
        found = subject.run(whole)
        for cut in splits(n) if n <= 3 else [[[i] for i in range(n)]]:
            pieces = [micro_batch(tuple(parts[i] for i in piece)) for piece in cut]
            expected = _accumulate(subject, pieces, whole)
            # a pseudo-loss has no value that means anything
            if failure := compare(subject, whole, found, expected, value=family.name not in PSEUDO):
                sizes = " + ".join(str(size(piece)) for piece, _ in pieces)
                words = f"{failure.expected} (micro-batches of {sizes}, weighted)"
                return Failure(failure.given, words, f"{failure.found} (one batch)")
    return None


def _accumulate(subject: Subject, pieces: list[tuple[Batch, Result]], whole: Batch) -> Result:
    """Mean loss and gradient of the micro-batches weighted by their size, laid into the shape of the whole batch."""
    leaves = subject.target.family.leaves
    value, start, exact = 0.0, 0, True
    slopes = {leaf: np.zeros(whole[leaf].shape) for leaf in leaves}
    for piece, result in pieces:
        weight = share(subject, piece, whole)
        value, exact = value + weight * result.mean, exact and result.exact
        for leaf in leaves:  # a piece pads on the right to its own longest response, so it sits in a corner
            corner = (slice(start, start + size(piece)), *(slice(0, width) for width in piece[leaf].shape[1:]))
            slopes[leaf][corner] = weight * result.gradient[leaf]
        start += size(piece)
    return Result(np.asarray(value), slopes, exact, subject.rough)


def share(subject: Subject, piece: Batch, whole: Batch) -> float:
    """What a part of a batch weighs in its mean: its examples, or its tokens where the loss is a mean over tokens."""
    if subject.target.options.get("reduction") == "token-mean":
        return float(piece["mask"].sum() / whole["mask"].sum())
    return size(piece) / size(whole)


@law(
    "upstream",
    "what the loss is multiplied by later multiplies its gradient (accumulation and loss scaling do that), and each "
    "example's loss its own",
    claim="loss-gradients",
    families=MASKED,
    threads=("Liger#968", "fla#963"),
)
def upstream(subject: Subject) -> Verdict:
    if subject.backend.name == "numpy":
        return Skip("NumPy has no backward pass")
    family = subject.target.family
    batch = join(family, batch_of(family)[:3])
    plain = subject.run(batch)
    weights = np.linspace(0.25, 0.75, size(batch)) if plain.value.ndim else np.array(0.25)
    factors = subject.backend.array(weights)
    slopes = subject.backend.gradient(lambda arrays: subject.call(arrays) * factors, batch, family.leaves)[1]
    meant = {leaf: (slope.T * weights).T for leaf, slope in plain.gradient.items()}
    found, expected = (Result(np.array(0.0), gradient, plain.exact) for gradient in (slopes, meant))
    failure = compare(subject, batch, found, expected, value=False)
    return failure and Failure(f"{failure.given}; loss times {weights.tolist()}", failure.expected, failure.found)


@law(
    "padding",
    "padding changes nothing: which side, how much, what stands under it, pad id equal to EOS",
    claim="objectives-by-name",
    families=MASKED,
    threads=("trl#6357", "trl#4970", "trl#1625"),
    why="says that padding is at fault, where `value` fails on a mask with a hole",
)
def padding(subject: Subject) -> Verdict:
    if not subject.per_token:
        return SUMS
    family = subject.target.family
    for batch in subject.examples:
        plain = subject.run(batch)
        for left, right, filler in ((0, 1, -0.77), (0, 3, 0.0), (0, 2, -9.5), (1, 0, -0.77), (2, 1, 3.0)):
            padded = pad(family, batch, left=left, right=right, filler=filler)
            found = subject.run(padded)
            slopes = {}
            for leaf in family.leaves:
                axis = family.token_axis[leaf]
                width = [(0, 0)] * plain.gradient[leaf].ndim
                width[axis] = (left, right)
                slopes[leaf] = np.pad(plain.gradient[leaf], width)
            expected = Result(plain.value, slopes, plain.exact, plain.rough)
            if failure := compare(subject, padded, found, expected):
                return Failure(failure.given, f"{failure.expected} (as without padding)", failure.found)
    return None


@law(
    "mask-leak",
    "-inf or NaN under a false mask reaches neither value nor gradient",
    claim="objectives-by-name",
    families=MASKED,
)
def mask_leak(subject: Subject) -> Verdict:
    if not subject.per_token:
        return SUMS
    family = subject.target.family
    if "logits" in subject.names.values():
        return Skip("a model's logits are finite under a mask, too, and so are their entropies")
    for parts in (batch_of(family)[:1], batch_of(family)[:2], [holed(family)]):
        batch = pad(family, join(family, parts), right=1)
        plain = subject.run(refill(family, batch, -0.5))
        for filler in (-np.inf, np.nan):
            dirty = refill(family, batch, filler)
            found = subject.run(dirty)
            # no softmax lets a NaN among its logits out of the gradient; the value can do without those positions
            if failure := compare(subject, dirty, found, plain, gradient=family is not ENTROPY):
                return failure
    return None


@law(
    "support",
    "the gradient is exactly zero on every token that is masked out, and not zero on any that is supervised",
    claim="loss-gradients",
    families=MASKED,
    threads=("trl#3346", "trl#6803"),
    why="says which token is wrongly in or out, where `gradient` and `padding` show numbers",
)
def support(subject: Subject) -> Verdict:
    if not subject.per_token:
        return SUMS
    if subject.target.name in ("kl-metric", "kl-reward"):
        return Skip("it is not differentiated")
    family = subject.target.family
    batch = pad(family, join(family, batch_of(family)[:2]), right=1)
    found, expected = subject.run(batch), subject.expect(batch)
    for leaf in family.leaves:
        live, meant = found.gradient[leaf] != 0, expected.gradient[leaf] != 0
        if subject.backend.name == "numpy":  # differences see rounding
            live, meant = np.abs(found.gradient[leaf]) > 1e-7, np.abs(expected.gradient[leaf]) > 1e-7
        if (live != meant).any():
            place = tuple(int(i) for i in np.argwhere(live != meant)[0])
            words = ("zero", "not zero") if live[place] else ("not zero", "zero")
            return Failure(
                describe(subject, batch),
                f"gradient by {leaf}{list(place)} {words[0]}",
                f"{words[1]}: {number(found.gradient[leaf][place])}",
            )
    return None


@law(
    "permutation",
    "shuffling the examples of a batch shuffles losses and gradients, and nothing else",
    claim="objectives-by-name",
    why="the only law that pins which example a value belongs to when [B] values are returned in a batch",
)
def permutation(subject: Subject) -> Verdict:
    family = subject.target.family
    batch = join(family, batch_of(family)[:3])
    order = _shuffled(subject, batch)
    plain, found = subject.run(batch), subject.run(take(batch, order))
    moved = plain.value[order] if plain.value.ndim else plain.value
    expected = Result(moved, {leaf: slope[order] for leaf, slope in plain.gradient.items()}, plain.exact, plain.rough)
    return compare(subject, take(batch, order), found, expected)


def _shuffled(subject: Subject, batch: Batch) -> list[int]:
    """An order with no fixed point; samples of one prompt stay together where the contract says they do."""
    n = size(batch)
    if "group" not in batch:
        return [*range(1, n), 0]
    group = batch["group"]
    return [int(i) for prompt in np.unique(group)[::-1] for i in np.flatnonzero(group == prompt)[::-1]]


@law(
    "pure",
    "a call changes none of its inputs, and the same call twice gives the same",
    claim="objectives-by-name",
)
def pure(subject: Subject) -> Verdict:
    family = subject.target.family
    batch = join(family, batch_of(family)[:2])
    arrays = {name: subject.backend.array(array) for name, array in batch.items()}
    before = copy.deepcopy({name: subject.backend.numpy(array) for name, array in arrays.items()})
    first = subject.backend.numpy(subject.backend.value(lambda _: subject.call(arrays), batch))
    for name, array in arrays.items():
        after = subject.backend.numpy(array)
        if not np.array_equal(before[name], after, equal_nan=True):
            return Failure(describe(subject, batch), f"{name} {numbers(before[name])}", f"afterwards {numbers(after)}")
    second = subject.backend.numpy(subject.backend.value(lambda _: subject.call(arrays), batch))
    if not np.array_equal(first, second, equal_nan=True):
        return Failure(describe(subject, batch), f"twice {numbers(first)}", f"the second time {numbers(second)}")
    return None
