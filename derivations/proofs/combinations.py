"""What texts and options mean together: a regularizer's text term by term, and options that exclude each other."""

import re
from collections.abc import Iterator
from typing import Any

from derivations.names import make_objective, parse_regularizer
from derivations.objectives import Objective
from derivations.prover.claims import claim
from derivations.prover.kinds import Enumerated, Step
from derivations.regularizers import KL, Entropy, terms

Parts = tuple[tuple[str, float, float | None], ...]
# text and coefficient -> name, strength and order of each part; None: it is refused
TEXTS: dict[tuple[str, float | None], Parts | None] = {
    ("entropy=0.5 + kl=0.1", None): (("entropy", 0.5, None), ("kl", 0.1, None)),
    ("entropy + kl=0.1", 0.0): (("entropy", 0.0, None), ("kl", 0.1, None)),
    ("kl", 0.0): (("kl", 0.0, None),),
    ("kl=0", None): (("kl", 0.0, None),),
    ("alpha-divergence:0.25", 0.5): (("alpha-divergence", 0.5, 0.25),),
    ("alpha-divergence=0.5", None): (("alpha-divergence", 0.5, 0.5),),
    ("kl=-0.1", None): None,
    ("entropy=0.5+kl=-0.1", None): None,
    ("kl", -0.1): None,
    ("kl", None): None,
    ("kl=0.1", 0.0): None,
    ("kl=0.1", 0.5): None,
    ("kl=0.1+none", None): None,
    ("kl=nan", None): None,
    ("kl=inf", None): None,
    ("kl:0.3=0.1", None): None,
    ("forward-kl:0.3=0.1", None): None,
    ("alpha-divergence:1=0.1", None): None,
    ("alpha-divergence:-0.3=0.1", None): None,
}
TERM = re.compile(
    r"\s*(?:entropy|kl|length-normalized(?:-shannon)?|forward-kl|jensen-shannon|alpha-divergence(?::0\.\d+)?)"
    r"(?P<given>=\d+(?:\.\d+)?)?\s*"
)
Text = tuple[str, float | None, Parts | None]


def texts() -> Iterator[Text]:
    """(text, coefficient, what it is read as)."""
    for text, coefficient in TEXTS:
        try:
            read = terms(parse_regularizer(text, coefficient))
        except ValueError:
            yield text, coefficient, None
        else:
            yield text, coefficient, tuple((part.name, part.coefficient, getattr(part, "order", None)) for part in read)  # type: ignore[attr-defined]


def as_in_table(case: Text) -> bool:
    return case[2] == TEXTS[case[:2]]


def by_grammar(case: Text) -> bool:
    """Refused unless every part is one of the grammar's, and one without a strength stands beside a coefficient."""
    text, coefficient, read = case
    parts = [TERM.fullmatch(part) for part in text.split("+")]
    whole = [part for part in parts if part is not None]
    bare = any(not part["given"] for part in whole)
    good = len(whole) == len(parts) and bare == (coefficient is not None) and (coefficient or 0) >= 0
    return (read is not None and len(read) == len(parts)) == good


def all_read(case: Text) -> bool:
    return case[2] is not None


ALPHA = "alpha-divergence"
# what is called with what, and whether it is accepted
TOGETHER: tuple[tuple[str, dict[str, Any], bool], ...] = (
    ("f-dpo", {"beta": 1.0, "divergence": "kl", "order": 0.3}, False),
    ("f-dpo", {"beta": 1.0, "divergence": "forward-kl", "order": 0.5}, False),
    ("f-dpo-pl", {"beta": 1.0, "divergence": "jensen-shannon", "order": 0.3}, False),
    ("f-dpo", {"beta": 1.0, "divergence": ALPHA, "order": 0.3}, True),
    ("cdpo", {"beta": 1.0, "label_smoothing": 0.0}, True),
    ("simpo", {"beta": 1.0, "gamma": 0.0, "label_smoothing": 0.0}, True),
    ("dpo-pl", {"beta": 1.0, "top": 0}, False),
    ("a ranking", {"listwise": True}, True),
    ("a ranking", {"listwise": True, "gamma": 0.1}, False),
    ("a ranking", {"listwise": True, "label_smoothing": 0.1}, False),
    ("a ranking", {"listwise": True, "least_squares": True}, False),
    ("a ranking", {"listwise": True, "top": 2}, True),
    ("a pair", {"top": 2}, False),
    ("a pair", {"gamma": 0.1, "label_smoothing": 0.1}, True),
    ("a pair", {"least_squares": True}, True),
    ("a pair with entropy", {"least_squares": True}, False),
)
Call = tuple[int, bool]


def together() -> Iterator[Call]:
    """(row of the table, whether the call is accepted)."""
    for row, (name, options, _) in enumerate(TOGETHER):
        regularizer = Entropy(1.0) if "entropy" in name else KL(1.0)
        try:
            Objective(name, regularizer, **options) if " " in name else make_objective(name, **options)
        except ValueError:
            yield row, False
        else:
            yield row, True


def as_told(case: Call) -> bool:
    return case[1] == TOGETHER[case[0]][2]


def by_rule(case: Call) -> bool:
    """What excludes what: an order other divergences, a ranking what only pairs have, squares all but KL."""
    name, given, _ = TOGETHER[case[0]]
    listwise = given.get("listwise", False) or name.endswith("-pl")
    excluded = (
        ("order" in given and given["divergence"] != ALPHA)
        or (listwise and any(given.get(o) for o in ("gamma", "label_smoothing", "least_squares")))
        or ("top" in given and not (listwise and given["top"] > 0))
        or (given.get("least_squares") and name.endswith("entropy"))
    )
    return case[1] != bool(excluded)


def everything(case: Call) -> bool:
    return case[1]


@claim(
    "options-together",
    "A regularizer's text means its terms with their strengths and orders, and what excludes each other is refused.",
    latex=r"\text{text} \mapsto (\text{name}, \text{strength}, \text{order})_i",
    source="THEORY 1, table; the command line; docstrings of derivations.names and derivations.objectives",
    scope="the texts and calls of two tables",
    depends_on=("options-by-name",),
)
def options_together() -> list[Step]:
    return [
        Enumerated("texts", texts, as_in_table, by_grammar, {"all of them are read": all_read}),
        Enumerated("calls", together, as_told, by_rule, {"all of them are accepted": everything}),
    ]
