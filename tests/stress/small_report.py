"""`python -m tests.stress.small_report OUT FOLDER`: the driver of `make report` on stages that take seconds.

Claims carry their run time, so beside them their verdicts are written alone, to be compared.
"""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

from derivations.cli.command_line import run_command
from derivations.cli.files import write_json
from tests.stress.jobs import train_arguments

ROOT = Path(__file__).resolve().parents[2]


def stages(report: dict[str, Any], out: Path, folder: Path) -> tuple[Any, ...]:
    make, common = report["Stage"], tuple(report["COMMON"])
    claims, toy, offline = out / "claims.json", out / "runs" / "toy-kl", out / "runs" / "offline-dpo"
    check = ("-m", "derivations", "check", "--only", "maxent-*", "--no-mutants", "--format", "json")
    run = ("-m", "toybandit", "run", "--regularizer", "kl", "--coefficient", "0.5", "--seeds", "3", "--steps", "300")
    train = train_arguments(folder, **{"max-steps": 10, "eval-size": 4})
    return (
        make("claims", "proofs", (*check, "--output", str(claims)), claims, common),
        make("toy", "bandit", (*run, "--out", str(toy), "--quiet"), toy / "summary.json", common),
        make("offline", "model", (*train, "--no-save", "--out", str(offline)), offline / "summary.json", common),
    )


def main() -> int:
    out, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    sys.path.insert(0, str(ROOT / "notebooks"))  # as when the script itself is started
    report = runpy.run_path(str(ROOT / "notebooks" / "make_report.py"), run_name="make_report")
    script = report["main"].__globals__
    small = stages(report, out, folder)
    script |= {"OUT": out, "STAGES": small[:-1], "REPORT": small[-1]}
    sys.argv = ["make_report"]
    status: int = report["main"]()
    if status == 0:
        claims = json.loads((out / "claims.json").read_text())["claims"]
        write_json(out / "claims.json.verdicts.json", {claim["id"]: claim["verdict"] for claim in claims})
    return status


if __name__ == "__main__":
    run_command(main)
