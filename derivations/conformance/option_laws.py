"""Laws about options and number formats: every option lives and means what it says, float32 is float32."""

import numpy as np

from derivations.conformance.batch_laws import LOSSES, VALUED, has_value
from derivations.conformance.batches import batch_of, join, repeat_tokens
from derivations.conformance.contracts import Target
from derivations.conformance.conventions import CONVENTIONS
from derivations.conformance.families import ENTROPY, OFF_POLICY
from derivations.conformance.further import HOW, OFF
from derivations.conformance.laws import Failure, Skip, Verdict, close, compare, describe, law, number, numbers
from derivations.conformance.loss_under_test import Subject


@law(
    "options-live",
    "every option changes something",
    claim="objectives-by-name",
    threads=("ms-swift#10167",),
    why="says that an option is dead, where `conventions` shows a number",
)
def options_live(subject: Subject) -> Verdict:
    batch = join(subject.target.family, batch_of(subject.target.family))
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
            return Failure(
                describe(subject, batch), f"another loss for {name} = {other}", f"the same: {numbers(a.value)}"
            )
    return None


@law(
    "conventions",
    "every option means what the objective means by it: the loss stays right when an option moves, and when all move",
    claim="margin-rao-kupper",
    families=(*VALUED, OFF_POLICY, ENTROPY),
    threads=("trl#1725", "trl#5071"),
)
def conventions(subject: Subject) -> Verdict:
    off_policy = subject.target.name in OFF
    if not has_value(subject) and not off_policy:
        return Skip("only its expected gradient is fixed")
    changes = [changed for name in subject.target.option_names if (changed := moved(subject, name))]
    if not changes:
        return Skip("it takes no option of the objective")
    if len(changes) > 1:  # a mistake may need two: at gamma = 0 nobody sees what multiplies gamma
        together = {name: changed.options[name] for changed in changes for name in _differing(subject.target, changed)}
        changes.append(subject.target.with_options(**together))
    strength = subject.target.option_names[0]
    if moved(subject, strength) and subject.target.options.get(strength):  # down as well: a floor under it shows
        changes.append(subject.target.with_options(**{strength: 0.6 * subject.target.options[strength]}))
    for changed in changes:
        other = subject.with_target(changed)
        for batch in other.examples[: None if off_policy else 3]:
            if failure := compare(other, batch, other.run(batch), other.expect(batch), value=not off_policy):
                return failure
    return None


def _differing(before: Target, after: Target) -> list[str]:
    return [name for name, value in after.options.items() if value != before.options.get(name)]


def moved(subject: Subject, option: str) -> Target | None:
    """The target with one numeric option moved to another valid value; None if the function does not take it."""
    taken = {CONVENTIONS[ours][0] if ours in CONVENTIONS else ours for ours in subject.takes.values()}
    if option not in taken or option in {"divergence", "top", *HOW}:
        return None
    if option == "order" and subject.target.options.get("divergence") != "alpha-divergence":
        return None
    now = subject.target.options.get(option, {"order": 0.5}.get(option, 0.0)) or 0.0
    if option == "epsilon" and now:
        return subject.target.with_options(epsilon=0.6 * now)  # not above 1
    if option == "epsilon_high" and not now:
        now = subject.target.options.get("epsilon") or 0.2
    new = {"label_smoothing": 0.1 if now != 0.1 else 0.2, "order": 0.3 if now != 0.3 else 0.6, "gamma": now + 0.75}
    scale = 1.25 if 1.5 * now == 1 else 1.5  # away from 1, where a factor and its square agree
    return subject.target.with_options(**{option: new.get(option, scale * now if now else 1.0)})


@law(
    "float32",
    "float32 inputs give float32 accuracy",
    claim="objectives-by-name",
    families=(*VALUED, ENTROPY),
    threads=("speculators#788",),
    why="the accuracy of ordinary margins, where `extremes` allows 5e-3",
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
    for batch in [*subject.examples, repeat_tokens(family, subject.examples[-1], 24)]:
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
