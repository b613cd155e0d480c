"""`make reproduce-online`: entropy, KL and SimPO's own regularizer online on a real model, by a protocol fixed before.

Every run is a process of its own and leaves one small result (no weights), kept with the code; a finished run
is not run again, so the experiment goes on where it stopped, here or in another checkout. The report is written
from these files alone, after every call, and says what is missing.

    python -m llm.experiments.online --help
"""

import fnmatch
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from derivations.cli.command_line import run_command
from derivations.cli.errors import InputError
from derivations.evidence.results import read_result, start, start_all
from llm.experiments.online_plan import PROTOCOL, Plan, Run, read_plan
from llm.experiments.online_results import Result, keep, load

RESULTS = Path(__file__).with_name("results") / "online"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Regularizers online on the bundled model, over seeds: verdicts, drift, retention, lengths, clocks, texts."""

    only: tuple[str, ...] = ()
    """Names of runs to do, or patterns such as 'kl-*' or '*-seed0'; empty: all that are left."""
    jobs: int = 2
    """Runs at a time, one thread each (about 5 GB each with the bundled model)."""
    dry_run: bool = False
    """List what is left with an estimate of the time, and stop."""
    report_only: bool = False
    """Write the report from the results that are there, and stop."""
    results: Path = RESULTS
    """Where finished runs are kept, a few KB each."""
    out: Path = Path("out/reproduce-online")
    """Where run folders and logs are written; a run's folder is removed when its result is kept."""
    report: Path = Path("docs/online.md")
    """The report; its numbers are beside it as .json, its figures in _static/online/."""
    protocol: Path = PROTOCOL
    """The protocol file."""
    run: str = ""
    """Do this one run here and stop, without a report; how the experiment starts its processes."""

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise InputError(f"--jobs is {self.jobs}; expected 1 or more")


def main() -> int:
    settings = tyro.cli(Settings, prog="python -m llm.experiments.online")
    plan = read_plan(settings.protocol)
    if settings.run:
        do(named(plan, settings.run), plan, settings)
        return 0
    results = load(plan, settings.results)
    chosen = choose(plan, settings.only)
    left = [run for run in chosen if read_result(path_of(run, settings), plan.fingerprint) is None]
    if settings.dry_run:
        print("\n".join(describe_left(left, plan, results, settings.jobs)))
        return 0
    statuses: list[int] = []
    if not settings.report_only:
        print(f"{len(chosen)} runs, {len(chosen) - len(left)} done before; protocol {plan.fingerprint}", flush=True)
        statuses = start_all(left, lambda run: start_run(run, settings), settings.jobs)
    from llm.experiments.online_report import write_report

    write_report(plan, settings.results, settings.report)
    print(f"report: {settings.report}")
    return 1 if any(statuses) else 0


def path_of(run: Run, settings: Settings) -> Path:
    """Where a run's result is kept."""
    return settings.results / f"{run.name}.json"


def all_runs(plan: Plan) -> list[Run]:
    """Runs with training, then the measurements without."""
    return [*plan.runs, *plan.kernel]


def named(plan: Plan, name: str) -> Run:
    """The run of a name. Raises InputError if there is none."""
    run = {run.name: run for run in all_runs(plan)}.get(name)
    if run is None:
        raise InputError(f"no run {name!r} in the protocol; --dry-run lists them")
    return run


def choose(plan: Plan, only: Sequence[str]) -> list[Run]:
    """Runs whose name is, or matches, one of `only` (empty: all). Raises InputError for one that matches none."""
    for pattern in only:
        if not fnmatch.filter([run.name for run in all_runs(plan)], pattern):
            raise InputError(f"--only {pattern}: no such run in the protocol; --dry-run lists them")
    return [run for run in all_runs(plan) if not only or any(fnmatch.fnmatch(run.name, p) for p in only)]


def do(run: Run, plan: Plan, settings: Settings) -> None:
    """One run: train, condense into its result, remove the rest. Of the kernel: measure."""
    from llm.experiments.online_kernel import measure_kernel
    from llm.online.train import online

    folder = settings.out / run.name / "run"
    if run in plan.kernel:
        measure_kernel(plan, run, path_of(run, settings), out=folder)
        return
    shutil.rmtree(folder, ignore_errors=True)
    online(run.config(folder))
    keep(run, folder, plan, path_of(run, settings))
    shutil.rmtree(folder)


def start_run(run: Run, settings: Settings) -> int:
    """Do a run in a process of its own; its output goes to a log."""
    options = ["--run", run.name, "--out", str(settings.out), "--results", str(settings.results)]
    options += ["--protocol", str(settings.protocol)]
    return start(run.name, "llm.experiments.online", options, settings.out / run.name / "log.txt")


def expected_seconds(run: Run, plan: Plan) -> float:
    """Seconds of a run by the protocol's figures for 8 prompts of 4 samples of 20 tokens and 128 evaluated samples."""
    known = plan.protocol["seconds"]
    if run in plan.kernel:
        return float(known["kernel"])
    config = run.config(Path("run"))
    tokens = config.prompts_per_step * config.samples * config.max_new_tokens / (8 * 4 * 20)
    evaluations = 1 + (config.max_steps // config.eval_every if config.eval_every else 1)
    evaluated = config.eval_samples * config.max_new_tokens / (8 * 20)
    step, evaluation = known["step"] * config.max_steps * tokens, known["evaluation"] * evaluations * evaluated
    return float(known["start"] + step + evaluation)


def describe_left(left: Sequence[Run], plan: Plan, results: Mapping[str, Mapping[int, Result]], jobs: int) -> list[str]:
    """A line for every run that is left and one for the total, scaled by how long finished runs really took."""
    ratios = [
        results[run.arm][run.seed]["seconds"] / expected_seconds(run, plan)
        for run in plan.runs
        if run.seed in results[run.arm]
    ]
    scale = statistics.median(ratios) if ratios else 1.0
    seconds = [scale * expected_seconds(run, plan) for run in left]
    lines = [f"{run.name:32s} {took / 60:5.1f} min" for run, took in zip(left, seconds, strict=True)]
    source = f"from {len(ratios)} finished runs" if ratios else "from the protocol's figures"
    hours = sum(seconds) / jobs / 3600
    return [
        *lines,
        f"{len(left)} of {len(all_runs(plan))} runs left, about {hours:.1f} hours, {jobs} at a time ({source})",
    ]


if __name__ == "__main__":
    run_command(main)
