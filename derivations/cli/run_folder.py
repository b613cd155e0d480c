"""Run folders: the resolved settings and versions first, and an earlier run moved aside, never overwritten."""

import contextlib
import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from derivations.cli.errors import InputError, reason
from derivations.cli.files import clear_temporaries, write_json

VERSIONED = ("maxent-rlhf", "numpy", "scipy", "sympy", "torch", "transformers", "accelerate")


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that results depend on, and the git commit if there is one."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    commit = _git_commit()
    return found | ({"git_commit": commit} if commit else {})


def _git_commit() -> str | None:
    """Commit of the checkout this package is imported from; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:  # git is not installed
        return None
    return answer.stdout.strip() or None


def start_run(out: Path, config: Any) -> Path:
    """Make the run folder `out` and save the resolved config in it. Returns `out`.

    An earlier run in the same place is moved aside to `out.1`, `out.2`, ..., so nothing is lost. A
    folder that holds anything else is refused (InputError).
    """
    try:
        clear_killed_start(out)
        _move_earlier_run(out.resolve())
    except (OSError, ValueError) as error:  # a name too long, no permission, a NUL in it
        raise InputError(f"cannot use --out {out}: {reason(error)}") from error
    write_json(out / "config.json", {"config": config, "versions": versions()})
    return out


def clear_killed_start(out: Path) -> None:
    """Remove what a kill within the first write of config.json leaves: a folder with a temporary file and no more."""
    if out.is_dir() and all(path.match(".config.json.*.tmp") for path in out.iterdir()):
        clear_temporaries(out)


def _move_earlier_run(out: Path) -> None:
    """Rename a run folder that is in the way; refuse any other folder or file."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "config.json").exists())):
        raise InputError(f"--out {out} exists and is not a run folder of this project; choose another one")
    if (out / "config.json").exists():
        number = next(n for n in range(1, 10**6) if not out.with_name(f"{out.name}.{n}").exists())
        out.rename(out.with_name(f"{out.name}.{number}"))
        print(f"note: the earlier run in {out} is now {out}.{number}", file=sys.stderr)
