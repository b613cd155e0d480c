"""The same seed gives the same bits, another seed others; `--jobs` and the backend change nothing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.stress.jobs import save_tiny, train_arguments
from tests.stress.kill import results as results_of
from tests.stress.kill import said_by, start
from tests.stress.table import Row


@dataclass(frozen=True)
class Twice:
    """A command with {out}; files: what is compared; seed, jobs: options that are added to try another one."""

    name: str
    command: tuple[str, ...]
    files: tuple[str, ...]
    seed: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()


def commands(folder: Path) -> list[Twice]:
    if not (folder / "tiny").exists():
        save_tiny(folder / "tiny")
    sizes = ("--seeds", "3", "--steps", "30")
    check = ("-m", "derivations", "check", "--only", "maxent-*", "--format", "json", "--output", "{out}/claims.json")
    book = ("-m", "derivations", "book", "--no-mutants", "--output", "{out}")
    derive = ("-c", "import runpy, sys, contextlib, pathlib; o = pathlib.Path('{out}'); o.mkdir(); "
              "sys.argv = ['derivations', 'derive', 'beta/length*(p*log(p) - p)', '--format', 'json'];\n"
              "with (o / 'derived.json').open('w') as f, contextlib.redirect_stdout(f):\n"
              "    runpy.run_module('derivations', run_name='__main__')")  # fmt: skip
    run = ("-m", "toybandit", "run", "--regularizer", "kl", "--coefficient", "0.5", *sizes, "--out", "{out}", "--quiet")
    offline = ("-m", "toybandit", "offline", "--beta", "0.1", *sizes, "--out", "{out}", "--quiet")
    sweep = ("-m", "toybandit", "sweep", "--grid", "coefficient=0.1,0.5", *sizes, "--out", "{out}", "--quiet")
    statement = ("-m", "toybandit", "experiments", "--only", "8", "--out", "{out}", "--quiet")
    train = train_arguments(folder, **{"max-steps": 8, "batch-size": 3, "eval-size": 5})
    online = ("-m", "llm", "online", "--regularizer", "kl", "--coefficient", "0.05", "--model", str(folder / "tiny"))
    online += ("--max-steps", "3", "--prompts-per-step", "2", "--max-new-tokens", "6", "--eval-samples", "2", "--quiet")
    online += ("--gold", "length", "--proxy-pairs", "200")
    metrics, weights = "metrics.jsonl", "checkpoints/last/model.safetensors"
    other = ("--seed", "1")
    return [
        Twice("derivations check", check, ("claims.json",), jobs=("--jobs", "2")),
        Twice("derivations book", book, ("index.md",), jobs=("--jobs", "2")),
        Twice("derivations derive", derive, ("derived.json",)),
        Twice("toybandit run", run, (metrics, "summary.json", "figures/trajectory.png"), other),
        Twice("toybandit offline", offline, (metrics, "summary.json"), other),
        Twice("toybandit sweep", sweep, ("results.csv", "summary.json"), other, ("--backend", "joblib", "--jobs", "2")),
        Twice("toybandit experiments", statement, ("toy.md", "toy.json")),
        Twice("llm train", (*train, "--out", "{out}"), (metrics, "examples.jsonl", "samples.jsonl", weights), other),
        Twice("llm online", (*online, "--out", "{out}"), (metrics, weights), other),
    ]


def same(folder: Path, takes: Callable[[str], bool]) -> Iterator[Row]:
    """Each command whose name is taken twice, with another seed, and with more jobs."""
    for number, twice in enumerate(commands(folder)):
        if not takes(twice.name):
            continue
        row = Row("same", twice.name)
        kinds = {"first": (), "again": (), "other seed": twice.seed, "more jobs": twice.jobs}
        results: dict[str, dict[str, Any]] = {}
        for kind, extra in kinds.items():
            if kind in ("other seed", "more jobs") and not extra:
                continue
            out = folder / f"{number}-{kind.replace(' ', '-')}"
            process = start((*twice.command, *extra), out, folder)
            said = said_by(process)
            row.tried += 1
            if process.returncode:
                row.lost.append(f"{kind}: status {process.returncode}: {said[-300:]}")
                break
            results[kind] = results_of(out, twice.files)
        for kind in ("again", "more jobs"):
            if kind in results and results[kind] != results["first"]:
                row.lost.append(f"{kind}: {[n for n in twice.files if results[kind][n] != results['first'][n]]} differ")
        if "other seed" in results and any(results["other seed"][n] == results["first"][n] for n in twice.files):
            row.lost.append("another seed gave the same bits")
        row.note = ", ".join(kind for kind in kinds if kind in results)
        yield row
