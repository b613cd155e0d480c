"""Twenty mistakes planted by hand in the ground floor, and every flipped sign: each must be caught by `check`.

Run as `make mutation` (a few minutes); prints each mistake with the claims that caught it and exits with 1
if one was not caught. `tests/derivations/test_mutation.py` runs a few of them in the test suite.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Mistake:
    """In `file`, `right` (which occurs there) becomes `wrong`."""

    words: str
    file: str
    right: str
    wrong: str


PLANTED = (
    Mistake("length normalization left out", "regularizers", "return (self.coefficient / length) * logp\n", "return self.coefficient * logp\n"),
    Mistake("multiplied by the length instead", "regularizers", "return (self.coefficient / length) * logp\n", "return (self.coefficient * length) * logp\n"),
    Mistake("generalized entropy without its -p", "regularizers", "(namespace(logp).exp(logp) * (logp - 1))", "(namespace(logp).exp(logp) * logp)"),
    Mistake("Shannon form without its + 1", "regularizers", "(self.coefficient / length) * (logp + 1)", "(self.coefficient / length) * logp"),
    Mistake("KL weighted with the reference", "regularizers", "namespace(logp).exp(logp) * (logp - ref_logp)", "namespace(logp).exp(ref_logp) * (logp - ref_logp)"),
    Mistake("forward KL with the ratio upside down", "regularizers", "namespace(logp).exp(ref_logp - logp)", "namespace(logp).exp(logp - ref_logp)"),
    Mistake("Jensen-Shannon's other slope", "regularizers", "return self.coefficient * (log_sigmoid(log_u) -", "return self.coefficient * (log_sigmoid(-log_u) -"),
    Mistake("order forgotten in the divisor", "regularizers", "(logp - ref_logp)) / self.order)", "(logp - ref_logp)))"),
    Mistake("a sum that counts its first part twice", "regularizers", "sum((part.score(logp, length=length, ref_logp=ref_logp) for part in self.parts)", "sum((self.parts[0].score(logp, length=length, ref_logp=ref_logp) for part in self.parts)"),
    Mistake("gamma added instead of subtracted", "preferences", "rejected_reward - gamma)", "rejected_reward + gamma)"),
    Mistake("winner and loser swapped", "preferences", "return log_sigmoid(chosen_reward - rejected_reward)\n", "return log_sigmoid(rejected_reward - chosen_reward)\n"),
    Mistake("ties of theta instead of theta squared", "preferences", "2 * width + xp.log(-xp.expm1(-2 * width))", "width + xp.log(-xp.expm1(-width))"),
    Mistake("Plackett-Luce over all responses at every place", "preferences", "logsumexp(rewards[..., k:], axis=-1)", "logsumexp(rewards, axis=-1)"),
    Mistake("the last place counted once more than seen", "preferences", "m - 1 if top is None else top", "m - 1"),
    Mistake("label smoothing that flips only the reward difference", "objectives", "log_sigmoid(-(chosen_reward - rejected_reward - gamma))", "log_sigmoid(rejected_reward - chosen_reward - gamma)"),
    Mistake("IPO's target 1 / beta", "objectives", "rejected_reward - 0.5) / beta", "rejected_reward - 1.0) / beta"),
    Mistake("SimPO normalizes both by the chosen length", "objectives", "regularizer.score(rejected_logp, length=rejected_length)", "regularizer.score(rejected_logp, length=chosen_length)"),
    Mistake("group-mean baseline", "objectives", " * (k / (k - 1))", ""),
    Mistake("the shaped reward pays for the regularizer", "objectives", "return reward - regularizer.score", "return reward + regularizer.score"),
    Mistake("k3 as loss", "objectives", '"loss": kl_k2', '"loss": kl_k3'),
)  # fmt: skip


def sign_flips(file: str) -> Iterator[Mistake]:
    """Each binary + or - and each unary minus of a file in turn, in code that computes (not in checks and messages)."""
    source = (ROOT / "derivations" / f"{file}.py").read_text()
    lines = source.splitlines(keepends=True)
    for node in _computing(ast.parse(source)):
        place = _sign(node, lines)
        if place is None:
            continue
        row, column = place
        sign = lines[row][column]
        wrong = "+" if sign == "-" else "-"
        changed = [*lines[:row], lines[row][:column] + wrong + lines[row][column + 1 :], *lines[row + 1 :]]
        yield Mistake(f"line {row + 1}: {lines[row].strip()}  ({sign} -> {wrong})", file, source, "".join(changed))


def _computing(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below, without the conditions of `if` and without what joins strings."""
    yield node
    for child in ast.iter_child_nodes(node):
        joins = isinstance(child, ast.BinOp) and any(isinstance(part, ast.JoinedStr) for part in ast.walk(child))
        if not joins and not (isinstance(node, ast.If) and child is node.test):
            yield from _computing(child)


def _sign(node: ast.AST, lines: list[str]) -> tuple[int, int] | None:
    """Row and column of the sign of a node; None where there is none, or flipping it changes no formula."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        return node.lineno - 1, node.col_offset
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        row = node.left.end_lineno - 1
        text = lines[row]
        for column in range(node.left.end_col_offset, len(text)):
            if text[column] in "+-":
                return row, column
    return None


def caught_by(mistake: Mistake, folder: Path, only: str = "*") -> list[str]:
    """Claims that fail when the mistake is in the code, in a fresh copy of the package inside `folder`."""
    shutil.copytree(ROOT / "derivations", folder / "derivations", ignore=shutil.ignore_patterns("__pycache__"))
    target = folder / "derivations" / f"{mistake.file}.py"
    source = target.read_text()
    if mistake.right not in source:
        raise ValueError(f"{mistake.words}: the right code is not in {target.name} (any more)")
    target.write_text(source.replace(mistake.right, mistake.wrong, 1))
    command = [sys.executable, "-m", "derivations", "check", "--no-mutants", "--only", only]
    command += ["--format", "json", "--output", str(folder / "checks.json")]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if run.returncode not in (0, 1):
        raise RuntimeError(f"{mistake.words}: the check broke off: {run.stderr}")
    report = json.loads((folder / "checks.json").read_text())
    return [c["id"] for c in report["claims"] if c["verdict"] == "failed" and not _only_rests(c["problems"])]


def _only_rests(problems: list[str]) -> bool:
    return all(problem.startswith("rests on") for problem in problems)


def main() -> int:
    missed = 0
    flips = [flip for file in ("objectives", "preferences", "regularizers") for flip in sign_flips(file)]
    for number, mistake in enumerate((*PLANTED, *flips), start=1):
        with tempfile.TemporaryDirectory() as folder:
            claims = caught_by(mistake, Path(folder))
        missed += not claims
        told = ", ".join(claims[:4]) + (f" and {len(claims) - 4} more" if len(claims) > 4 else "")
        print(f"{number:3} {mistake.file:12} {mistake.words[:90]:90} {told or 'NOT CAUGHT'}", flush=True)
    print(f"{len(PLANTED)} planted mistakes and {len(flips)} flipped signs, {missed} not caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
