"""What a sentence says against what its steps are about: objectives by name, quantifiers, and its own condition."""

import re
from collections.abc import Callable, Iterable, Sequence

import sympy as sp

from derivations.prover.conditions import EnumeratedIff, Iff
from derivations.prover.inequality import Differs
from derivations.prover.steps import Step
from derivations.prover.theorems import Argued
from derivations.prover.tracing import Call, Traced

UNIVERSAL = re.compile(
    r"\b(any|every|each|all|arbitrary|whatever the)\s+(finite\s+|possible\s+)?"
    r"(number|numbers|size|sizes|count|m|k|n|rankings?)\b"
    r"|\brankings? of (any|every|all|arbitrary) lengths?\b|\bhowever (many|long)\b|\barbitrar(y|ily) (many|long)\b"
    r"|\bno matter how (many|long)\b|\b[mnkK] ?(>=|>|≥) ?\d|\b[mnk] = \d, \d[\d, ]*, ?\.\.\."
    r"|\b[mnkK] (responses|samples|tokens|pairs|arms|places)\b",
    re.IGNORECASE,
)
ANY_SET = re.compile(
    r"\b(any|every|all|each)\s+(finite\s+|countable\s+|infinite\s+)*"
    r"(Y|response sets?|sets? of responses|data sets?)\b"
)
CASE = re.compile(r"\b[mknKN] ?= ?(\d+)|\b(\d+) (?:responses|samples|tokens|pairs|arms|places)\b")
EXACTLY = re.compile(
    r"\bif and only if\b|\biff\b|\b(?:exactly|precisely|only) (?:if|when|where)\b|\b(?:nowhere|never) else\b",
    re.IGNORECASE,
)
ALONE = re.compile(
    r"\bunique(ly|ness)?\b|\b(exactly|at most) one\b|\bone and only\b|\bthe (only|sole|one)\b|\b(no other|only for)\b",
    re.IGNORECASE,
)
LEAVES_ONE = {"Iff", "EnumeratedIff", "strict concavity", "tangent", "intermediate value", "linear flow", "jensen"}
EXISTS = re.compile(
    r"\bexists?\b|\bhas (?:a|one|exactly one) (?:\w+ )?(?:minimum|maximum|minimi[sz]er|maximi[sz]er|optimum)\b",
    re.IGNORECASE,
)
MAKES_ONE = {"Iff", "EnumeratedIff", "extreme value", "recession", "intermediate value"}
FOUND = re.compile(r"\bgradient descent\b|\bSGD\b|\bconverges?\b|\bends? (?:at|in)\b|\breaches\b", re.IGNORECASE)
ARRIVES = {"gradient descent", "linear flow"}
EXTREME = re.compile(
    r"\b(?<!\bno )(?:maximi[sz]|minimi[sz])(?:es?|ers?)\b|\b(?:largest|smallest)\b"
    r"|\b(?:has|is|at) (?:its|the|an?) (?:optimum|minimum|maximum)\b",
    re.IGNORECASE,
)
IS_EXTREME = LEAVES_ONE | MAKES_ONE | {"Curved", "Enumerated", "convex slope", "convex sums", "gradient descent"}
# what a sentence says, which kinds of step or theorem can give it, and what they do
PROMISES = (
    (ALONE, LEAVES_ONE, "leaves one alone: an exact condition, or"),
    (EXISTS, MAKES_ONE, "shows that there is one: an exact condition, or"),
    (FOUND, ARRIVES, "says where a path ends:"),
    (EXTREME, IS_EXTREME, "shows that nothing is larger, or smaller, which a vanishing slope does not:"),
)
WORD = re.compile(r"[a-z]+|\d+")
SMALL_WORDS = {
    *("a", "an", "the", "of", "in", "on", "at", "by", "for", "and", "s"),
    *("its", "it", "what", "that", "this", "one", "other", "first", "second"),
}

# what a sentence calls an objective, and which traced code is about it
OFFLINE = r"make_objective|Objective\.\w+"
NAMED = {
    r"DPO(?!-)|direct preference optimi[sz]ation": rf"objectives\.(dpo|{OFFLINE})|regularizers\.KL\.\w+",
    r"SimPO|simple preference optimi[sz]ation": rf"objectives\.(simpo|{OFFLINE})|regularizers\.Length\w+\.\w+",
    r"IPO|identity preference optimi[sz]ation": rf"objectives\.(ipo_\w+|{OFFLINE})",
    r"RLOO|leave[- ]one[- ]out": r"objectives\.rloo_advantage|off_policy\.rloo_ratio",
    r"k1": r"objectives\.(kl_k1|kl_estimate)",
    r"k2": r"objectives\.(kl_k2|kl_estimate)",
    r"k3": r"objectives\.(kl_k3|kl_estimate)",
    r"PPO": r"off_policy\.(ppo_clip|grpo|clipped\w*)",
    r"GRPO": r"off_policy\.\w+|advantages\.\w+",
    r"GSPO": r"off_policy\.(gspo|sequence_ratios)",
    r"CISPO": r"off_policy\.cispo",
    r"KTO": r"preference_losses\.kto",
    r"ORPO": r"preference_losses\.orpo",
    r"SPPO": r"preference_losses\.sppo",
    r"APO": r"preference_losses\.apo_\w+",
    r"WPO": r"preference_losses\.wpo",
    r"SLiC": r"preference_losses\.slic",
    r"chi-?PO": r"preference_losses\.chi_po",
    r"R-DPO": r"preference_losses\.r_dpo",
    r"LN-DPO|length-normalized DPO": r"preference_losses\.ln_dpo",
    r"DPOP|DPO-Positive": r"preference_losses\.dpop",
    r"Rao-Kupper": rf"preferences\.rao_kupper\w*|objectives\.(pair_loss|simpo|{OFFLINE})",
    r"Bradley-Terry": r"preferences\.(bradley_terry|rao_kupper|plackett_luce)|objectives\.\w+",
    r"Plackett-Luce": rf"preferences\.plackett_luce|objectives\.(ranking_\w+|{OFFLINE})",
    r"MaxEnt|maximum[- ]entropy": r"regularizers\.\w+\.\w+|objectives\.\w+",
}  # fmt: skip

# what a sentence may say of every ..., and which arguments of a traced call are that
QUANTITIES = {
    r"lengths?": re.compile(r".*length"),
    r"strengths?|temperatures?|alpha|beta": re.compile(r"alpha|beta"),
    r"references?": re.compile(r"ref(_.*)?|ref_.*"),
    r"margins?|gamma": re.compile(r"gamma|margin"),
}


def quantifier(title: str, scope: str, steps: Sequence[Step]) -> list[str]:
    """Examples decide examples: "any number" needs a step with a symbol for any number (`every`).

    Beside numbered cases that step must be the one by which an induction goes on from them.
    """
    cases = {number for step in steps for number in CASE.findall(step.statement)}
    found = UNIVERSAL.search(f"{title} {scope}") or ANY_SET.search(title)
    if found is None and len(cases) > 1:
        found = ANY_SET.search(scope)
    if not found:
        return []
    general = [step for step in steps if step.decided and step.every]
    if not general:
        return [f"it says {found[0]!r}, but no decided step has a symbol that stands for any number (`every`)"]
    numbered = [step for step in steps if CASE.search(step.statement)]
    if len(cases) > 1 and not any(_goes_on(step, numbered, general) for step in steps):
        return [f"it says {found[0]!r} and decides cases, but no induction goes on from a case by a step with `every`"]
    return []


def _goes_on(step: Step, numbered: Sequence[Step], general: Sequence[Step]) -> bool:
    """Whether it is an induction that uses a general step."""
    if not isinstance(step, Argued) or step.by not in ("induction", "summation", "baseline", "convex sums"):
        return False
    return any(other.statement.startswith(use) for use in step.uses for other in general)


def names(title: str, traced: Iterable[Traced]) -> list[str]:
    """A sentence about an objective must be about its code."""
    return [f"the sentence names {said}, but no code of {said} was traced" for said in without_code(title, traced)]


def without_code(title: str, traced: Iterable[Traced]) -> list[str]:
    """The objectives that a sentence names and that none of these functions is."""
    code = [f"{function.module}.{function.name}" for function in traced]
    return [
        said[0]
        for name, pattern in NAMED.items()
        if (said := re.search(rf"\b({name})\b", title, re.IGNORECASE))
        and not any(re.fullmatch(pattern, function) for function in code)
    ]


def promised(title: str) -> set[str]:
    """The kinds of step and the theorems that would give what a sentence promises; none if it promises nothing."""
    return set().union(*(kinds for words, kinds, _ in PROMISES if words.search(title)))


def promises(
    title: str,
    kinds_here: set[str],
    argued: Iterable[Argued] = (),
    depends_on: Sequence[str] = (),
    kinds_of: Callable[[str], set[str]] = lambda name: set(),
) -> list[str]:
    """A sentence that says there is one alone, that there is one, or that training finds it needs a step that gives it.

    kinds_here: the kinds of its steps and the theorems it applies. argued: its steps in words; one that says the same
    and rests on another claim has what that claim's steps give, `kinds_of` its id (asked for only then: it takes that
    claim's proof).
    """
    wrong = []
    for words, kinds, what in PROMISES:
        said = words.search(title)
        if not said or kinds & kinds_here:
            continue
        used = {use for step in argued if words.search(step.statement) for use in step.uses if use in depends_on}
        if not any(kinds & kinds_of(use) for use in used):
            wrong.append(f"it says {said[0]!r}, and no step {what} {', '.join(sorted(kinds))}")
    return wrong


def refuted(title: str, expected: str, steps: Sequence[Step]) -> list[str]:
    """What is refuted is what the sentence says: a step's statement names both sides in words of the sentence.

    Written as "where: one side against the other", or "one side is the other" of an exact condition.
    """
    if expected != "refuted":
        return []
    known = set(WORD.findall(title.lower())) | SMALL_WORDS
    named = [step.statement.rpartition(": ")[2].lower() for step in steps if isinstance(step, Differs | Iff)]
    sides = [re.split(r" against | is ", statement) for statement in named]
    if any(len(two) == 2 and all(_meant(side, known) for side in two) for two in sides):
        return []
    return [
        "no step refutes what the sentence says: its statement has to name both sides, `one against the other`, in "
        f"words of the sentence, and there is {' and '.join(map(repr, named)) or 'none'}"
    ]


def _meant(side: str, known: set[str]) -> bool:
    """Whether all that a side is called is in the sentence, and not only small words."""
    words = set(WORD.findall(side))
    return words <= known and bool(words - SMALL_WORDS)


def calls(
    title: str,
    scope: str,
    made: Sequence[Call],
    steps: Sequence[Step] = (),
    replaced: Sequence[tuple[sp.Expr, sp.Expr]] = (),
) -> list[str]:
    """What is said of every length was decided for lengths that are free: symbols, different ones, and left so.

    replaced: what substitutions put in the place of what. A number is an example, if a step is decided without it.
    """
    wrong = []
    decided = [step.identity() if isinstance(step, Iff) else step for step in steps if step.decided]
    left = {symbol for step in decided for expression in step.expressions() for symbol in expression.free_symbols}
    for words, pattern in QUANTITIES.items():
        said = re.search(
            rf"\b(any|every|all|each|whatever the|arbitrary)\s+(pair of\s+|two\s+)?({words})\b", f"{title} {scope}"
        )
        for function in sorted({call.function for call in made}) if said else ():
            given = [call.given(pattern) for call in made if call.function == function]
            given = [values for values in given if values]
            if given and not any(map(_free, given)):
                wrong.append(
                    f"it says {said and said[0]!r}, but {function.module}.{function.name} was only traced with "
                    f"{', '.join(sorted({str(value) for values in given for value in values}))}"
                )
            symbols = {value for values in given for value in values}
            wrong += [
                f"it says {said and said[0]!r}, but {old} was replaced by {new}"
                for old, new in replaced
                if old in symbols and (new in symbols or (not new.free_symbols and old not in left))
            ]
    return wrong


def _free(values: Sequence[sp.Expr]) -> bool:
    return all(value.free_symbols for value in values) and len(set(values)) == len(values)


def condition(title: str, expected: str, steps: Sequence[Step]) -> list[str]:
    """A sentence that states an exact condition states the one that was computed."""
    said = EXACTLY.search(title)
    if not said:
        return []
    exact = [step for step in steps if isinstance(step, Iff | EnumeratedIff)]
    if not exact:
        return [f"the sentence says {said[0]!r}, and no step (`Iff`, `EnumeratedIff`) decides an exact condition"]
    tail = title[said.end() :].strip().rstrip(".").lower()
    computed = [EXACTLY.split(step.condition)[-1].strip().lower() for step in exact]
    if tail in computed:
        return []
    return [f"the sentence says {said[0]!r} {tail!r}, and what was computed is {' and '.join(map(repr, computed))}"]
