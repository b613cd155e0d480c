"""What names take: options and their ranges, regularizers in their command-line form, and what each needs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import sympy as sp

from derivations.names import OBJECTIVES, make_objective, parse_regularizer
from derivations.proofs.names import DIVERGENCES, KINDS, ROWS, TABLE, batch, column, implicit
from derivations.prover.claims import claim
from derivations.prover.kinds import Enumerated, Equal, Step
from derivations.prover.tracing import traced_array
from derivations.regularizers import REGULARIZERS

# the same the other way round: option -> names
TAKERS: dict[str, set[str]] = {
    "alpha": {"maxent", "maxent-pl"},
    "beta": {name for name in TABLE if not name.startswith("maxent")},
    "gamma": {"simpo", "simpo-shannon", "maxent"},
    "label_smoothing": {"cdpo", "f-dpo", "simpo", "simpo-shannon", "maxent"},
    "divergence": {"f-dpo", "f-dpo-pl"},
    "order": {"f-dpo", "f-dpo-pl"},
    "top": {"dpo-pl", "f-dpo-pl", "simpo-pl", "simpo-shannon-pl", "maxent-pl"},
}


def accepted() -> Iterator[tuple[str, str, bool]]:
    """(name, option, whether a call with it is accepted), for all names of the code and of the table."""
    for name in {**OBJECTIVES, **TABLE}:
        for option in TAKERS:
            yield name, option, _accepts(name, option)


def _accepts(name: str, option: str, value: Any = "valid") -> bool:
    """Whether the name takes the option (with this value), by calling it with what it needs and the option on top."""
    strength, takes = TABLE.get(name, ("beta", frozenset()))
    call: dict[str, Any] = {strength: 0.5}
    if name == "cdpo":
        call["label_smoothing"] = 0.1
    if "divergence" in takes:
        call["divergence"] = "alpha-divergence"
    valid = {"divergence": "alpha-divergence", "label_smoothing": 0.1, "top": 1}.get(option, 0.5)
    call[option] = valid if value == "valid" else value
    try:
        make_objective(name, **call)
    except (ValueError, TypeError):
        return False
    return True


def in_table(case: tuple[str, str, bool]) -> bool:
    name, option, taken = case
    return taken == (name in TABLE and option in {TABLE[name][0], *TABLE[name][1]})


def among_takers(case: tuple[str, str, bool]) -> bool:
    name, option, taken = case
    return taken == (name in TAKERS[option])


def with_margin(case: tuple[str, str, bool]) -> bool:
    return case[2] if case[1] == "gamma" else in_table(case)


def without_top(case: tuple[str, str, bool]) -> bool:
    return not case[2] if case[1] == "top" else in_table(case)


NAN = float("nan")
# a value that must be refused -> one beside it that must not
RANGES: dict[tuple[str, str], tuple[tuple[Any, ...], tuple[Any, ...]]] = {
    ("simpo", "beta"): ((0.0, -1.0, float("inf"), NAN, None), (1e-9, 1e9)),
    ("maxent", "alpha"): ((0.0, -1.0, float("inf"), NAN, None), (1e-9, 1e9)),
    ("simpo", "gamma"): ((-0.1, float("inf"), NAN), (0.0, 9.0, None)),
    ("simpo", "label_smoothing"): ((-0.1, 0.5, 1.0, NAN), (0.0, 0.49, None)),
    ("cdpo", "label_smoothing"): ((-0.1, 0.5, None), (0.0, 0.49)),
    ("f-dpo", "divergence"): (("chi-square", "forward_kl", None), ("kl", "jensen-shannon")),
    ("f-dpo", "order"): ((0.0, 1.0, -1.0, 2.0, NAN), (0.01, 0.99, None)),
    ("dpo-pl", "top"): ((0, -1), (1, 2, None)),
}
Refusal = tuple[str, str, Any, bool]


def refusable() -> Iterator[Refusal]:
    """(name, option, value, whether the call is accepted), values out of range and in it."""
    for (name, option), values in RANGES.items():
        for value in (*values[0], *values[1]):
            yield name, option, value, _accepts(name, option, value)


def refused(case: Refusal) -> bool:
    name, option, value, accepts = case
    return accepts == (value in RANGES[name, option][1])


def told_so(case: Refusal) -> bool:
    """The same from inequalities: what the documentation says of each option."""
    name, option, value, accepts = case
    if value is None:
        return accepts == (option in {"gamma", "order", "top"} or (name, option) == ("simpo", "label_smoothing"))
    if option == "divergence":
        return accepts == (value in set(DIVERGENCES))
    low, high, least = {"gamma": (0, 1e300, True), "label_smoothing": (0, 0.5, True), "order": (0, 1, False)}.get(
        option, (1, 99, True) if option == "top" else (0, 1e300, False)
    )
    return accepts == bool((low <= value if least else low < value) and value < high)


def taken(case: Refusal) -> bool:
    return case[3]


@claim(
    "options-by-name",
    "Each name takes its own strength and options and no others, and refuses values out of their ranges.",
    latex=r"\text{name} \mapsto \{\text{strength}, \text{options}\}",
    source="the table of named objectives",
    scope="the 12 names and 7 options, each pair called; values at the ends of every range",
)
def options_by_name() -> list[Step]:
    wrong = {"everything takes a margin": with_margin, "nothing takes top": without_top}
    return [
        Enumerated("calls of every name with every option", accepted, in_table, among_takers, wrong),
        Enumerated(
            "calls with values out of range, or without what is needed", refusable, refused, told_so, {"all": taken}
        ),
    ]


def formulas(text: str, coefficient: float | None, parts: dict[str, tuple[sp.Expr, sp.Expr]]) -> list[Step]:
    """The score of a regularizer from its command-line form, on a batch, against the sum of its parts by hand."""
    regularizer = parse_regularizer(text, coefficient)
    rows = batch(2)
    score = traced_array(
        regularizer.implicit_reward, column(rows, 0), length=column(rows, 1), ref_logp=column(rows, 2)
    ).values.reshape(ROWS, 2)
    return [
        Equal(
            f"{text!r}" + (f" with coefficient {coefficient}" if coefficient is not None else "") + f", row {i + 1}",
            score[i, 1],
            sum(implicit(kind, strength, rows[i][1], a) for kind, (strength, a) in parts.items()) + sp.S.Zero,
        )
        for i in range(ROWS)
    ]


Need = tuple[str, bool, bool, bool, bool, bool, bool]


def needs() -> Iterator[Need]:
    """(name, says that it needs lengths, a reference, whether its formula has them, whether its numbers change with them)."""
    for name in (*REGULARIZERS, "none", "kl=1+entropy=1", "entropy=1+length-normalized=1", "length-normalized=1+kl=1"):
        regularizer = parse_regularizer(name, None if "=" in name or name == "none" else 1.0)
        (response,) = batch(1)[0]
        score = traced_array(
            regularizer.implicit_reward, [response[0]], length=[response[1]], ref_logp=[response[2]]
        ).values[0]
        numbers = [
            float(regularizer.implicit_reward(np.array([-2.0]), length=np.array([n]), ref_logp=np.array([q]))[0])
            for n, q in ((3.0, -1.0), (5.0, -1.0), (3.0, -4.0))
        ]
        changes = numbers[0] != numbers[1], numbers[0] != numbers[2]
        has = score.has(response[1]), score.has(response[2])
        yield (name, regularizer.needs_length, regularizer.needs_reference, *has, *changes)


def as_the_formula(case: Need) -> bool:
    return case[1:3] == case[3:5]


def as_the_numbers(case: Need) -> bool:
    says, changes = case[1:3], case[5:7]
    return all(said == changed for said, changed in zip(says, changes, strict=True))


def needs_nothing(case: Need) -> bool:
    return not (case[3] or case[4])


@claim(
    "regularizer-needs",
    "What a regularizer asks for, lengths and a reference, is what its formula has.",
    latex=r"\text{needs}(\phi) = \{|y|, q\} \cap \phi",
    source="docstrings of derivations.regularizers",
    scope="every name, none, and sums of two",
)
def regularizer_needs() -> list[Step]:
    wrong = {"none needs anything": needs_nothing}
    return [Enumerated("what each says against its formula", needs, as_the_formula, as_the_numbers, wrong)]


def formula_of_a_sum() -> list[Step]:
    """A formula of the user's with a quotient by p + q, on logarithms: the scores' difference between two responses."""
    rows = batch(2)
    score = traced_array(
        parse_regularizer("p*log(p/(p + q))").implicit_reward,
        column(rows, 0),
        length=column(rows, 1),
        ref_logp=column(rows, 2),
    ).values.reshape(ROWS, 2)

    def slope(response: tuple[sp.Expr, sp.Expr, sp.Expr]) -> sp.Expr:
        p, q = sp.exp(response[0]), sp.exp(response[2])
        return sp.log(p / (p + q)) - p / (p + q)

    return [
        Equal(f"'p*log(p/(p + q))', row {i + 1}", score[i, 1] - score[i, 0], slope(row[1]) - slope(row[0]))
        for i, row in enumerate(rows)
    ]


@claim(
    "regularizers-by-name",
    "A regularizer in its command-line form has the implicit reward of its name, its coefficient and its order.",
    latex=r"s_{\text{name}} = \phi'_{\text{name}}",
    source="THEORY 1, table; the command line",
    scope="every name with one coefficient, sums, orders and the default order 1/2; scores of a batch",
)
def regularizers_by_name() -> list[Step]:
    half, third, tenth = sp.Rational(1, 2), sp.Rational(3, 10), sp.Rational(1, 10)
    steps = [step for name in {**REGULARIZERS, "kl": KINDS} for step in formulas(name, 0.3, {name: (third, half)})]
    for text, coefficient, parts in (
        ("kl=0.1", None, {"kl": (tenth, half)}),
        ("alpha-divergence:0.3=0.1", None, {"alpha-divergence": (tenth, third)}),
        ("entropy=0.5+kl=0.1", None, {"entropy": (half, half), "kl": (tenth, half)}),
        ("entropy+kl=0.1", 0.5, {"entropy": (half, half), "kl": (tenth, half)}),
        ("kl=1e+1+length-normalized=0.5", None, {"kl": (sp.Integer(10), half), "length-normalized": (half, half)}),
        (
            "kl=0.1+entropy=0.3+length-normalized=0.5",
            None,
            {"kl": (tenth, half), "entropy": (third, half), "length-normalized": (half, half)},
        ),
        ("3/10*p*log(p)", None, {"entropy": (third, half)}),
        ("beta*p*log(p/q)", 0.3, {"kl": (third, half)}),
        ("none", None, {"none": (half, half)}),
    ):
        steps += formulas(text, coefficient, parts)
    return steps + formula_of_a_sum()
