"""The commands `run` (online) and `offline`: settings in, a run folder out."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
from rich.table import Table

from derivations.cli.command_line import command_line, show_table
from derivations.cli.errors import input_errors
from derivations.cli.files import to_json, write_json, write_text
from derivations.evidence.intervals import Interval, interval
from derivations.names import parse_regularizer
from derivations.objectives import Objective
from derivations.published import PUBLISHED_OPTIONS, UNPAIRED, Trained, make_trained
from derivations.regularizers import REGULARIZERS
from toybandit import experiment
from toybandit.bandit import seed_streams
from toybandit.data import draw_pairs, draw_rankings
from toybandit.experiment import check_draw, make_world
from toybandit.folders import run_folder
from toybandit.offline import OfflineTrajectory, descend
from toybandit.online import Diverged
from toybandit.plots import read_run, save_figure, trajectory_figure
from toybandit.progress import Advance, progress
from toybandit.settings import Settings
from toybandit.words import offline_in_words, run_in_words

STRENGTH = 0.5  # reward units per nat, where a command names none
USERS = (ValueError, Diverged)  # errors that the settings cause
UNITS = {
    "proxy_gain": "reward units",
    "gold_gain": "reward units",
    "gold": "reward units",
    "overoptimization": "reward units",
    "gold_fall": "reward units",
    "win_rate": "share",
    "kl": "nats",
    "kl_forward": "nats",
    "entropy": "nats",
    "retention/kappa": "1",
    "retention/tau": "1 / reward unit",
    "retention/kappa_error": "1",
    "retention/tau_error": "1 / reward unit",
    "mass/rare": "share",
    "mass/unseen": "share",
    "proxy_accuracy": "share",
    "loss": "nats",
    "rewards/chosen": "reward units",
    "rewards/rejected": "reward units",
    "rewards/margins": "reward units",
    "rewards/accuracies": "share",
    "eval/rewards/accuracies": "share",
    "logps/chosen": "nats",
    "logps/rejected": "nats",
}


@dataclass(frozen=True)
class Run(Settings):
    """Optimize a policy online against a proxy reward, in worlds whose gold reward is known exactly.

    Writes a run folder: config.json, metrics.jsonl (one line a logged step), summary.json and
    figures/trajectory.png. Every number is a mean over seeds with its 95 % interval.

    Without options it runs entropy 0.5; a regularizer that is only named has the strength 0.5.

    Example: python -m toybandit run --regularizer entropy --coefficient 0.5 --seeds 100 --out runs/entropy

    Example: python -m toybandit run --regularizer kl=0.2+entropy=0.1 --proxy heavy-tailed --format json
    """

    out: Path = Path("runs/toybandit")
    """Run folder. An earlier run there is moved aside, not overwritten."""
    quiet: bool = False
    """No progress and no summary; errors are still shown."""
    format: Literal["text", "json"] = "text"
    """How the summary is printed."""

    def __post_init__(self) -> None:
        """The strength where none is named. `settings` checks values later: a mistake is one line, not a box."""
        if self.coefficient is None and self.regularizer in REGULARIZERS:
            object.__setattr__(self, "coefficient", STRENGTH)

    def settings(self) -> Settings:
        """What decides the result, without where and how it is shown. Raises InputError for a value out of range."""
        with input_errors():
            return Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})

    def run(self) -> None:
        """Run the experiment; write and print what it found."""
        settings = self.settings()
        echo(self)
        with run_folder(self.out, settings) as folder:
            with (
                progress(f"{settings.label}, {settings.seeds} seeds", quiet=self.quiet) as advance,
                input_errors(kinds=USERS),
            ):
                result = experiment.run(settings, on_progress=advance)
            write_text(folder / "metrics.jsonl", "".join(to_json(row) + "\n" for row in result.rows()))
            write_json(folder / "summary.json", result.summary)
            save_figure(trajectory_figure([read_run(folder)]), folder / "figures" / "trajectory.png")
        title = (
            f"{settings.label}, {settings.proxy} proxy: t = {settings.lr * settings.steps:g}, {settings.seeds} seeds"
        )
        show_summary(self, title, result.summary, "config.json, metrics.jsonl, summary.json, figures/trajectory.png")
        tell_words(self, run_in_words(settings, result.summary, self.out))


@dataclass(frozen=True)
class Offline:
    """Train a policy offline on finite preference data, with early stopping, in worlds whose gold reward is known.

    Writes a run folder: config.json, metrics.jsonl (one line a logged step) and summary.json with the
    policy at the end (bare names) and where held-out accuracy was best (`stopped/` names). Without options it is
    DPO with beta 0.5.

    Example: python -m toybandit offline --objective simpo --beta 0.5 --gamma 0.3 --out runs/simpo
    Example: python -m toybandit offline --regularizer "entropy=0.3+kl=0.2" --out runs/both
    """

    regularizer: str | None = None
    """Instead of a named objective: the likelihood of pairs under the implicit reward of any regularizer, a sum such
    as entropy=0.3+kl=0.2 or a formula such as "0.5*p*log(p/q)". Takes --gamma and --label-smoothing."""
    objective: str | None = None
    """Loss: dpo (the default), cdpo, ipo, f-dpo, simpo, simpo-shannon, maxent, or on rankings dpo-pl, f-dpo-pl,
    simpo-pl, simpo-shannon-pl, maxent-pl. Published losses on pairs: orpo, dpop, apo-zero, apo-down, slic, chi-po,
    r-dpo, ln-dpo, wpo, sppo; their rewards are the implicit ones of chi-po, r-dpo and ln-dpo, else beta log pi/pi_ref
    (orpo: beta/|y| log pi). On single responses, each good or bad, which the two of a pair are: kto, with the exact
    KL(pi || pi_ref) as its reference point."""
    beta: float | None = None
    """Strength of the objective, reward units per nat (all but the maxent forms). Of orpo the weight of the odds
    ratio, of sppo 1/eta. Published losses and kto have the default of `python -m llm train`: 0.1 (ln-dpo 5, sppo
    0.001)."""
    alpha: float | None = None
    """Temperature of the maxent forms, reward units per nat. Of r-dpo the price of length (default 0.05), reward units
    per mean length (world tree: per token)."""
    penalty: float | None = None
    """Of dpop: weight of what a chosen response has lost (default 50)."""
    desirable_weight: float | None = None
    """Of kto: weight of the loss of good responses (default 1)."""
    undesirable_weight: float | None = None
    """Of kto: weight of the loss of bad responses (default 1)."""
    gamma: float | None = None
    """Margin, reward units (simpo, simpo-shannon, maxent): codes that take gamma/beta = rho mean beta * rho."""
    divergence: str | None = None
    """For f-dpo: kl, forward-kl, jensen-shannon or alpha-divergence."""
    order: float | None = None
    """For alpha-divergence, in (0, 1)."""
    label_smoothing: float | None = None
    """Assumed share of flipped labels, in [0, 1/2)."""
    responses: int = 4
    """Responses in a ranking (listwise objectives)."""
    top: int | None = None
    """Observed places of a ranking; all by default."""
    world: str = "tabular"
    """World: tabular, shared or tree."""
    pairs: int = 300
    """Pairs (or rankings) drawn per prompt, before those with one arm twice are dropped."""
    held_out: int = 300
    """Held-out pairs per prompt, for early stopping."""
    equal_lengths: bool = False
    """Give every response the same length, which takes length normalization out of simpo."""
    seeds: int = 100
    """How many worlds are drawn, at least 2."""
    seed: int = 0
    """Root of all random numbers."""
    lr: float | None = None
    """Step size (default: 2 / (largest slope of the implicit reward)^2, at which descent is stable; of a published loss
    and of kto half of the shortest Polyak step of a pair near the reference)."""
    steps: int = 2000
    """Full-batch gradient steps."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """Optimizer."""
    out: Path = Path("runs/toybandit-offline")
    """Run folder. An earlier run there is moved aside, not overwritten."""
    quiet: bool = False
    """No progress and no summary; errors are still shown."""
    format: Literal["text", "json"] = "text"
    """How the summary is printed."""

    def __post_init__(self) -> None:
        """The strength where nothing at all is named, and what a published loss or kto has by default."""
        if (self.regularizer, self.objective, self.beta, self.alpha) == (None, None, None, None):
            object.__setattr__(self, "objective", "dpo")
            object.__setattr__(self, "beta", STRENGTH)
        for name, value in (UNPAIRED | PUBLISHED_OPTIONS).get(self.objective or "", {}).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)

    def resolve(self) -> Trained:
        """The objective of the options. Raises ValueError for what is wrong with any of them."""
        Settings(
            world=self.world, regularizer="none", pairs=self.pairs, seeds=self.seeds, seed=self.seed, steps=self.steps
        )
        if self.lr is not None and not 0 < self.lr < np.inf:
            raise ValueError(f"--lr is {self.lr}, expected a finite number > 0")
        if self.held_out < 1:
            raise ValueError(f"--held-out is {self.held_out}, expected 1 or more pairs for early stopping")
        names = (
            *("beta", "alpha", "gamma", "divergence", "order", "label_smoothing", "top", "penalty"),
            *("desirable_weight", "undesirable_weight"),
        )
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.regularizer is None:
            return make_trained(self.objective or "dpo", **given)
        for name in ("objective", *names):
            if name not in ("gamma", "label_smoothing") and getattr(self, name) is not None:
                option = name.replace("_", "-")
                raise ValueError(f"--regularizer names the whole regularizer with its strengths; leave --{option} out")
        return Objective("likelihood", parse_regularizer(self.regularizer), **given)

    def run(self) -> None:
        """Train on the data; write and print what came out."""
        with input_errors():
            objective = self.resolve()
        echo(self)
        with run_folder(self.out, self) as folder:
            title = f"{objective.name}: {self.steps} steps, {self.seeds} seeds"
            with progress(title, quiet=self.quiet) as advance, input_errors(kinds=USERS):
                run = _train(self, objective, advance)
            rows = []
            for i, step in enumerate(run.step):
                found = {name: interval(values[i]) for name, values in run.metrics.items()}
                spread = {f"{name}{end}": getattr(v, key) for name, v in found.items() for end, key in ENDS}
                rows.append({"step": step} | spread)
            write_text(folder / "metrics.jsonl", "".join(to_json(row) + "\n" for row in rows))
            summary = {name: interval(values[-1]) for name, values in run.metrics.items()}
            summary |= {f"stopped/{name}": interval(run.at_stop(name)) for name in run.metrics}
            write_json(folder / "summary.json", summary)
        show_summary(self, title, summary, "config.json, metrics.jsonl, summary.json")
        tell_words(self, offline_in_words(objective.name, summary, self.out))


ENDS = (("", "mean"), ("_low", "low"), ("_high", "high"))


def _train(command: Offline, objective: Trained, advance: Advance) -> OfflineTrajectory:
    settings = Settings(
        world=command.world,
        regularizer="none",
        seeds=command.seeds,
        pairs=max(command.held_out, command.pairs * command.responses if objective.listwise else command.pairs),
    )
    check_draw(settings)
    streams = seed_streams(command.seed, command.seeds)
    world = make_world(settings, streams)
    if command.equal_lengths:
        world = world.with_equal_lengths()
    if objective.listwise:
        data = draw_rankings(world, streams, count=command.pairs, responses=command.responses)
    else:
        data = draw_pairs(world, streams, count=command.pairs)
    held_out = draw_pairs(world, streams, count=command.held_out, held_out=True)
    return descend(
        world,
        data,
        objective=objective,
        held_out=held_out,
        lr=command.lr,
        steps=command.steps,
        optimizer=command.optimizer,
        on_progress=advance,
    )


def echo(command: Run | Offline) -> None:
    """Print every setting, defaults included, before the work starts; as JSON they come with the summary."""
    if not command.quiet and command.format == "text":
        print(f"settings: {command_line(command)}")


def show_summary(command: Run | Offline, title: str, summary: dict[str, Interval], files: str) -> None:
    """Print the summary as the command asks: nothing, JSON, or a table with mean, 95 % interval and unit."""
    if command.quiet:
        return
    if command.format == "json":
        print(to_json({"out": command.out, "settings": command, "summary": summary}, indent=2))
        return
    table = Table(title=title, title_justify="left")
    table.add_column("final policy")
    table.add_column("mean", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("unit")
    for name, value in summary.items():
        unit = UNITS[name.removeprefix("stopped/")]
        table.add_row(name, f"{value.mean:.3f}", f"{value.low:.3f} to {value.high:.3f}", unit)
    show_table(table)
    print(f"written: {command.out} ({files})")


def tell_words(command: Run | Offline, text: str) -> None:
    """The last lines: what was found, and what to do next."""
    if not command.quiet and command.format == "text":
        print(text)
