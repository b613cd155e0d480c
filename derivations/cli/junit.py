"""One writer of JUnit XML, which CI servers show as test reports."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree


@dataclass(frozen=True)
class Case:
    """One test case: what it is called, how long it took, and what there is to say of it.

    outcome: passed, failure, skipped, or system-out (passed, with words). message: its headline. text: the rest.
    """

    classname: str
    name: str
    seconds: float
    outcome: Literal["passed", "failure", "skipped", "system-out"] = "passed"
    message: str | None = None
    text: str | None = None


def junit(name: str, cases: Sequence[Case], seconds: float, *, can_skip: bool = False) -> str:
    """The suite as XML.

    Args:
        name: of the suite.
        cases: in the order in which they are shown.
        seconds: of the whole suite.
        can_skip: also count what was skipped.
    """
    count = {outcome: str(sum(case.outcome == outcome for case in cases)) for outcome in ("failure", "skipped")}
    facts = {"name": name, "tests": str(len(cases)), "failures": count["failure"], "errors": "0"}
    if can_skip:
        facts["skipped"] = count["skipped"]
    suite = ElementTree.Element("testsuite", facts | {"time": f"{seconds:.3f}"})
    for case in cases:
        element = ElementTree.SubElement(
            suite, "testcase", classname=case.classname, name=case.name, time=f"{case.seconds:.3f}"
        )
        if case.outcome != "passed":
            message = {} if case.message is None else {"message": case.message}
            ElementTree.SubElement(element, case.outcome, message).text = case.text
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"
