"""The wheels of both distributions, installed and used as somebody would who has never seen this checkout.

Run as `make dist`. The base wheel goes into a bare environment, without torch, where a claim is checked, the bandit
run and a NumPy loss held against its objective; then the wheel of `llm` is put beside it (its dependencies are those
of this environment, to save the minutes of installing torch again) and trains the tests' tiny model.
"""

import shlex
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOSS = """\
import numpy as np


def dpo(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta=0.1):
    margin = beta * (chosen_logp - ref_chosen_logp - rejected_logp + ref_rejected_logp)
    return np.logaddexp(0.0, -margin).mean()
"""
BASE = (
    '-c \'import importlib.util as u; assert not u.find_spec("torch") and not u.find_spec("llm")\'',
    "-m derivations check --only 'simpo-*' --jobs 2",
    "-m derivations conform losses.py:dpo --objective dpo",
    "-m toybandit explore --no-open --seeds 4 --output explore.html",
    "-m toybandit run --regularizer entropy --coefficient 0.5 --seeds 3 --steps 50 --out run",
)
WITH_LLM = (
    "-c 'import llm; assert llm.__file__.startswith(\"{site}\"), llm.__file__'",
    "-m llm train --objective simpo --model {tiny} --data {pairs} --max-steps 2 --eval-size 2 --samples 0 --out out",
)


def wheel(folder: Path, name: str) -> Path:
    """The one wheel of that distribution."""
    (found,) = folder.glob(f"{name}-*.whl")
    return found.resolve()


def run(python: Path, commands: tuple[str, ...], folder: Path) -> None:
    """Each command, from a folder that has nothing of the checkout. One that fails ends everything."""
    for command in commands:
        print(f"$ python {command}", flush=True)
        subprocess.run([python, *shlex.split(command)], cwd=folder, check=True)


def main(dist: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "bare", with_pip=True)
        python = folder / "bare/bin/python"
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        constraints = ["-c", str(ROOT / "constraints.txt")]
        subprocess.run([*install, *constraints, wheel(dist, "maxent_rlhf")], check=True)
        (folder / "losses.py").write_text(LOSS)
        run(python, BASE, folder)
        subprocess.run([*install, "--no-deps", wheel(dist, "maxent_rlhf_llm")], check=True)
        (site,) = (folder / "bare/lib").glob("python*/site-packages")
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        tiny = folder / "tiny"
        make = f"from pathlib import Path; from tests.stress.tiny import save_tiny; save_tiny(Path({str(tiny)!r}))"
        subprocess.run([sys.executable, "-c", make], cwd=ROOT, check=True)
        places = {"site": site.resolve(), "tiny": tiny, "pairs": ROOT / "docs/examples/pairs.jsonl"}
        run(python, tuple(command.format(**places) for command in WITH_LLM), folder)
    print("the wheels work: base without torch, and llm beside it")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
