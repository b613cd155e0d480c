"""`make report`: prove, simulate, train, then one self-contained page.

Each stage is a command that a user could type. A finished stage is not run again while its command and
the sources it runs stay the same (a hash beside its results says so), so a second `make report` is
quick, and one that was killed goes on where it stopped.
"""

import argparse
import hashlib
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from derivations.cli.command_line import run_command
from derivations.cli.errors import InputError
from derivations.cli.files import clear_temporaries, read_json, write_json

ROOT = Path(__file__).resolve().parents[1]
OUT = Path("out")
RUNS = OUT / "runs"
COMMON = ["derivations/arrays.py", "derivations/cli/files.py", "derivations/objectives.py"]
COMMON += ["derivations/preferences.py", "derivations/regularizers.py", "constraints.txt"]


@dataclass(frozen=True)
class Stage:
    """One command of the report.

    result: the file whose presence says that it finished. sources: what its result depends on besides
    the command; folders stand for the Python files in them. after: stages whose results it reads.
    """

    name: str
    does: str
    command: tuple[str, ...]
    result: Path
    sources: tuple[str, ...]
    after: tuple[str, ...] = ()


def toy(regularizer: str, *options: str) -> Stage:
    name = f"toy-{regularizer}"
    command = ("-m", "toybandit", "run", "--world", "tabular", "--proxy", "fitted", "--regularizer", regularizer)
    command += (*options, "--seeds", "100", "--out", str(RUNS / name), "--quiet")
    return Stage(name, f"bandit, {regularizer}", command, RUNS / name / "summary.json", ("toybandit", *COMMON))


def offline(objective: str) -> Stage:
    name = f"offline-{objective}"
    command = ("-m", "llm", "train", "--objective", objective, *OFFLINE, "--out", str(RUNS / name), "--quiet")
    return Stage(name, f"language model, {objective}", command, RUNS / name / "summary.json", ("llm", *COMMON))


def online(regularizer: str, *options: str) -> Stage:
    name = f"online-{regularizer}"
    command = ("-m", "llm", "online", "--regularizer", regularizer, *options, *ONLINE)
    command += ("--out", str(RUNS / name), "--quiet")
    return Stage(name, f"language model online, {regularizer}", command, RUNS / name / "summary.json", ("llm", *COMMON))


# Short enough for the whole report to end within 12 minutes on 2 cores: they show that the path works.
OFFLINE = ("--max-steps", "12", "--lr", "1e-5", "--no-save")
ONLINE = ("--max-steps", "8", "--prompts-per-step", "4", "--no-save")
CLAIMS = OUT / "claims.json"
PAGE = OUT / "report.html"
STAGES = (
    Stage(
        "claims",
        "proofs and mutants",
        ("-m", "derivations", "check", "--jobs", "2", "--format", "json", "--output", str(CLAIMS)),
        CLAIMS,
        ("derivations", "derivations/proofs", "constraints.txt"),
    ),
    toy("entropy", "--coefficient", "0.5"),
    toy("kl", "--coefficient", "0.5"),
    toy("none"),
    offline("simpo"),
    offline("dpo"),
    online("entropy", "--coefficient", "0.05"),
    online("kl", "--coefficient", "0.05"),
)
REPORT = Stage(
    "page",
    "the page",
    ("notebooks/execute_report.py", "--notebook", "notebooks/report.ipynb", "--output", str(PAGE)),
    PAGE,
    ("derivations", "notebooks", "notebooks/report.ipynb", *COMMON),
    after=tuple(stage.name for stage in STAGES),
)


def fingerprint(stage: Stage, finished: dict[str, str]) -> str:
    """Hash of the command, of every source it runs and of the stages it reads."""
    digest = hashlib.sha256(repr(stage.command).encode())
    for source in stage.sources:
        path = ROOT / source
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    for name in stage.after:
        digest.update(finished[name].encode())
    return digest.hexdigest()


def done_before(marker: Path, mark: str) -> bool:
    """Whether a marker says that this very stage is done; one that is missing or damaged says no such thing."""
    try:
        found = read_json(marker)
    except InputError:
        return False
    return isinstance(found, dict) and found.get("fingerprint") == mark


def run_stage(stage: Stage, mark: str, console: Console) -> int:
    """Run one stage unless its marker says that this very stage is done. Returns its exit status."""
    marker = OUT / "stages" / f"{stage.name}.json"
    if stage.result.exists() and done_before(marker, mark):
        console.print(f"  {stage.name:16} done before")
        return 0
    start = time.monotonic()
    with console.status(f"{stage.name}: {stage.does}"):
        status = subprocess.run([sys.executable, *stage.command], cwd=ROOT, check=False).returncode  # noqa: S603
    seconds = time.monotonic() - start
    if status == 0:
        write_json(marker, {"fingerprint": mark, "seconds": round(seconds, 1), "command": ["python", *stage.command]})
        console.print(f"  {stage.name:16} {seconds:6.1f} s")
    else:
        console.print(f"  {stage.name:16} failed with exit status {status}: python {' '.join(stage.command)}")
    return status


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    console = Console(highlight=False)
    start = time.monotonic()
    for folder in (OUT, OUT / "stages"):
        clear_temporaries(folder)
    finished: dict[str, str] = {}
    for stage in (*STAGES, REPORT):
        finished[stage.name] = fingerprint(stage, finished)
        status = run_stage(stage, finished[stage.name], console)
        if status != 0:
            return status
    console.print(f"report: {PAGE.resolve()}  ({time.monotonic() - start:.0f} s)", soft_wrap=True)
    return 0


if __name__ == "__main__":
    run_command(main)
