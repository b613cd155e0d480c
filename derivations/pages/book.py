"""The book: every claim as a page that Sphinx with MyST reads, written from a run of the checks.

`index.md` opens with what the paper says and what is true, then the dependency graph; each chapter has
its claims with formula, verdict, scope, steps and counterexamples; `source.md` shows the traced
functions, so that a reader sees the very lines a proof is about.
"""

import ast
from pathlib import Path

from derivations.cli.errors import InputError
from derivations.cli.files import write_text
from derivations.pages import text as report
from derivations.pages.graph import draw_graph
from derivations.proofs import CHAPTERS
from derivations.prover.claims import Result
from derivations.prover.kinds import Step
from derivations.prover.shown import decided_by, formulas
from derivations.prover.tracing import Traced
from derivations.rocq.kernel import Verdict
from derivations.rocq.report import note, whole

PACKAGE = Path(__file__).parents[1]
VERDICTS = {
    "proved": "decided",
    "iff": "decided with an exact condition",
    "refuted": "refuted as written",
    "failed": "FAILED",
}
HOW_TO_READ = """\
A proof is a list of steps, and each shows what was decided: its equation or inequality, the condition it stands
under, and for which values of its symbols. A *decided* step was settled by a procedure (algebraic normal form:
equality in a field of rational functions over independent exponentials and logarithms, positive coefficients, an
exact counterexample, a limit by Gruntz's algorithm, exhaustive enumeration), shown to be defined for all those
values, and confirmed by a second procedure, ball arithmetic: numbers with rigorous error bounds evaluate each side
of an equation by itself, power series of them every derivative. *The same expression on both sides* means that the
two sides became equal when they were written down; no algebra was left to decide. An *argued* step applies a named
theorem to steps or claims that it names. An "if and only if" is computed from the zeros of a product. A *mutant* is
a wrong version of a step, made systematically from its formula; the check must refute every one that is not
provably the same. Traced code was not copied into the proof: it was run on symbols. Where *Rocq's kernel* is named,
it accepted these identities too, as lemmas with the hypotheses of the claim (what SymPy made of the code and of
derivatives is where they start), and a theorem without any step in words is the whole sentence.

No machine reads English. The check holds a sentence against its steps where that is possible: the objectives it
names must have been traced, "any number" needs a symbol for any number, "every length" lengths that stay free, "if
and only if" the computed condition, "unique" a step that leaves one alone, "has a minimum" or "converges" a theorem
that gives one. A theorem needs steps of the kind it needs, convexity the sign of a second derivative, and its
conclusion must say what it gives; what it says of an objective must rest on steps that change with its code. "Rises",
"convex" and "above" must not point the other way than the sign that was decided, and what "rises" needs the sign of
a derivative, not two values. Of what is refuted, a step must name both sides in the words of the sentence, and each
objective named there must change it. A number of the sentence or of the formula above the steps, a range (gamma >= 0)
and a case (one length for both) must be those of the steps; "largest", "tight", "from both sides", "jointly convex",
"swapping", "by default" and "bits" need steps of the form that shows it; what another claim gives counts where a step
in words rests on it and says so; and a sentence that is not about slopes must notice a constant more in the code.

What no machine notices: a sentence that goes beyond its steps in other words than these; words of a step that say
something else than its formula, which stands beside them; an expectation that was decided and is told of one sample; a
gradient that was taken with a weight held constant, under the name of the whole gradient; a theorem that is named and
does not apply though its steps are of the right kind. Those the reader decides; so every formula is printed."""
TITLE = "# The book of claims"
# what the paper says, what is true, the claims that show it
STORY = (
    (
        "exp(r/α)/Z is the optimum of maximum-entropy RL",
        "true, by two independent proofs",
        ("maxent-optimal-policy", "maxent-stationarity"),
    ),
    (
        "with Bradley-Terry preferences its log-probabilities are rewards, without Z",
        "true for a constant α: Z cancels",
        ("maxent-bradley-terry", "multiplier-cancels"),
    ),
    (
        "put α = β/|y| there, and SimPO appears",
        "not as written: (β/|w| − β/|l|) log Z is left over, and vanishes only for equal lengths or Z = 1",
        ("length-normalized-temperature", "normalizing-by-shift"),
    ),
    (
        "so SimPO is maximum-entropy RL",
        "true after a repair: SimPO's loss is the likelihood of the reward for which the policy is optimal under a "
        "length-weighted generalized entropy; Shannon's adds an offset",
        ("repair-generalized", "repair-shannon", "simpo-objective"),
    ),
    (
        "γ is a target margin",
        "it can be read as the tie threshold of Rao and Kupper; where ties were thrown away the margin loss overstates "
        "differences",
        ("margin-rao-kupper", "margin-discarded-ties", "margin-overstates"),
    ),
    (
        "rankings work alike",
        "true: Plackett-Luce sees only differences, so the multiplier cancels; decided by name for four responses, "
        "factor by factor for any number",
        ("plackett-luce-normalized", "multiplier-cancels", "rankings-by-name"),
    ),
    (
        "entropy does not regularize towards the reference, KL does",
        "true and exact for natural gradient: entropy forgets the reference as κ = 1 − ατ, KL keeps κ = 1",
        ("maxent-is-kl-with-bonus", "retention-law", "retention-limits"),
    ),
    (
        "SimPO works offline without a reference",
        "explained for a tabular policy: with equal lengths offline training does not move the logits of unseen "
        "responses",
        ("dpo-leaves-unseen", "simpo-leaves-unseen", "offline-limit"),
    ),
    (
        "an entropy bonus is −log π of the samples",
        "differentiated as it stands it has no gradient at all",
        ("entropy-bonus-without-gradient", "token-entropy-drops-prefix"),
    ),
)


def write_book(results: list[Result], folder: Path, kernel: Verdict | None = None) -> None:
    """Write the pages into `folder`, which is made if need be. Raises InputError where it cannot.

    kernel: what Rocq says of the claims, for a row of their tables (None: it was not asked).
    """
    index = folder / "index.md"
    if index.exists() and not index.read_text(encoding="utf-8", errors="replace").startswith(TITLE):
        raise InputError(f"{index} exists and is not a book of claims; choose another folder")
    write_text(index, _index(results))
    for chapter, title in CHAPTERS.items():
        claims = [result for result in results if result.claim.chapter == chapter]
        write_text(
            folder / f"{chapter}.md",
            "\n".join([f"# {title}", "", *(line for r in claims for line in _claim(r, kernel))]),
        )
    traced = sorted({function for result in results for function in result.traced})
    write_text(folder / "source.md", _source(traced))


def _index(results: list[Result]) -> str:
    by_id = {result.claim.id: result for result in results}
    lines = [
        TITLE,
        "",
        "What the paper *Failure Modes of Maximum Entropy RLHF* (arXiv:2509.20265) says, and what is true. "
        "Every verdict below was computed by the run of the checks that wrote this page.",
        "",
        "| the paper says | what is true | verdicts |",
        "|---|---|---|",
    ]
    for says, truth, names in STORY:
        links = "<br>".join(f"{{ref}}`{name} <{name}>`: {VERDICTS[by_id[name].verdict]}" for name in names)
        lines.append(f"| {_cell(says)} | {_cell(truth)} | {links} |")
    lines += [
        "",
        "## How to read a claim",
        "",
        HOW_TO_READ,
        "",
        f"This run: {report.summary(results, None)}.",
        "",
        "```{toctree}",
        ":maxdepth: 1",
        "",
        *CHAPTERS,
        "source",
        "```",
        "",
        "## What rests on what",
        "",
        "An arc runs from a claim to a later one that uses it.",
        "",
        "```{raw} html",
        draw_graph(results),
        "```",
        "",
    ]
    return "\n".join(lines)


def _claim(result: Result, kernel: Verdict | None = None) -> list[str]:
    claim, tally = result.claim, result.mutants
    plural = "s" * (result.argued > 1)
    verdict = VERDICTS[result.verdict] + (f", {result.argued} step{plural} argued" if result.argued else "")
    verdict += f": {report.condition(result)}" if result.condition else ""
    rows = [
        ("verdict", f"**{_cell(verdict)}**"),
        ("hypotheses", _cell(claim.hypotheses)),
        ("scope", _cell(claim.scope)),
        ("method", _cell(report.method(result))),
        ("source", _cell(claim.source)),
        ("rests on", ", ".join(f"{{ref}}`{name} <{name}>`" for name in claim.depends_on) or "nothing else"),
        ("traced code", ", ".join(f"{{ref}}`{_place(t)} <{_label(t)}>`" for t in result.traced) or "none"),
        ("mutants", f"{tally.refuted} of {tally.made} refuted, {len(tally.equivalent)} proved equivalent"),
    ]
    if kernel is not None:
        words = note(kernel.steps.get(claim.id, []), whole(kernel, claim.id))
        rows.append(("Rocq's kernel", _cell(words)))
    lines = [
        f"({claim.id})=",
        f"## {claim.id}",
        "",
        f"**{_prose(claim.title)}**",
        "",
        "$$",
        _display(claim.latex),
        "$$",
        "",
    ]
    lines += ["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows), ""]
    lines += [f":::{{dropdown}} The proof: {len(result.steps)} steps", ""]
    lines += [line for step in result.steps for line in _step(step)]
    lines += [f"- **PROBLEM** {_prose(problem)}" for problem in result.problems]
    return [*lines, ":::", ""]


def _display(latex: str) -> str:
    """The formula set large: fractions at full size, brackets that grow."""
    for small, large in (
        (r"\tfrac", r"\frac"),
        (r"\Big(", r"\left("),
        (r"\Big[", r"\left["),
        (r"\Big)", r"\right)"),
        (r"\Big]", r"\right]"),
    ):
        latex = latex.replace(small, large)
    return latex


def _step(step: Step) -> list[str]:
    lines = [f"- *{'decided' if step.decided else 'argued'}*: {_prose(step.statement)}"]
    lines += [f"  <br>{_code(line)}" for line in formulas(step)]
    return [*lines, f"  <br>by {_prose(decided_by(step))}"]


def _code(text: str) -> str:
    """A formula in plain text, set as code."""
    return f"`{text.replace('`', '')}`"


def _prose(text: str) -> str:
    """Plain text as Markdown: nothing in it is markup."""
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]<>#|$~" else letter for letter in text)


def _cell(text: str) -> str:
    return _prose(text).replace("\n", " ")


def _place(function: Traced) -> str:
    return f"{function.module}.{function.name}"


def _label(function: Traced) -> str:
    return f"source-{function.module}-{function.name}".lower()


def _source(traced: list[Traced]) -> str:
    """The traced functions, with file and line."""
    lines = ["# The traced code", "", "The functions that the proofs call with symbols, as they are.", ""]
    for function in traced:
        path = PACKAGE / f"{function.module.replace('.', '/')}.py"
        text = path.read_text(encoding="utf-8")
        node = next(
            node
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef) and _first(node) == function.line
        )
        body = text.splitlines()[function.line - 1 : node.end_lineno]
        lines += [
            f"({_label(function)})=",
            f"## {_place(function)}",
            "",
            f"`derivations/{path.name}`, line {function.line}",
            "",
        ]
        lines += ["```{code-block} python", f":lineno-start: {function.line}", "", *body, "```", ""]
    return "\n".join(lines)


def _first(node: ast.FunctionDef) -> int:
    """First line of a definition, decorators included, as code objects count it."""
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
