"""How far: numbers, ranges, sizes and special cases of a sentence against those of its steps and traced calls."""

import re
from collections.abc import Iterable, Sequence

import sympy as sp

from derivations.prover.enumerations import Enumerated
from derivations.prover.equality import Equal
from derivations.prover.limits import TendsTo
from derivations.prover.steps import Step
from derivations.prover.theorems import Argued
from derivations.prover.tracing import Call
from derivations.prover.wrong_versions import PARTNERS

COUNTS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
PARTS = {
    **{"twice": 2, "double": 2, "doubles": 2, "half": 2, "halves": 2, "thrice": 3, "third": 3, "quarter": 4},
    **{"fourth": 4, "fifth": 5, "sixth": 6, "eighth": 8, "tenth": 10},
}
# digits, but not those of a name or an equation's number; parts and multiples in words, but not what counts things
NUMBER = re.compile(
    rf"(?<![\w.])\d+(?![\w.]*:)|(?<=[*/^(])\d+|\b(?:{'|'.join(PARTS)})\b|\b(?:{'|'.join(COUNTS)})(?= times\b)",
    re.IGNORECASE,
)
IN_LATEX = re.compile(r"(?<![\w.\\^_])(?<![\^_]\{)(?<![\^_]\{-)\d+")
RANGE = re.compile(r"(?<![\w|)^_])([A-Za-z]\w*) ?(>=|≥|>) ?(-?\d+)")
FRACTION = re.compile(r"(?<![\w./^])(\d+) ?/ ?(\d+)(?![\w/])")
NONNEGATIVE = re.compile(
    r"\b(?:non-?negative|not negative) (?:margin |strength )?([A-Za-z]\w*)\b|\b([A-Za-z]\w*) that is not negative\b"
)
MEANT = {"margin": "gamma", "margins": "gamma", "temperature": "alpha"}  # a word for the symbol that has no other name
REAL = re.compile(r"\breal (?:number |margin |strength )?([A-Za-z]\w*)\b")
UP = r"(?:grows?|increases?|rises?|tends? to infinity|goes to infinity|becomes large|-> ?(?:oo|infinity|∞))"
DOWN = r"(?:falls?|decreases?|shrinks?|vanish(?:es)?|tends? to (?:0|zero)|goes to (?:0|zero)|becomes small|-> ?0)"
COUNTED = {2: r"two|2|pairs?|pairwise", 3: r"three|3", 4: r"four|4", 5: r"five|5", 6: r"six|6", 8: r"eight|8"}
COUNTED_AT_ALL = r"\bm\b|\bn\b|\bk\b|batch\w*|(?:counter)?example|grid|some"
UNDER_A_CONDITION = re.compile(
    r"\b(?:if|when|where|wherever|while|unless|once|at|above|below|ahead|behind|beyond|under|sides?|ties?|up to)\b",
    re.IGNORECASE,
)
EQUATED = re.compile(
    r"\b(?:equal\w*|same (?:length|reference|reward|score|log|prob|polic)\w*|one (?:length|arm)|common|uniform|ties?"
    r"|at (?:the|its) (?:reference|start|end|optimum|top)|agree|even|zero margin)\b|=",
    re.IGNORECASE,
)
CONDITION = re.compile(
    rf"{UNDER_A_CONDITION.pattern}|{EQUATED.pattern}|\b(?:one|with|without|no|alone|start|from|on)\b", re.IGNORECASE
)


def numbers(title: str, steps: Sequence[Step]) -> list[str]:
    """A number of the sentence, 2 or more, stands in a step: in its formulas, or in how it counts its cases."""
    words = " ".join(step.statement for step in steps)
    parts, over = _in_formulas(steps)
    there = {0, 1, *parts, *over, *_numbers(words).values()}
    missing = [f"{word!r}, a number" for word, value in _numbers(title).items() if value not in there]
    missing += [
        f"{said[0]!r}, a fraction"
        for said in FRACTION.finditer(title)
        if said[1] != "0" and said[0] not in words and not any(number % int(said[2]) == 0 for number in over)
    ]
    return [f"it says {what} that no step has" for what in missing]


def numbers_of_formula(latex: str, steps: Sequence[Step]) -> list[str]:
    """A number of the claim's formula, no exponent or index, stands in a step; enumerations have none to look at."""
    if any(isinstance(step, Enumerated) for step in steps):
        return []
    words = " ".join(step.statement for step in steps)
    there = {0, 1}.union(*_in_formulas(steps), map(int, re.findall(r"\d+", words)), _numbers(words).values())
    missing = {int(number) for number in IN_LATEX.findall(latex)} - there
    return [f"its formula has {number}, a number that no step has" for number in sorted(missing)]


def _in_formulas(steps: Sequence[Step]) -> tuple[set[int], set[int]]:
    """Numerators and denominators of the numbers in the formulas of the steps."""
    found = {number for step in steps for expr in step.expressions() for number in expr.atoms(sp.Rational)}
    return {abs(int(number.p)) for number in found}, {int(number.q) for number in found}


def _numbers(text: str) -> dict[str, int]:
    """The numbers of a text, as they are written and as they are."""
    values = COUNTS | PARTS
    return {found[0]: values.get(found[0].lower()) or int(found[0]) for found in NUMBER.finditer(text)}


def ranges(text: str, steps: Sequence[Step]) -> list[str]:
    """What is said for gamma >= 0 was not decided for gamma > 0, nor what is said of a real one for a positive one."""
    symbols: dict[str, set[sp.Symbol]] = {}
    for symbol in {symbol for step in steps for expr in step.expressions() for symbol in expr.free_symbols}:
        symbols.setdefault(symbol.name, set()).add(symbol)
    said = [(found[1], found[2], int(found[3]), found) for found in RANGE.finditer(text)]
    said += [(found[1], ">", -(10**9), found) for found in REAL.finditer(text)]
    said += [(found[1] or found[2], ">=", 0, found) for found in NONNEGATIVE.finditer(text)]
    return [
        f"it says {found[0]!r}, and the steps take {symbol} {'> 0' if symbol.is_positive else '>= 0'}"
        for name, relation, value, found in said
        for symbol in symbols.get(MEANT.get(name, name), ())
        if (symbol.is_positive and (value < 0 or (value == 0 and relation != ">")))
        or (symbol.is_nonnegative and value < 0)
    ]


def approach(title: str, steps: Sequence[Step]) -> list[str]:
    """Where a sentence says that a symbol grows or vanishes, the limit in it is taken there."""
    wrong = []
    limits = [step for step in steps if isinstance(step, TendsTo)]
    for symbol in {step.symbol for step in limits}:
        places = {step.place for step in limits if step.symbol == symbol}
        for way, words, at in (("grows", UP, sp.oo), ("vanishes", DOWN, sp.S.Zero)):
            small = rf"|\bfor {'large' if at == sp.oo else 'small'} (?:\w+ )?{re.escape(symbol.name)}\b"
            said = rf"\b(?:as|when|for|if) (?:\w+ )?{re.escape(symbol.name)} {words}{small}"
            if at not in places and re.search(said, title, re.IGNORECASE):
                wrong.append(f"it says that {symbol} {way}, and the limit is taken at {', '.join(map(str, places))}")
    return wrong


def sizes(text: str, steps: Sequence[Step], calls: Sequence[Call]) -> list[str]:
    """How many rewards the code was traced with is said, if no step has a symbol for any number of them."""
    if any(step.every for step in steps) or any(isinstance(step, Argued) and step.by == "induction" for step in steps):
        return []
    found = {len(values) for call in calls for name, values in call.arguments if name == "rewards" and len(values) > 1}
    words = [COUNTED.get(size, str(size)) for size in found]
    if not found or re.search(rf"\b(?:{'|'.join(words)}|{COUNTED_AT_ALL})\b", text, re.IGNORECASE):
        return []
    return [f"the code was traced with {', '.join(map(str, sorted(found)))} rewards, and the claim does not say so"]


def conditions(text: str, steps: Sequence[Step]) -> list[str]:
    """What was decided under a condition, or where two things are equal, is said so, by the claim or the step."""
    wrong = []
    for step in steps:
        given = step.given if isinstance(step, Equal) else {}
        said = f"{text} {step.statement}"
        if given and not CONDITION.search(said):
            wrong.append(f"{step.statement}: decided under a condition, and neither the claim nor the step names one")
        elif any(getattr(value, "is_Symbol", False) for value in given.values()) and not EQUATED.search(said):
            wrong.append(f"{step.statement}: decided where two things are equal, and neither the claim nor it says so")
    return wrong


def special(text: str, calls: Sequence[Call], replaced: Iterable[tuple[sp.Expr, sp.Expr]] = ()) -> list[str]:
    """A call at one length for both, or with one log-prob always ahead of the other, is a case; the claim says so."""
    wrong = []
    for call in calls:
        lengths = call.given(re.compile(r"(chosen|rejected)_length"))
        if len(lengths) == 2 and len(set(lengths)) == 1 and not re.search(r"length|token|\|[wly]\|", text):
            wrong.append(f"{call.function.name} was traced with one length for both, and the claim does not say so")
        pair = call.given(re.compile(r"(chosen|rejected)_(logp|reward)"))
        if len(pair) == 2 and _ahead(*pair) and not UNDER_A_CONDITION.search(text):
            wrong.append(f"{call.function.name} was traced with {pair[0]} beside {pair[1]}, a case that is not said")
    for old, new in replaced:
        partners = {symbol for symbol in new.free_symbols if PARTNERS.get(symbol.name) == getattr(old, "name", "")}
        if any(_ahead(symbol, new) for symbol in partners) and not UNDER_A_CONDITION.search(text):
            wrong.append(f"{old} was replaced by {new}, a case that is not said")
    return sorted(set(wrong))


def _ahead(one: sp.Expr, other: sp.Expr) -> bool:
    """Whether they share a real symbol and one is above the other whatever the symbols are."""
    gap = one - other
    shared = one.free_symbols & other.free_symbols
    return (
        bool(shared) and any(not symbol.is_positive for symbol in shared) and bool(gap.is_positive or gap.is_negative)
    )
