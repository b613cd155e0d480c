"""What `derive --from-score` prints: the conditions with their reasons, the regularizer, and what follows from it."""

from derivations.cli.files import to_json
from derivations.custom.derive import readable
from derivations.custom.from_score import FromScore
from derivations.pages.text import derivation_text


def score_text(found: FromScore) -> str:
    """For people."""
    marks = {True: "holds", False: "FAILS", None: "NOT DECIDED"}
    lines = [f"score            s = {found.text}", "is it the slope of a regularizer?"]
    for condition in found.conditions:
        lines.append(f"  {marks[condition.holds]:11}  {condition.statement} ({condition.how})")
        if not condition.holds:
            lines.append(f"               so {condition.consequence}")
    if found.ok:
        lines.append("yes: the loss is the likelihood of a regularized optimum (claim inverse-master-theorem)")
    else:
        decided = any(condition.holds is False for condition in found.conditions)
        lines.append("no: no regularizer that meets the master theorem has this slope" if decided else "not decided")
    if found.ok:
        unknown = "integral of s from 1/2 to p, for which no formula was found"
        lines.append(f"regularizer      phi(p) = {unknown if found.phi is None else readable(found.phi)}")
    if found.derivation is None or not found.ok:
        return "\n".join(lines) + "\n"
    return "\n".join([*lines, "", f"what follows from it:\n{derivation_text(found.derivation)}"])


def score_json(found: FromScore) -> str:
    """For machines."""
    facts = {
        "ok": found.ok,
        "score": found.text,
        "conditions": found.conditions,
        "phi": None if found.phi is None else readable(found.phi),
    }
    return to_json(facts, indent=2) + "\n"
