"""Every identity and every sign among the steps of a claim as a lemma for the kernel, with its proof.

A lemma quantifies over the symbols of the step and assumes what the claim declares of them, and nothing else: positive,
a token count (at least 1), a probability in (0, 1). Its proof rewrites exponentials and logarithms by their
certificates and ends with `field`, whose nonzero denominators are shown from these assumptions.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import sympy as sp

from derivations.prover.claims import Claim
from derivations.prover.kinds import Equal, Iff, Positive, Step
from derivations.rocq.certificates import Certificates, FinerKernels
from derivations.rocq.formulas import Names, Node, NotClosed, NotExpressible, read

ONE, MINUS_ONE = Node("number", (), sp.S.One, "1"), Node("number", (), sp.S.NegativeOne, "(-1)")
HEADER = """\
(* Written by derivations.rocq.identities from the steps of the claims; each lemma is one step. *)
Require Import Reals Lra Identities.
Open Scope R_scope.
"""


@dataclass(frozen=True)
class Lemma:
    """A step of a claim in Rocq. number: of the step in its claim, from 1. same: both sides print alike."""

    claim: str
    number: int
    statement: str
    name: str
    source: str
    same: bool


def lemmas(claim: Claim, steps: list[Step]) -> Iterator[tuple[int, Lemma | NotExpressible]]:
    """For each identity and sign among the steps its number, and its lemma or why it has none."""
    for number, step in enumerate(steps, start=1):
        step = step.identity() if isinstance(step, Iff) else step  # the product whose zeros are the condition
        if isinstance(step, Equal | Positive):
            try:
                yield number, lemma(claim.id, number, step)
            except NotExpressible as error:
                yield number, error


def lemma(claim: str, number: int, step: Equal | Positive) -> Lemma:
    """The lemma of one identity (lhs = rhs) or sign (0 < expr), with its proof. Raises NotExpressible."""
    names, unit = Names(), frozenset(step.unit)
    conditions = step.given if isinstance(step, Equal) else {}
    given = {symbol: read(sp.sympify(value), names) for symbol, value in conditions.items()}
    sides = (step.lhs, step.rhs) if isinstance(step, Equal) else (step.expr,)
    nodes = tuple(read(sp.sympify(side), names, given) for side in sides)
    certificates = _certificates(names, unit, (*nodes, *given.values()))
    obligations = _condition(given, unit, certificates) + _obligations(nodes, certificates)
    same = len(nodes) == 2 and nodes[0].text == nodes[1].text
    if len(nodes) == 1:
        last, end = f"0 < {nodes[0].text}", _positive(nodes[0], certificates)
    else:
        last = f"{nodes[0].text}\n  = {nodes[1].text}"
        end = "reflexivity" if same else f"{certificates.moves(nodes)}field_nz"
    symbols = sorted(set().union(*map(_symbols, (*nodes, *given.values()))), key=lambda s: names[s])
    variables = f"({' '.join(names[s] for s in symbols)} : R) " if symbols else ""
    facts = "".join(f"{fact} -> " for symbol in symbols for fact in _facts(symbol, names[symbol], unit))
    goal = "".join(f"{obligation}\n  /\\ " for obligation, _ in obligations) + last
    name = f"{re.sub(r'[^A-Za-z0-9_]', '_', claim)}__{number}"
    lines = [
        f"(* {claim}, step {number}: {_comment(step.statement)} *)",
        f"Lemma {name} {variables}: {facts}\n  {goal}.",
        "Proof.\n  intros.",
    ]
    if not same or any("replace" in proof for _, proof in obligations):
        for node, rewriting in certificates.rewritings.items():
            label = certificates.label(node)
            lines.append(f"  assert ({label} : {rewriting.kernel} = {rewriting.form}).\n  {{ {rewriting.proof} }}")
    lines += [f"  split; [{proof}|]." for _, proof in obligations]
    lines.append(f"  {end}.\nQed.\n")
    return Lemma(claim, number, step.statement, name, "\n".join(lines), same)


def _certificates(names: Names, unit: frozenset[sp.Symbol], nodes: tuple[Node, ...]) -> Certificates:
    """How the kernels of these formulas are rewritten, with exponents divided as finely as they need."""
    scale = 1
    while True:
        certificates = Certificates(names, unit, scale)
        try:
            for node in nodes:
                certificates.reduce(node)
            return certificates
        except FinerKernels as found:
            scale *= found.denominator


def _symbols(node: Node) -> set[sp.Symbol]:
    found = {node.value} if node.op == "symbol" else set()
    return found.union(*(_symbols(arg) for arg in node.args))


def _facts(symbol: sp.Symbol, name: str, unit: frozenset[sp.Symbol]) -> list[str]:
    """What the claim declares of a symbol."""
    if symbol in unit:
        return [f"0 < {name} < 1"]
    if symbol.is_positive:
        return [f"1 <= {name}"] if symbol.is_integer else [f"0 < {name}"]
    return [f"0 <= {name}"] if symbol.is_nonnegative else []


def _obligations(sides: tuple[Node, ...], certificates: Certificates) -> list[tuple[str, str]]:
    """That the formulas are defined: no denominator is 0, every logarithm's argument is positive; each with its proof.

    Rocq's functions are total, with a value of no meaning where mathematics has none, so an identity alone would not
    say this. Raises NotClosed where it does not follow from the assumptions.
    """
    found: dict[str, str] = {}
    for side in sides:
        for node in sorted(side.powers() | side.kernels(), key=lambda node: (len(node.text), node.text)):
            if node.op == "exp" or (node.op == "^" and node.value > 0):
                continue
            inside = node.args[0]
            if node.op == "ln":
                found[f"0 < {inside.text}"] = _positive(inside, certificates)
            elif certificates.is_positive(-certificates.reduce(inside)):
                moved = f"replace {inside.text} with ((-1) * ({certificates.product(-certificates.reduce(inside))}))"
                found[f"{inside.text} <> 0"] = f"first [solve [nz]|{moved} by ({_field(inside, certificates)}); nz]"
            else:
                proof = _positive(inside, certificates, "nonzero")
                found[f"{inside.text} <> 0"] = f"apply positive_nonzero; {proof}"
    return list(found.items())


def _condition(
    given: dict[sp.Symbol, Node], unit: frozenset[sp.Symbol], certificates: Certificates
) -> list[tuple[str, str]]:
    """That what a condition puts in the place of a symbol is what the claim declares the symbol to be."""
    found: dict[str, str] = {}
    for symbol, node in given.items():
        if symbol.is_integer and not _is_integer(node):
            raise NotClosed(f"{node.text} is not known to be an integer")
        if symbol.is_positive or symbol in unit:
            found[f"0 < {node.text}"] = _positive(node, certificates, f"positive, as {symbol} is")
        if symbol in unit:
            text = f"(1 + ((-1) * {node.text}))"
            rest = Node("+", (ONE, Node("*", (MINUS_ONE, node), None, f"((-1) * {node.text})")), None, text)
            found[f"0 < {text}"] = _positive(rest, certificates)
    return list(found.items())


def _is_integer(node: Node) -> bool:
    """A sum or product of integers."""
    if node.op in "+*":
        return all(map(_is_integer, node.args))
    return bool(not node.args and node.value.is_integer)


def _positive(node: Node, certificates: Certificates, word: str = "positive") -> str:
    """The proof that a formula is positive: as it stands, or as a product. Raises NotClosed where that is not known."""
    reduced = certificates.reduce(node)
    if not certificates.is_positive(reduced):
        raise NotClosed(f"{node.text} is not known to be {word}")
    moved = f"replace {node.text} with ({certificates.product(reduced)}) by ({_field(node, certificates)})"
    return f"first [solve [pos]|{moved}; pos]"


def _field(node: Node, certificates: Certificates) -> str:
    return f"{certificates.moves((node,))}field_nz"


def _comment(text: str) -> str:
    """Words that may stand in a Rocq comment: no quotes, no comment marks."""
    return text.replace('"', "'").replace("(*", "( *").replace("*)", "* )")
