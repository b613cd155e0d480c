"""The command `plot`: the picture of run folders, online or offline, or of a sweep."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from derivations.cli.errors import InputError, input_errors
from derivations.cli.files import read_json
from derivations.evidence.intervals import Interval
from toybandit.plots import Curves, read_run, save_figure, trajectory_figure
from toybandit.sweep_figures import sweep_figure
from toybandit.sweep_results import read_sweep
from toybandit.words import show


@dataclass(frozen=True)
class Plot:
    """Draw run folders over one another against time, or a sweep as curves or heat maps.

    Example: python -m toybandit plot runs/entropy runs/kl --out runs/both.png

    Example: python -m toybandit plot runs/sweep --out runs/sweep.png
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders of `python -m toybandit run`, 1 to 7, or of `offline`; or the folder of one `sweep`."""
    out: Path = Path("trajectory.png")
    """Picture to write; its ending (png, pdf, svg) gives the format."""
    quiet: bool = False
    """Print nothing; errors are still shown."""

    def run(self) -> None:
        """Draw the runs, or the sweep, into one picture."""
        if not self.runs:
            raise InputError("no run folder given; write `python -m toybandit plot runs/a runs/b --out FILE.png`")
        sweeps = [folder for folder in self.runs if is_sweep(folder)]
        if sweeps and len(self.runs) > 1:
            raise InputError(f"{sweeps[0]} is a sweep; plot it alone, or run folders together")
        with input_errors():
            if sweeps:
                results = read_sweep(self.runs[0])
                figure, found = sweep_figure(results), ""
            else:
                runs = [read_run(folder) for folder in self.runs]
                figure, found = trajectory_figure(runs), ranking(runs)
        save_figure(figure, self.out)
        if not self.quiet:
            print(f"{found}written: {self.out}")


def is_sweep(folder: Path) -> bool:
    """Whether a folder is one of `python -m toybandit sweep`."""
    path = folder / "config.json"
    found = read_json(path) if path.is_file() else None
    return isinstance(found, dict) and isinstance(found.get("config"), dict) and "axes" in found["config"]


def ranking(runs: list[Curves]) -> str:
    """Of several runs, a line with the gold reward at their ends, best first."""
    if len(runs) < 2:
        return ""
    ends = {run.label: Interval(*(run.columns[f"gold{end}"][-1] for end in ("", "_low", "_high"))) for run in runs}
    best_first = sorted(ends.items(), key=lambda item: -item[1].mean)
    return f"found: gold ends at {', '.join(f'{show(gold)} under {label}' for label, gold in best_first)}\n"
