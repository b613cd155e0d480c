"""What a trial of a loss looks like: to people (failing laws first) and to machines (JSON, JUnit)."""

import re
import textwrap
from collections.abc import Callable
from typing import Any

from derivations.cli.files import to_json
from derivations.cli.junit import Case, junit
from derivations.conformance import Conformance, Trial
from derivations.conformance.far import FAR
from derivations.conformance.laws import Failure, Skip, option_words
from derivations.conformance.ratio_profile import NOT_FAR


def headline(outcome: Conformance, place: str) -> str:
    """The verdict in one line."""
    objective, failed = outcome.subject.target.name, len(outcome.broken)
    given = {name: value for name, value in outcome.subject.target.options.items() if value not in (None, "given")}
    options = ", ".join(option_words(name, value) for name, value in given.items())
    asked = f"{objective} ({options})" if options else objective
    if outcome.ok:
        return f"{place} conforms to {asked}"
    if outcome.unsafe_mask:
        return f"{place} computes {asked}; unsafe under a mask with inf or NaN"
    return f"{place} does NOT conform to {asked}: {failed} law{'s' * (failed > 1)} broken"


def identity_words(outcome: Conformance) -> str:
    """What it computes; a function that is as named on the small examples and still breaks laws says which."""
    words, named = str(outcome.identity), f"{outcome.subject.target.name} as named"
    if outcome.ok and not outcome.identity.known:
        return f"{outcome.subject.target.name}, by an estimator that is none of the usual ones"
    far = next((each for each in (FAR, NOT_FAR) if each in words), "")
    near, _, where = words.partition(far) if far else (words, "", "")
    only_near = far and len(outcome.identity.terms) == 1
    if outcome.ok or outcome.unsafe_mask or not (words.startswith(named) and (outcome.identity.plain or only_near)):
        return words
    breaks = ", ".join(trial.law.id for trial in outcome.broken)
    return f"{near} on small examples, but breaks: {breaks}" + (f"{far.replace('; but', ';')}{where}" if far else "")


def printable(text: str) -> str:
    """Control characters, which XML and terminals refuse, and lone surrogates, which no encoding has, as escapes."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]", lambda m: ascii(m[0])[1:-1], text)


def as_text(outcome: Conformance, place: str) -> str:
    """Broken laws first, then what it is, then advice, then the rest in two lines."""
    passed = [trial.law.id for trial in outcome.trials if not trial.failed and not trial.skipped]
    backend = outcome.subject.backend
    skipped = [f"{t.law.id} ({t.verdict.reason})" for t in outcome.trials if isinstance(t.verdict, Skip)]
    lines = [headline(outcome, place), f"it computes: {identity_words(outcome)}"]
    lines += [*_wrapped(outcome.subject.read), ""] if outcome.subject.read else [""]
    for trial in [*outcome.broken, *outcome.advice]:
        lines += [*_block(trial), ""]
    lines += _wrapped("passed", ", ".join(passed) or "none")
    if skipped:
        lines += _wrapped("skipped", "; ".join(skipped))
    return "\n".join(lines) + f"\n{backend.name}, {backend.dtype}, {outcome.seconds:.1f} s\n"


def _block(trial: Trial) -> list[str]:
    """One law that fails: what it says, the input, both sides, where to read on."""
    failure = trial.verdict
    assert isinstance(failure, Failure)  # noqa: S101
    mark = "BROKEN" if trial.law.kind == "verdict" else "advice"
    lines = _wrapped(f"{mark}  {trial.law.id}", trial.law.says, first=": ")
    for name, words in (("input", failure.given), ("expected", failure.expected), ("found", failure.found)):
        lines += _wrapped(f"  {name}", words)
    lines += _wrapped("  claim", f"{trial.law.claim} (python -m derivations show {trial.law.claim})")
    if trial.law.links:
        lines += _wrapped("  reported", " ".join(trial.law.links))
    return lines


def _wrapped(name: str, words: str = "", first: str = "") -> list[str]:
    head = f"{name}{first}" if first or not words else f"{name:11} "
    return textwrap.wrap(head + words, 116, subsequent_indent=" " * 12, break_long_words=False, break_on_hyphens=False)


def as_json(outcome: Conformance, place: str) -> str:
    """Everything as data; the schema is `{ok, function, objective, options, identity, laws: [...]}`."""
    return to_json(_plain(outcome, place), indent=2) + "\n"


def _plain(outcome: Conformance, place: str) -> dict[str, Any]:
    identity = outcome.identity
    return {
        "ok": outcome.ok,
        "unsafe_mask": outcome.unsafe_mask,
        "function": place,
        "objective": outcome.subject.target.name,
        "options": outcome.subject.target.options,
        "read": outcome.subject.read,
        "backend": outcome.subject.backend.name,
        "dtype": outcome.subject.backend.dtype,
        "seconds": round(outcome.seconds, 3),
        "identity": {
            "known": identity.known,
            "words": identity_words(outcome),
            "terms": [{"coefficient": coefficient, "term": term} for coefficient, term in identity.terms],
            "residual": identity.residual,
        },
        "laws": [_law(trial) for trial in sorted(outcome.trials, key=_order)],
    }


def _order(trial: Trial) -> int:
    """Broken laws first, then advice, then what passed, then what was skipped."""
    if trial.failed:
        return 0 if trial.law.kind == "verdict" else 1
    return 3 if trial.skipped else 2


def _law(trial: Trial) -> dict[str, Any]:
    status = {0: "broken", 1: "advice", 2: "passed", 3: "skipped"}[_order(trial)]
    found: dict[str, Any] = {
        "id": trial.law.id,
        "kind": trial.law.kind,
        "status": status,
        "says": trial.law.says,
        "claim": trial.law.claim,
        "links": list(trial.law.links),
        "seconds": round(trial.seconds, 4),
    }
    if isinstance(trial.verdict, Failure):
        found |= {"input": trial.verdict.given, "expected": trial.verdict.expected, "found": trial.verdict.found}
    if isinstance(trial.verdict, Skip):
        found["reason"] = trial.verdict.reason
    return found


def as_junit(outcome: Conformance, place: str) -> str:
    """One test case a law; advice is a passing case with its words in system-out."""
    cases = [_case(trial, place) for trial in sorted(outcome.trials, key=_order)]
    return junit(f"conform {outcome.subject.target.name}", cases, outcome.seconds, can_skip=True)


def _case(trial: Trial, place: str) -> Case:
    named = place, trial.law.id, trial.seconds
    if isinstance(trial.verdict, Skip):
        return Case(*named, "skipped", trial.verdict.reason)
    if not isinstance(trial.verdict, Failure):
        return Case(*named)
    text = "\n".join(_block(trial))
    if trial.law.kind != "verdict":
        return Case(*named, "system-out", text=text)
    return Case(*named, "failure", f"expected {trial.verdict.expected}; found {trial.verdict.found}", text)


def _printed(report: Callable[[Conformance, str], str]) -> Callable[[Conformance, str], str]:
    return lambda outcome, place: printable(report(outcome, place))


FORMATS = {name: _printed(report) for name, report in (("text", as_text), ("json", as_json), ("junit", as_junit))}
