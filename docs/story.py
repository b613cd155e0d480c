"""The picture of README.md: prove, simulate, train, each a panel with a number that this script computes or reads.

    python docs/story.py        # writes docs/_static/prove-simulate-train.png, and the margins beside it as .json

The bandit's curves take a second. The language model is trained here (bundled model, a few minutes on a
CPU) unless out/story/ has the runs already.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from derivations.arrays import log_softmax
from derivations.cli.files import write_json
from derivations.evidence.intervals import interval
from derivations.evidence.pictures import STYLES
from derivations.objectives import pair_loss
from derivations.prover.claims import check_claim, load_claims
from derivations.prover.kinds import Differs
from derivations.regularizers import LengthNormalized
from toybandit.experiment import drawn, optimize
from toybandit.plots import save_figure
from toybandit.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "_static" / "prove-simulate-train.png"
RUNS = ROOT / "out" / "story"
TRAINING = ("--max-steps", "12", "--lr", "1e-5", "--eval-every", "3", "--eval-size", "16", "--checkpoint-every", "0")
TRAINING += ("--no-save", "--quiet")
BLUE, RED = STYLES[0], STYLES[1]


def prove(axes: Axes) -> None:
    """The paper's step to SimPO against the truth, for the claim's counterexample and longer rejected responses."""
    result = check_claim(load_claims("length-normalized-temperature")[0])
    counterexample = next(step for step in result.steps if isinstance(step, Differs))
    lengths = np.arange(1, 9)
    claimed = []
    for n in lengths:
        size, reward = np.array([1.0, n]), np.array([np.log(3.0), 0.0])
        s = LengthNormalized(1.0).implicit_reward(log_softmax(size * reward), length=size)
        claimed.append(np.exp(-pair_loss(s[0], s[1])))
    truth, formula = counterexample.numbers()
    assert np.isclose(claimed[1], formula)  # noqa: S101 (the curve goes through the claim's exact counterexample)
    axes.plot(lengths, np.full(len(lengths), truth), color=BLUE[0], linestyle=BLUE[1], label="true preference")
    axes.plot(lengths, claimed, color=RED[0], linestyle=RED[1], marker="o", label="paper's formula")
    axes.set(ylim=(0.3, 0.9), xlabel="length of the rejected response", ylabel="P(preferred)")
    axes.set_title("1  Prove: the step to SimPO is refuted, and repaired", loc="left", weight="bold")


def simulate(axes: Axes) -> None:
    """Gold gain under entropy and KL, strength 0.5, mean over 100 worlds with the 95 % band."""
    for name, (colour, style) in (("entropy", RED), ("kl", BLUE)):
        settings = Settings(regularizer=name, coefficient=0.5)
        run = optimize(drawn(settings), settings)
        found = [interval(values) for values in run.metrics["gold"][1:]]
        axes.fill_between(run.t[1:], [f.low for f in found], [f.high for f in found], color=colour, alpha=0.2, lw=0)
        axes.plot(run.t[1:], [f.mean for f in found], color=colour, linestyle=style, label=name.replace("kl", "KL"))
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.set(xscale="log", xlabel="time", ylabel="true reward gained")
    axes.set_title("2  Simulate: entropy overoptimizes, KL does not", loc="left", weight="bold")


def train(axes: Axes) -> None:
    """Change of the held-out margin while the bundled language model trains, with the 95 % band over comparisons."""
    gained = {}
    for name, label, (colour, style) in (("simpo", "SimPO", RED), ("dpo", "DPO", BLUE)):
        steps, margins = evaluations(name)
        found = [interval(at_step - margins[0]) for at_step in margins]
        axes.fill_between(steps, [f.low for f in found], [f.high for f in found], color=colour, alpha=0.2, lw=0)
        axes.plot(steps, [f.mean for f in found], color=colour, linestyle=style, marker="o", label=label)
        gained[label] = {"mean": found[-1].mean, "low": found[-1].low, "high": found[-1].high}
    write_json(PICTURE.with_suffix(".json"), {"steps": steps[-1], "comparisons": len(margins[0]), "gained": gained})
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.set(xlabel="step", ylabel="margin gained")
    axes.set_title("3  Train: the same functions, SmolLM2-135M", loc="left", weight="bold")


def evaluations(objective: str) -> tuple[list[int], np.ndarray]:
    """Evaluated steps, and the margin of each held-out comparison there, [steps, comparisons]; trained if need be."""
    folder = RUNS / objective
    if not (folder / "summary.json").exists():
        command = [sys.executable, "-m", "llm", "train", "--objective", objective, *TRAINING, "--out", str(folder)]
        subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603
    rows = [json.loads(line) for line in (folder / "examples.jsonl").read_text().splitlines()]
    held_out = [row for row in rows if row["split"] == "eval"]
    steps = sorted({row["step"] for row in held_out})
    return steps, np.array([[row["rewards/margins"] for row in held_out if row["step"] == step] for step in steps])


def main() -> None:
    figure = Figure(figsize=(6, 7.4), layout="constrained")
    for axes, draw in zip(figure.subplots(3), (prove, simulate, train), strict=True):
        draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        axes.xaxis.label.set_size(12)
        axes.yaxis.label.set_size(12)
    save_figure(figure, PICTURE, dpi=140)
    print(f"written: {PICTURE.relative_to(ROOT)}, {PICTURE.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
