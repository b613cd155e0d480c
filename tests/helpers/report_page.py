"""The report's page from stages made small: the very commands of `make report`, on the tiny model and few seeds."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from derivations.cli.command_line import run_command
from derivations.cli.files import write_json
from derivations.prover.claims import Claim, Result

ROOT = Path(__file__).parents[2]
SMALL = {
    ("derivations", "check"): ("--jobs", "1"),
    ("toybandit", "run"): ("--seeds", "3", "--steps", "30"),
    ("llm.experiments.live", "offline"): ("--steps", "2"),
    # the tiny model writes no English, so its gold reward is the share of letters
    ("llm.experiments.live", "online"): ("--steps", "2", "--gold", "tests.helpers.llm_golds:letters"),
}


def run_small(words: tuple[str, ...], model: Path, patch: pytest.MonkeyPatch) -> None:
    """One stage's command (without its interpreter), in this process, with options appended that make it small."""
    package, *arguments = words[1:]
    small = (*SMALL[package, arguments[0]], *(("--model", str(model)) if package.startswith("llm") else ()))
    patch.setattr(sys, "argv", [package, *arguments, *small])
    with pytest.raises(SystemExit) as ended:
        run_command(importlib.import_module(package if "." in package else f"{package}.__main__").main)
    assert ended.value.code == 0, words


def make_page(folder: Path, model: Path, claims: list[Result]) -> Path:
    """Run every stage in `folder` and write its page, with these results of all claims; returns the page's path."""

    def checked(chosen: list[Claim], *, mutants: bool, jobs: int) -> list[Result]:
        assert mutants
        assert jobs == 1
        assert {claim.id for claim in chosen} == {result.claim.id for result in claims}
        return claims

    sys.path.insert(0, str(ROOT / "notebooks"))
    try:
        stages = importlib.import_module("make_report").STAGES
    finally:
        sys.path.pop(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("derivations.__main__.check_claims", checked)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        for stage in stages:
            run_small(stage.command, model, patch)
            write_json(
                folder / f"out/stages/{stage.name}.json", {"seconds": 1.0, "command": ["python", *stage.command]}
            )
    page = folder / "out" / "report.html"
    command = [sys.executable, ROOT / "notebooks" / "execute_report.py", "--output", page]
    command += ["--notebook", ROOT / "notebooks" / "report.ipynb"]
    subprocess.run(command, check=True, env=os.environ | {"REPORT_OUT": str(folder / "out")}, timeout=300)
    return page
