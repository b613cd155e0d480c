"""Laws that hold for every objective: value, gradient, batches, padding, masks, precision, options."""

import copy

import numpy as np

from derivations.conformance_backends import differences
from derivations.conformance_batches import Batch, batch_of, examples, join, pad, refill, repeat_tokens, size, splits, take
from derivations.conformance_families import ADVANTAGE, ENTROPY, KL_FAMILY, PAIRS, POLICY_GRADIENT, RANKINGS, Target
from derivations.conformance_laws import Failure, Skip, Verdict, close, compare, describe, law, number, numbers
from derivations.conformance_subject import CONVENTIONS, Result, Subject

LOSSES = (PAIRS, RANKINGS)
MASKED = (PAIRS, RANKINGS, POLICY_GRADIENT, KL_FAMILY, ENTROPY)
POINTWISE = ("rloo-advantage", "grpo-advantage", "entropy-token")  # online names with one right value an example
SUMS = Skip("the function takes sums over tokens, so the kit does the masking")


def has_value(subject: Subject) -> bool:
    """Whether the objective fixes a value for each example (policy gradients and KL estimators fix expectations)."""
    return subject.target.family in LOSSES or subject.target.name in POINTWISE


@law(
    "value",
    "the loss of one example is the objective's",
    claim="objectives-by-name",
    families=(*LOSSES, ADVANTAGE, ENTROPY),
    threads=("trl#1760", "trl#1677"),
)
def value(subject: Subject) -> Verdict:
    if not has_value(subject):
        return Skip("only its expected gradient is fixed")
    for batch in examples(subject.target.family):
        found = subject.run(batch, gradient=False)
        if failure := compare(subject, batch, found, subject.expect(batch, gradient=False)):
            return failure
    return None


@law(
    "gradient",
    "the gradient of one example is the objective's, and that of the function's own finite differences",
    claim="loss-gradients",
    families=(*LOSSES, POLICY_GRADIENT, ENTROPY),
    threads=("trl#5595", "ms-swift#10167"),
)
def gradient(subject: Subject) -> Verdict:
    if subject.target.name == "entropy-sequence":
        return Skip("only its expected gradient is fixed")
    for batch in examples(subject.target.family):
        found = subject.run(batch)
        if failure := compare(subject, batch, found, subject.expect(batch), value=False):
            return failure
        if subject.target.family in LOSSES and found.exact:
            slopes = differences(subject.backend, subject.call, batch, subject.target.family.leaves)
            for leaf, slope in slopes.items():
                if not close(found.gradient[leaf], slope, 1e-6 * max(1.0, np.abs(slope).max())):
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
    for n in (2, 3):
        parts = batch_of(family)[:n]
        whole = join(family, parts)
        found = subject.run(whole)
        for cut in splits(n):
            pieces = [join(family, [parts[i] for i in piece]) for piece in cut]
            expected = _accumulate(subject, pieces, whole)
            if failure := compare(subject, whole, found, expected, value=has_value(subject)):
                sizes = " + ".join(str(size(piece)) for piece in pieces)
                words = f"{failure.expected} (micro-batches of {sizes}, weighted)"
                return Failure(failure.given, words, f"{failure.found} (one batch)")
    return None


def _accumulate(subject: Subject, pieces: list[Batch], whole: Batch) -> Result:
    """Mean loss and gradient of the micro-batches weighted by their size, laid into the shape of the whole batch."""
    leaves = subject.target.family.leaves
    total, value, start, exact = size(whole), 0.0, 0, True
    slopes = {leaf: np.zeros(whole[leaf].shape) for leaf in leaves}
    for piece in pieces:
        result, weight = subject.run(piece), size(piece) / total
        value, exact = value + weight * result.mean, exact and result.exact
        for leaf in leaves:  # a piece pads on the right to its own longest response, so it sits in a corner
            corner = (slice(start, start + size(piece)), *(slice(0, width) for width in piece[leaf].shape[1:]))
            slopes[leaf][corner] = weight * result.gradient[leaf]
        start += size(piece)
    return Result(np.asarray(value), slopes, exact)


@law(
    "padding",
    "padding changes nothing: which side, how much, what stands under it, pad id equal to EOS",
    claim="objectives-by-name",
    families=MASKED,
    threads=("trl#6357", "trl#4970", "trl#1625"),
)
def padding(subject: Subject) -> Verdict:
    if not subject.per_token:
        return SUMS
    family = subject.target.family
    for batch in examples(family):
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
            expected = Result(plain.value, slopes, plain.exact)
            if failure := compare(subject, padded, found, expected):
                return Failure(failure.given, f"{failure.expected} (as without padding)", failure.found)
    return None


@law(
    "mask-leak",
    "-inf or NaN under a false mask reaches neither value nor gradient",
    claim="objectives-by-name",
    families=(PAIRS, RANKINGS, POLICY_GRADIENT, KL_FAMILY),
)
def mask_leak(subject: Subject) -> Verdict:
    if not subject.per_token:
        return SUMS
    family = subject.target.family
    for parts in (batch_of(family)[:1], batch_of(family)[:2]):
        batch = pad(family, join(family, parts), right=1)
        plain = subject.run(refill(family, batch, -0.5))
        for filler in (-np.inf, np.nan):
            dirty = refill(family, batch, filler)
            found = subject.run(dirty)
            if failure := compare(subject, dirty, found, plain):
                return failure
    return None


@law(
    "support",
    "the gradient is exactly zero on every token that is masked out, and not zero on any that is supervised",
    claim="loss-gradients",
    families=MASKED,
    threads=("trl#2502", "trl#3346"),
    why="says which token is wrongly in or out, where `gradient` and `padding` show numbers",
)
def support(subject: Subject) -> Verdict:
    if not subject.per_token:
        return SUMS
    if subject.target.name in ("kl-metric", "kl-reward"):
        return Skip("it is not differentiated")
    family = subject.target.family
    batch = pad(family, join(family, batch_of(family)[:2]), left=1, right=1)
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
    expected = Result(moved, {leaf: slope[order] for leaf, slope in plain.gradient.items()}, plain.exact)
    return compare(subject, take(batch, order), found, expected)


def _shuffled(subject: Subject, batch: Batch) -> list[int]:
    """An order with no fixed point; samples of one prompt stay together where the contract says they do."""
    n = size(batch)
    if subject.target.family is not ADVANTAGE:
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


@law(
    "options-live",
    "every option changes something",
    claim="objectives-by-name",
    threads=("ms-swift#10167",),
    why="says that an option is dead, where `conventions` shows a number",
)
def options_live(subject: Subject) -> Verdict:
    batch = join(subject.target.family, batch_of(subject.target.family)[:2])
    reachable = [name for name in subject.target.option_names if moved(subject, name)]
    if not reachable:
        return Skip("it takes no option of the objective")
    for name in reachable:
        changed = moved(subject, name)
        assert changed is not None  # noqa: S101
        a, b = subject.run(batch), subject.run(batch, target=changed)
        same = np.array_equal(a.value, b.value) and all(
            np.array_equal(a.gradient[leaf], b.gradient[leaf]) for leaf in a.gradient
        )
        if same:
            other = changed.options[name]
            return Failure(describe(subject, batch), f"another loss for {name} = {other}", f"the same: {numbers(a.value)}")
    return None


@law(
    "conventions",
    "every option means what the objective means by it: the loss stays right when an option moves",
    claim="margin-rao-kupper",
    families=(*LOSSES, ENTROPY),
    threads=("trl#1725", "trl#5071"),
)
def conventions(subject: Subject) -> Verdict:
    if not has_value(subject):
        return Skip("only its expected gradient is fixed")
    changes = [changed for name in subject.target.option_names if (changed := moved(subject, name))]
    if not changes:
        return Skip("it takes no option of the objective")
    for changed in changes:
        other = subject.with_target(changed)
        for batch in examples(subject.target.family)[:3]:
            if failure := compare(other, batch, other.run(batch), other.expect(batch)):
                return failure
    return None


def moved(subject: Subject, option: str) -> Target | None:
    """The target with one numeric option moved to another valid value; None if the function does not take it."""
    taken = {CONVENTIONS[ours][0] if ours in CONVENTIONS else ours for ours in subject.takes.values()}
    if option not in taken or option in {"divergence", "top"}:
        return None
    if option == "order" and subject.target.options.get("divergence") != "alpha-divergence":
        return None
    now = subject.target.options.get(option, {"order": 0.5}.get(option, 0.0))
    new = {"label_smoothing": 0.1 if now != 0.1 else 0.2, "order": 0.3 if now != 0.3 else 0.6, "gamma": now + 0.75}
    return subject.target.with_options(**{option: new.get(option, 1.5 * now if now else 1.0)})


@law(
    "float32",
    "float32 inputs give float32 accuracy",
    claim="objectives-by-name",
    families=(*LOSSES, ENTROPY),
    threads=("speculators#788",),
)
def float32(subject: Subject) -> Verdict:
    return in_dtype(subject, "float32", 64 * 2.0**-24)


@law(
    "half-precision",
    "bfloat16 and float16 inputs give what the format can hold: sums and log-sigmoid are taken in float32 inside",
    claim="objectives-by-name",
    kind="advice",
    families=(*LOSSES,),
    threads=("speculators#788",),
)
def half_precision(subject: Subject) -> Verdict:
    dtypes = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
    if not set(dtypes) & set(subject.backend.dtypes):
        return Skip("NumPy has no bfloat16")
    for dtype, unit in dtypes.items():
        if failure := in_dtype(subject, dtype, 2 * unit, rounding_inside=False):
            return failure
    return None


def in_dtype(subject: Subject, dtype: str, unit: float, *, rounding_inside: bool = True) -> Verdict:
    """Values in a lower precision against the function's own in float64 at the same, already rounded, inputs.

    Allowed is `unit` times the size of the loss and, if it may round inside, of the terms that are summed,
    sum |x dL/dx|: the backward-error bound of a sum.
    """
    if not has_value(subject):
        return Skip("only its expected gradient is fixed")
    family = subject.target.family
    for batch in [*examples(family), repeat_tokens(family, examples(family)[-1], 24)]:
        rounded = dict(batch)
        for name, array in batch.items():
            if array.dtype == np.float64:
                rounded[name] = subject.backend.numpy(subject.backend.array(array, dtype))
        exact, meant = subject.run(rounded, gradient=False), subject.expect(rounded)
        terms = sum(float(np.abs(rounded[leaf] * slope).sum()) for leaf, slope in meant.gradient.items())
        allowed = unit * (1 + abs(exact.mean) + (2 * terms if rounding_inside else 0.0))  # 2: the reference's too
        found = subject.run(rounded, gradient=False, dtype=dtype)
        if not close(np.asarray(found.mean), np.asarray(exact.mean), allowed):
            given = f"in {dtype}: {describe(subject, batch)}"
            words = f"loss {number(exact.mean)} as in float64, within {allowed:.2g}"
            return Failure(given, words, f"loss {number(found.mean)}")
    return None
