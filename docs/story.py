"""The picture of README.md: prove, simulate, train, each a panel that this script computes or reads.

    python docs/story.py        # writes docs/_static/prove-simulate-train.png: a few seconds

The third panel is the committed experiment (docs/online.json), nothing is trained here.
"""

import json
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from derivations.arrays import log_softmax
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
BLUE, RED, OTHER = STYLES[:3]
ARMS = {  # of the online experiment, from top to bottom
    "none": "no regularizer",
    "kl-0.05": "KL 0.05",
    "entropy-0.01": "entropy 0.01",
    "entropy-0.02": "entropy 0.02",
    "entropy-0.05": "entropy 0.05",
    "length-normalized-1": "length-normalized 1",
}


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
    axes.plot(lengths, claimed, color=RED[0], linestyle=RED[1], marker="o", label="the paper's formula")
    axes.set(ylim=(0.3, 0.9), xlabel="tokens of the rejected response", ylabel="P(preferred)")
    axes.set_title("1  Prove: the step to SimPO is wrong", loc="left", weight="bold")
    axes.legend(frameon=False)


def simulate(axes: Axes) -> None:
    """Gold gain under entropy, KL and no regularizer, strength 0.5, mean over 100 worlds with the 95 % band."""
    arms = (("none", "none", OTHER), ("kl", "KL 0.5", BLUE), ("entropy", "entropy 0.5", RED))
    for name, label, (colour, style) in arms:
        settings = Settings(regularizer=name, coefficient=None if name == "none" else 0.5)
        run = optimize(drawn(settings), settings)
        found = [interval(values) for values in run.metrics["gold"][1:]]
        axes.fill_between(run.t[1:], [f.low for f in found], [f.high for f in found], color=colour, alpha=0.2, lw=0)
        axes.plot(run.t[1:], [f.mean for f in found], color=colour, linestyle=style, label=label)
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.set(xscale="log", xlabel="time", ylabel="true reward gained")
    axes.set_title("2  Simulate: entropy overoptimizes", loc="left", weight="bold")
    axes.legend(frameon=False)


def train(axes: Axes) -> None:
    """How much of the reference the language model kept in each arm of the online experiment, with its interval."""
    arms = json.loads((ROOT / "docs" / "online.json").read_text(encoding="utf-8"))["arms"]
    for place, (name, label) in enumerate(ARMS.items()):
        kappa = arms[name]["after"]["retention/kappa"]
        colour = RED[0] if name.startswith(("entropy", "length")) else BLUE[0]
        axes.plot([kappa["low"], kappa["high"]], [place, place], color=colour, linewidth=2)
        axes.plot(kappa["mean"], place, color=colour, marker="o")
        axes.annotate(label, (0.02, place), xycoords=("axes fraction", "data"), va="center")
    axes.axvline(1, color="0.6", linewidth=0.8)
    axes.set(xlim=(-0.5, 1.4), xticks=[0, 0.5, 1], yticks=[], xlabel=r"weight $\kappa$ of the reference (1: kept)")
    axes.invert_yaxis()
    axes.set_title("3  Train: entropy 0.05 forgets", loc="left", weight="bold")


def main() -> None:
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    for axes, draw in zip(figure.subplots(1, 3), (prove, simulate, train), strict=True):
        draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.label.set_size(12)
        axes.yaxis.label.set_size(12)
    save_figure(figure, PICTURE, dpi=140)
    print(f"written: {PICTURE.relative_to(ROOT)}, {PICTURE.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
