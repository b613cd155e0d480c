"""README and the docs, followed literally: every Python block runs, every command line is one that its program takes.

Commands are really run, in the order of the page and in an empty folder, with options appended that make
them small (`TINY`; the last occurrence of an option wins). Commands of `llm` go as far as the start of the
work: the options are parsed and checked and the data must be there. Targets of make must exist.
"""

import importlib
import math
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from derivations.cli.command_line import run_command

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "how-to").glob("*.md"))]

TINY = {
    ("derivations", "check"): ("--only", "maxent-bradley-terry", "--no-mutants", "--jobs", "1"),
    ("derivations", "book"): ("--no-mutants",),
    ("toybandit", "explore"): ("--no-open", "--seeds", "2"),
    ("toybandit", "run"): ("--seeds", "2", "--steps", "3"),
    ("toybandit", "offline"): ("--seeds", "2", "--steps", "3"),
    ("toybandit", "sweep"): ("--seeds", "2", "--steps", "3", "--backend", "local"),
    ("toybandit", "experiments"): ("--only", "8", "--seeds", "2"),
}
LLM_WORK = (
    "llm.offline.train.train",
    "llm.online.train.online",
    "llm.data.inspect.inspect_data",
    "llm.settings.plan.print_plan",
)
LLM_WORK += ("llm.offline.replay.replay",)
# Shown for being refused, or for a loss that is wrong.
REFUSED = ('derive "beta*q*(p/q - 1)**2/2"', "my_losses.py:simpo_loss", "my_grpo.py:grpo_loss")
# These install, look at what a run left, change the folder, or need an extra (which test_adapters.py tries).
NOT_TRIED = (
    "pip install",
    "head ",
    "source ",
    "cd ",
    "python -m derivations conform derivations.conformance.adapters:",
    "python -m derivations mutate",  # takes its time; tests/derivations tries it
)
# files that a page takes for granted
DATA = ("pairs.jsonl", "rankings.jsonl", "mine.jsonl", "clean.jsonl", "held-out.jsonl", "judged.jsonl")
LOSSES = """
import torch.nn.functional as F
def f(winner_score, loser_score, winner_base, loser_base, beta=0.1):
    return -F.logsigmoid(beta * (winner_score - winner_base - loser_score + loser_base))
"""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """Lines of the shell blocks, without comments."""
    lines = [line for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [shlex.join(line) for line in words if line]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem)
def test_every_python_block_runs_in_the_order_of_the_page(page, capsys):
    plain = [block for block in blocks(page, "python") if ">>>" not in block]  # doctests have a test of their own
    scope: dict[str, object] = {}
    for block in plain:
        exec(compile(block, str(page), "exec"), scope)  # noqa: S102 (our own page)


def test_the_python_example_of_the_readme_prints_the_loss_and_its_formula(capsys):
    block = next(block for block in blocks(ROOT / "README.md", "python") if "SymArray" in block)
    exec(compile(block, "README.md", "exec"), {})  # noqa: S102
    number, formula = capsys.readouterr().out.splitlines()
    # 1e-8: NumPy prints eight digits
    margin = 2.0 / 6 * -12 - 2.0 / 8 * -20 - 0.5
    assert float(number.strip("[]")) == pytest.approx(math.log1p(math.exp(-margin)), abs=1e-8)
    assert {"logp_w", "logp_l"} <= set(re.findall(r"\w+", formula))


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_every_command_line_is_taken_by_its_program(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in DATA:
        Path(name).write_text("{}\n")
    Path("runs/diverged").mkdir(parents=True)
    Path("runs/diverged/diverged.json").write_text("{}")
    Path("losses.py").write_text(LOSSES)
    Path("my_rewards.py").write_text("def polite(text, topic):\n    return 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    for example in (ROOT / "docs" / "examples").glob("*.py"):
        shutil.copy(example, tmp_path)
    shutil.copytree(ROOT / "docs" / "examples", tmp_path / "docs" / "examples")
    for command in commands(page):
        if not command.startswith(NOT_TRIED):
            expected = int(any(part in command.replace("'", '"') for part in REFUSED))
            assert attempt(command, monkeypatch) == expected, f"{page.name}: {command}"


def attempt(command: str, monkeypatch) -> int:
    """Exit status of the command, made small."""
    words = shlex.split(command)
    while "=" in words[0]:  # variables of the environment
        words = words[1:]
    if words[0] == "make":
        return subprocess.run(["make", "-C", ROOT, "-n", *words[1:]], capture_output=True, check=False).returncode
    assert words[0] in ("python", "torchrun", "accelerate"), f"no way to try {command!r}: say in this file how"
    package, *arguments = words[words.index("-m") + 1 :]
    monkeypatch.setattr(sys, "argv", [package, *arguments, *TINY.get((package, arguments[0]), ())])
    handed: list[object] = []
    for place in LLM_WORK:
        monkeypatch.setattr(place, handed.append)
    with pytest.raises(SystemExit) as stop:
        run_command(importlib.import_module(f"{package}.__main__").main)
    assert len(handed) == (package == "llm" and stop.value.code == 0)
    return stop.value.code


def test_a_wrong_option_or_a_missing_target_on_a_page_would_be_noticed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert attempt("make no-such-target", monkeypatch) != 0
    assert attempt("python -m toybandit run --regularizer entrpy", monkeypatch) == 2
    assert attempt("python -m llm train --objektive dpo", monkeypatch) == 2
    assert attempt("python -m llm train --objective dpo --data missing.jsonl", monkeypatch) == 2
