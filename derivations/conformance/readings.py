"""The function with its contract: in a library and a precision that it takes, its arguments read by their usual names.

A name like `policy_chosen_logps` does not say whether sums, means or tokens are meant. The usual reading comes first;
another is taken if the call fails or only then the function is the objective, and the report says which it was.
"""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from derivations.cli.errors import InputError, input_errors
from derivations.conformance.backends import SINGLE, WIDE, NumpyBackend, TorchBackend, make_backend
from derivations.conformance.batch_laws import PSEUDO
from derivations.conformance.batches import Batch, batch_of, examples, join
from derivations.conformance.calls import CallError, loss_of
from derivations.conformance.contracts import family_of
from derivations.conformance.conventions import RENAMED
from derivations.conformance.families import PAIRS
from derivations.conformance.field_names import ENDINGS, WORDS, readings
from derivations.conformance.how import read_off
from derivations.conformance.identify import identify
from derivations.conformance.laws import compare
from derivations.conformance.loading import one_call
from derivations.conformance.loss_under_test import Subject, contract, make_subject, parameters_of
from derivations.conformance.other_masks import one_width

USUALLY_AVERAGED = ("simpo", "simpo-shannon", "ln-dpo")  # what their codes hand over are means


def prepared(
    function: Callable[..., Any],
    objective: str,
    *,
    options: dict[str, Any] | None = None,
    mapping: dict[str, str] | None = None,
    backend: str = "auto",
    timeout: float = 60.0,
) -> Subject:
    """The function with its contract, in a library, a precision and a reading of its names that it takes.

    See `conformance.conform` for the arguments.

    Raises:
        InputError: with the contract, if the function does not fit it or cannot be called.
    """
    with input_errors():
        family = family_of(objective)
    function = one_call(function)
    arrays = family.derive(examples(family)[0])
    ways = readings(parameters_of(function), arrays, mapping or {}, averaged=objective in USUALLY_AVERAGED)
    made, found, failures = make_backend(backend), [], []
    for way in ways:
        try:
            subject = make_subject(
                function, objective, made, options=options, mapping=mapping, timeout=timeout, reading=way
            )
            subject = read_off(_callable(subject, fall_back=backend == "auto"))
        except InputError as error:
            failures.append(error)
            continue
        found.append(subject)
        if _right(subject):
            return _noted(subject, mapping or {})
    if not found:
        raise failures[0]
    if found[1:]:
        found = _identified([subject for subject in found if _takes_a_batch(subject)] or found)
    return _noted(found[0], mapping or {})


def _takes_a_batch(subject: Subject) -> bool:
    """Whether several examples in one batch fit too; one alone may be broadcast by chance.

    Both responses of pairs may have to be padded to one width.
    """
    family = subject.target.family
    whole = join(family, batch_of(family))
    for batch in [whole, one_width(batch_of(family))] if family is PAIRS else [whole]:
        with contextlib.suppress(CallError):
            subject.run(batch)
            return True
    return False


def _identified(found: list[Subject]) -> list[Subject]:
    """Those that were looked at until one had a name; that one first."""
    looked: list[Subject] = []
    for subject in found:
        looked.append(replace(subject, identity=identify(subject)))
        if looked[-1].identity.known:
            return looked[::-1]
    return looked


def _right(subject: Subject) -> bool:
    """Whether it is the objective on single examples and on a batch."""
    family = subject.target.family
    value = family.name not in PSEUDO
    try:
        for batch in (*subject.examples[:4], join(family, batch_of(family))):
            if compare(subject, batch, subject.run(batch), subject.expect(batch), value=value):
                return False
    except CallError:
        return False
    return True


def _noted(subject: Subject, mapping: dict[str, str]) -> Subject:
    """The subject with words for what is read otherwise than it stands."""
    other = {theirs: ours for theirs, ours in subject.names.items() if theirs != ours and theirs not in mapping}
    words = "read " + ", ".join(f"{theirs} as {ours}" for theirs, ours in other.items()) if other else ""
    form = next((form for ours in other.values() for form, ending in ENDINGS.items() if _ends(ours, ending)), "")
    if form:
        words += f" ({WORDS[form]})"
    meant = {name: ours for ours, names in RENAMED.items() for name in names}
    options = ", ".join(f"the option {name} is {meant[name]}" for name in subject.takes.values() if name in meant)
    _, part = loss_of(subject.backend.value(subject.raw, subject.examples[1]))
    where = f"of what it returns, {part} is taken as the loss" if part else ""
    return replace(subject, read="; ".join(filter(None, [words, options, where])), part=part)


def _ends(name: str, ending: str) -> bool:
    """Whether the name is of this form; `mean_logp` ends in `logp` too."""
    return (name == ending or name.endswith(f"_{ending}")) and not (ending == "logp" and name.endswith("mean_logp"))


def _callable(subject: Subject, *, fall_back: bool) -> Subject:
    """The subject with a backend that it accepts: torch if it gives tensors back, in float64 or, for one that takes no
    float64, in float32; else NumPy if that works. InputError if the plainest input already makes it fail.
    """
    batch, failure, ran = subject.examples[1], None, None
    try:
        subject.run(batch)
    except CallError as error:
        failure = error
    if subject.backend.name == "numpy" and not failure:
        return _stepped(subject)
    if failure and subject.backend.name == "torch":
        single = replace(subject, backend=TorchBackend(SINGLE))
        with contextlib.suppress(CallError):
            single.run(batch)
            ran = single
            if _gives_tensors(single, batch):
                return single
    if fall_back and subject.backend.name == "torch" and (failure or not _gives_tensors(subject, batch)):
        other = replace(subject, backend=NumpyBackend())
        with contextlib.suppress(CallError):
            other.run(batch)
            return _stepped(other)
    if ran:
        return ran
    if failure:
        words = f"the function could not be called: {failure}"
        raise InputError(words, below=contract(subject.target.name)) from failure
    return subject


def _gives_tensors(subject: Subject, batch: Batch) -> bool:
    """Whether torch tensors come back; NumPy functions may take them too, and hand back what has no gradient."""
    return hasattr(subject.backend.value(subject.call, batch), "requires_grad")


def _stepped(subject: Subject) -> Subject:
    """With wider differences where it computes in float32."""
    return replace(subject, backend=NumpyBackend(WIDE)) if subject.coarse else subject
