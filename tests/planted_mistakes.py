"""Mistakes planted in the ground floor, by hand and every flipped sign: each must be caught, by `check` or by a test.

Run as `make mutation` (minutes); prints each mistake with the claims or the test that caught it and exits with 1 if one
was not caught; `--no-flips` leaves the flipped signs out. `tests/derivations/test_mutation.py` runs a few in the test
suite.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from planted_table import KINDS, PLANTED, Mistake

ROOT = Path(__file__).parents[1]
# file -> the claims that look at its signs, in this order
FLIPPED = {
    "objectives": ("*-on-batches", "loss-slopes"),
    "preferences": ("*-on-batches",),
    "regularizers": ("*-on-batches", "implicit-reward-slopes"),
    "slopes": (
        "loss-slopes",
        "tests/toybandit/test_toybandit_offline.py::test_slopes_are_what_autograd_finds_for_the_ground_floor_s_own_functions",
    ),
    "advantages": ("group-mean-shrinks",),
    "tokens": ("*entropy*", "soft-bellman"),
    "best_of_n": ("best-of-n",),
}


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
        yield Mistake(
            f"line {row + 1}: {lines[row].strip()}  ({sign} -> {wrong})",
            file,
            source,
            "".join(changed),
            FLIPPED[file][0],
        )


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
        if ast.unparse(node.right).startswith("namespace(logp).zeros_like("):
            return None
        row = node.left.end_lineno - 1
        text = lines[row]
        for column in range(node.left.end_col_offset, len(text)):
            if text[column] in "+-":
                return row, column
    return None


def caught_by(mistake: Mistake, folder: Path, only: str = "") -> list[str]:
    """Claims, or the test, that fail when the mistake is in the code, in a fresh copy of the package inside `folder`.

    only: claims to look at, in place of those that the mistake names.
    """
    shutil.copytree(ROOT / "derivations", folder / "derivations", ignore=shutil.ignore_patterns("__pycache__"))
    target = folder / "derivations" / f"{mistake.file}.py"
    source = target.read_text()
    if mistake.right not in source:
        raise ValueError(f"{mistake.words}: the right code is not in {target.name} (any more)")
    target.write_text(source.replace(mistake.right, mistake.wrong, 1))
    by = only or mistake.by
    return _failing_test(by, folder) if by.startswith("tests/") else _failing_claims(by, folder)


def _failing_claims(only: str, folder: Path) -> list[str]:
    command = [sys.executable, "-m", "derivations", "check", "--no-mutants", "--only", only]
    command += ["--format", "json", "--output", str(folder / "checks.json")]
    run = _run(command, folder)
    if run.returncode not in (0, 1) or not (folder / "checks.json").exists():
        raise RuntimeError(f"the check broke off: {run.stderr}")
    report = json.loads((folder / "checks.json").read_text())
    return [c["id"] for c in report["claims"] if c["verdict"] == "failed" and not _only_rests(c["problems"])]


def _failing_test(name: str, folder: Path) -> list[str]:
    """The test, if it fails on the copy: the tests lie beside it, the other packages are linked."""
    for package in ("toybandit", "llm", "benchmarks", "docs"):
        (folder / package).symlink_to(ROOT / package)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pyproject.toml").write_text("")
    run = _run([sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", name], folder)
    if run.returncode not in (0, 1):
        raise RuntimeError(f"the test broke off: {run.stdout[-2000:]}{run.stderr[-2000:]}")
    return [name] if run.returncode else []


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def _only_rests(problems: list[str]) -> bool:
    return all(problem.startswith("rests on") for problem in problems)


def main() -> int:
    missed = by_check = 0
    flips = [flip for file in FLIPPED for flip in sign_flips(file)]
    cases = [(kind, mistake) for kind, mistakes in KINDS.items() for mistake in mistakes]
    cases += [] if "--no-flips" in sys.argv else [("flipped signs", flip) for flip in flips]
    for number, (kind, mistake) in enumerate(cases, start=1):
        found: list[str] = []
        for only in FLIPPED[mistake.file] if kind == "flipped signs" else ("",):
            with tempfile.TemporaryDirectory() as folder:
                found = found or caught_by(mistake, Path(folder), only)
        missed += not found
        by_check += bool(found) and not found[0].startswith("tests/")
        told = ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")
        print(f"{number:3} {kind:16} {mistake.file:17} {mistake.words[:70]:70} {told or 'NOT CAUGHT'}", flush=True)
    print(f"{len(cases)} mistakes ({len(PLANTED)} planted by hand): {by_check} caught by `check`, "
          f"{len(cases) - by_check - missed} by a named test, {missed} not caught")  # fmt: skip
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
