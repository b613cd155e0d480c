"""From a planted bug that a test suite does not notice to the assertion that would: an input, and what comes of it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from derivations.conformance.batch_laws import PSEUDO
from derivations.conformance.batches import Batch, batch_of, endless, join, pad, refill
from derivations.conformance.calls import CallError
from derivations.conformance.contracts import EACH, Target
from derivations.conformance.families import PAIRS
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.mutants import Mutant
from derivations.conformance.option_laws import moved

FAR = 1e-4  # relative: assertions are written for 1e-5, in any library's precision


@dataclass(frozen=True, eq=False)
class Input:
    """One call: in words, the arrays, and the options."""

    words: str
    batch: Batch
    target: Target


@dataclass(frozen=True, eq=False)
class Assertion:
    """A call whose value, or whose gradient by `leaf`, the bug gets wrong."""

    given: Input
    leaf: str  # empty: the value
    each: bool  # whether the value is one an example

    @property
    def words(self) -> str:
        """What it asserts."""
        return f"{self.given.words}: the {f'gradient by {self.leaf}' if self.leaf else 'loss'} is right"


def inputs(subject: Subject) -> Iterator[Input]:
    """Calls from the plainest on: single examples, a padded batch, NaN under the mask, other options, large margins."""
    family, target = subject.target.family, subject.target
    for number, batch in enumerate(subject.examples):
        yield Input(f"example {number + 1}", batch, target)
    several = join(family, batch_of(family))
    yield Input("a padded batch of unequal lengths", several, target)
    if subject.per_token and "logits" not in subject.names.values():
        dirty = refill(family, pad(family, several, right=1), float("nan"))
        yield Input("NaN under the mask", dirty, target)
        yield Input("padding on the left", pad(family, several, left=2), target)
    changes = [changed for name in target.option_names if (changed := moved(subject, name))]
    for changed in changes:
        name = next(n for n in changed.options if changed.options[n] != target.options.get(n))
        for batch in (subject.examples[2], subject.examples[-1]):
            yield Input(f"another {name}", batch, changed)
    if len(changes) > 1:
        together = {n: v for c in changes for n, v in c.options.items() if v != target.options.get(n)}
        yield Input("all options moved", subject.examples[2], target.with_options(**together))
    if family is PAIRS:
        first = subject.examples[0]
        for words, chosen, rejected in (
            ("won by far", -1.0, -400.0),
            ("lost by far", -400.0, -1.0),
            ("far down", -900.0, -903.0),
            ("won by a margin of five", -1.0, -1.0 - 5 / float(target.options[target.option_names[0]])),
        ):
            yield Input(
                words, first | {"chosen_logps": np.array([[chosen]]), "rejected_logps": np.array([[rejected]])}, target
            )
    if subject.per_token:
        yield Input("responses of 700 tokens", endless(family, 700), target)


def assertions(subject: Subject, mutants: list[Mutant]) -> tuple[dict[Assertion, list[Mutant]], list[Mutant]]:
    """The fewest assertions (greedily) that notice the mutants, and those that no single call shows."""
    found: dict[tuple[int, str], tuple[Assertion, list[Mutant]]] = {}
    for number, given in enumerate(inputs(subject)):
        try:
            right = subject.run(given.batch, target=given.target)
            meant = subject.expect(given.batch, target=given.target)
        except CallError:
            continue
        value = subject.target.family.name not in PSEUDO
        each = subject.target.name in EACH or right.value.ndim == 1
        for leaf in (*(("",) if value else ()), *meant.gradient):
            truth = meant.gradient[leaf] if leaf else np.asarray(meant.value if each else meant.mean)
            own = right.gradient[leaf] if leaf else np.asarray(right.value if each else right.mean)
            if not _near(own, truth):
                continue  # the user's own function is not right there
            caught = [m for m in mutants if not _same_as(m, given, leaf, truth)]
            if caught:
                found[number, leaf] = Assertion(given, leaf, each), caught
    left, chosen = {mutant.bug.pain for mutant in mutants}, {}
    while found and left:
        best = max(found, key=lambda key: (len({m.bug.pain for m in found[key][1]} & left), -key[0]))
        assertion, caught = found.pop(best)
        new = [mutant for mutant in caught if mutant.bug.pain in left]
        if not new:
            break
        chosen[assertion] = new
        left -= {mutant.bug.pain for mutant in new}
    return chosen, [mutant for mutant in mutants if mutant.bug.pain in left]


def _near(found: np.ndarray, truth: np.ndarray) -> bool:
    return found.shape == truth.shape and bool(np.all(np.abs(found - truth) <= FAR * np.maximum(np.abs(truth), 1e-3)))


def _same_as(mutant: Mutant, given: Input, leaf: str, truth: np.ndarray) -> bool:
    """Whether the bug gives what is right on this input; one that raises does not."""
    try:
        result = mutant.subject.run(given.batch, target=given.target)
    except CallError:
        return False
    found = result.gradient[leaf] if leaf else np.asarray(result.value if truth.ndim else result.mean)
    return _near(found, truth)


def as_code(assertion: Assertion, subject: Subject, place: str, number: int, notices: list[Mutant]) -> str:
    """The assertion as a test of pytest that can be pasted: it calls the user's function by its own names."""
    given, family = assertion.given, subject.target.family
    arrays = family.derive({name: subject.backend.array(array) for name, array in given.batch.items()})
    leaf, slopes = _own_leaf(assertion, subject)
    name = place.rpartition(":")[2].rpartition(".")[2]
    lines = [f"def test_{name}_{number}():", f'    """{assertion.words.capitalize()}."""']
    lines += [f"    # notices: {mutant.bug.pain}" for mutant in notices]
    calls = []
    for parameter, ours in subject.names.items():
        extra = ", requires_grad=True" if ours == leaf else ""
        lines.append(f"    {parameter} = {_literal(arrays[ours], extra)}")
        calls.append(f"{parameter}={parameter}")
    options = subject.option_values(given.target) | subject.extras
    calls += [
        f"{parameter}={float(f'{value:.9g}') if isinstance(value, float) else value!r}"
        for parameter, value in options.items()
    ]
    call = f"{name}({', '.join(calls)}){subject.part}"
    if assertion.each and not leaf:
        meant = subject.expect(given.batch, gradient=False, target=given.target)
        lines += [f"    right = {_literal(meant.value, '')}"]
        lines += [f"    torch.testing.assert_close({call}, right, rtol=1e-5, atol=1e-8)"]
        return "\n".join(lines) + "\n"
    lines.append(f"    loss = {call}.mean()")
    if leaf:
        theirs = next(parameter for parameter, ours in subject.names.items() if ours == leaf)
        lines += ["    loss.backward()", f"    right = {_literal(slopes, '')}"]
        lines.append(f"    torch.testing.assert_close({theirs}.grad, right, rtol=1e-4, atol=1e-8)")
    else:
        meant = subject.expect(given.batch, gradient=False, target=given.target)
        lines.append(f"    assert loss.item() == pytest.approx({meant.mean:.9g}, rel=1e-5)")
    return "\n".join(lines) + "\n"


def _own_leaf(assertion: Assertion, subject: Subject) -> tuple[str, np.ndarray | None]:
    """By which of its own arrays it is differentiated, and the right gradient; sums have one for all tokens."""
    leaf, given = assertion.leaf, assertion.given
    if not leaf:
        return "", None
    slopes = subject.expect(given.batch, target=given.target).gradient[leaf]
    if leaf in subject.names.values():
        return leaf, slopes
    mask = given.batch[leaf.replace("logps", "mask")]
    return leaf.replace("logps", "logp"), np.where(mask, slopes, 0.0).sum(-1) / mask.sum(-1)


def _literal(array: object, extra: str) -> str:
    """A tensor as an expression; a long one that is the same everywhere as `torch.full`."""
    values = np.asarray(array.detach() if hasattr(array, "detach") else array)
    dtype = "" if values.dtype.kind in "bi" else ", dtype=torch.float64"
    if values.size > 64 and (values == values.flat[0]).all():
        return f"torch.full({values.shape}, {values.flat[0]}{dtype}{extra})"
    return f"torch.tensor({values.round(9).tolist() if values.dtype.kind == 'f' else values.tolist()}{dtype}{extra})"


HEAD = """from math import inf, nan

import pytest
import torch

"""
