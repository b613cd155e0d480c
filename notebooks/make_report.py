"""`make report`: prove, simulate, train, then one self-contained page.

Each stage is a command that a user could type (`report_stages` runs them). A second `make report` is quick, and one
that was killed goes on where it stopped.
"""

import argparse
import os
from pathlib import Path

from report_stages import CORES, LANES, Clock, Runner, Stage, fingerprint
from rich.console import Console

from derivations.cli.command_line import run_command
from derivations.cli.files import clear_temporaries

OUT = Path("out")
RUNS = OUT / "runs"
COMMON = ["derivations/arrays.py", "derivations/cli/files.py", "derivations/objectives.py"]
COMMON += ["derivations/preferences.py", "derivations/regularizers.py", "constraints.txt"]
LLM = ("llm", *COMMON)
CLAIMS = OUT / "claims.json"
PAGE = OUT / "report.html"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maxent-rlhf"


def toy(regularizer: str, *options: str) -> Stage:
    name = f"toy-{regularizer}"
    world = ("--world", "tabular", "--proxy", "fitted", "--regularizer", regularizer, *options)
    command = ("-m", "toybandit", "run", *world, "--seeds", "100", "--out", str(RUNS / name), "--quiet")
    result = RUNS / name / "summary.json"
    return Stage(name, f"bandit, {regularizer}", command, result, ("toybandit", *COMMON), seconds=4)


def live(part: str, does: str, last: str, **options: float) -> Stage:
    """A part on the language model; last: the run that it makes last."""
    command = ("-m", "llm.experiments.live", part, "--out", str(RUNS))
    return Stage(part, does, command, RUNS / last / "summary.json", LLM, **options)  # type: ignore[arg-type]


JOBS = str(max(1, CORES // LANES))
CHECK = ("-m", "derivations", "check", "--jobs", JOBS, "--format", "json", "--output", str(CLAIMS))
STAGES = (
    live("online", "language model, online: none, entropy, KL", "online-kl", lane=1, seconds=160, once=100),
    Stage(
        "claims",
        "proofs and mutants",
        CHECK,
        CLAIMS,
        ("derivations", "constraints.txt"),
        seconds=40,
    ),
    toy("entropy", "--coefficient", "0.5"),
    toy("kl", "--coefficient", "0.5"),
    toy("none"),
    live("offline", "language model, offline: planted and shuffled labels", "offline-shuffled", seconds=127),
)
REPORT = Stage(
    "page",
    "the page",
    ("notebooks/execute_report.py", "--notebook", "notebooks/report.ipynb", "--output", str(PAGE)),
    PAGE,
    ("derivations", "notebooks", "notebooks/report.ipynb", "docs/offline.json", "docs/online.json", *COMMON),
    after=tuple(stage.name for stage in STAGES),
    lane=-1,
    seconds=15,
)


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for folder in (OUT, OUT / "stages"):
        clear_temporaries(folder)
    marks: dict[str, str] = {}
    for stage in (*STAGES, REPORT):
        marks[stage.name] = fingerprint(stage, marks)
    clock = Clock((*STAGES, REPORT), first_time=not (CACHE / "views").exists())
    runner = Runner(OUT, Console(highlight=False), clock)
    runner.say(f"{len(STAGES) + 1} stages, about {clock.left(()):.0f} s on two quiet cores; this machine has {CORES}")
    for stages, lanes in ((STAGES, min(CORES, LANES)), ((REPORT,), 1)):
        status = runner.run(stages, marks, lanes=lanes)
        if status != 0:
            return status
    runner.say(f"report: {PAGE.resolve()}  ({clock.so_far:.0f} s)")
    return 0


if __name__ == "__main__":
    run_command(main)
