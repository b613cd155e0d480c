"""Tables and figures of the report, from the files the stages left. Nothing is computed here that a stage measured."""

import html
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import sympy as sp
import torch
from IPython.display import HTML, Image
from matplotlib.figure import Figure

from derivations.objectives import OBJECTIVES, make_objective
from derivations.symbolic import SymArray
from toybandit.plots import STYLES, read_run, trajectory_figure

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "out"
RUNS = OUT / "runs"


def table(header: list[str], rows: list[list[Any]], *, numbers: set[int] | None = None) -> HTML:
    """An HTML table; columns in `numbers` are right-aligned. Cells are escaped unless they are HTML objects."""
    numbers = numbers or set()

    def cell(kind: str, column: int, value: Any) -> str:
        mark = ' class="number"' if column in numbers else ""
        return f"<{kind}{mark}>{value.data if isinstance(value, HTML) else html.escape(str(value))}</{kind}>"

    head = "".join(cell("th", i, name) for i, name in enumerate(header))
    body = "".join("<tr>" + "".join(cell("td", i, v) for i, v in enumerate(row)) + "</tr>" for row in rows)
    return HTML(f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')


def picture(figure: Figure) -> Image:
    """The figure as a PNG, drawn here so that the page does not depend on a notebook's plotting backend."""
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=150)
        return Image(file.getvalue())


def code(text: str) -> HTML:
    return HTML(f"<code>{html.escape(text)}</code>")


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def claims() -> dict[str, Any]:
    """The answer of `python -m derivations check --format json`."""
    return read_json(OUT / "claims.json")


def claims_table() -> HTML:
    rows = []
    for claim in claims()["claims"]:
        said = claim["verdict"] + (f"; {claim['condition']}" if claim["condition"] else "")
        trial = f"{claim['mutants']['refuted']}/{claim['mutants']['made']}"
        rows.append([HTML(f"{html.escape(claim['title'])}<br><code>{claim['id']}</code>"), said, claim["scope"], trial])
    return table(["claim", "verdict", "for which responses", "mutants refuted"], rows, numbers={3})


def agreement_table() -> HTML:
    """Every named objective on the same random numbers through SymPy (50 digits), NumPy and torch."""
    rng = np.random.default_rng(0)
    rows = []
    examples = {"gamma": 0.5, "label_smoothing": 0.1, "divergence": "jensen-shannon"}
    for name, recipe in OBJECTIVES.items():
        strength = {recipe.strength: 0.05 if recipe.strength == "alpha" else 2.0}
        objective = make_objective(name, **strength, **{k: v for k, v in examples.items() if k in recipe.options})
        m = 4 if recipe.listwise else 2
        arrays = [
            -rng.uniform(5, 80, (16, m)),
            rng.integers(2, 30, (16, m)).astype(float),
            -rng.uniform(5, 80, (16, m)),
        ]

        def loss(make: Any, objective: Any = objective, arrays: Any = arrays) -> Any:
            logps, lengths, references = map(make, arrays)
            return objective.loss(objective.rewards(logps, length=lengths, ref_logp=references))

        exact = loss(lambda a: SymArray([[sp.Rational(x) for x in row] for row in a])).values
        exact = np.array([float(sp.N(expression, 50)) for expression in exact])
        by_numpy = loss(np.asarray)
        by_torch = loss(torch.tensor).numpy()
        by_float32 = loss(lambda a: torch.tensor(a, dtype=torch.float32)).double().numpy()
        gaps = [np.abs(other - exact).max() for other in (by_numpy, by_torch, by_float32)]
        rows.append([code(name), f"{exact.mean():.6f}", *(f"{gap:.1e}" for gap in gaps)])
    header = ["objective", "mean loss (SymPy, 50 digits)", "NumPy float64", "torch float64", "torch float32"]
    return table(header, rows, numbers={1, 2, 3, 4})


def interval(entry: dict[str, float], digits: int = 2) -> str:
    return f"{entry['mean']:.{digits}f} [{entry['low']:.{digits}f}, {entry['high']:.{digits}f}]"


def toy_runs() -> list[Path]:
    return [RUNS / f"toy-{name}" for name in ("entropy", "kl", "none")]


def toy_figure() -> Image:
    return picture(trajectory_figure([read_run(folder) for folder in toy_runs()]))


def toy_table() -> HTML:
    keys = ["overoptimization", "gold_gain", "proxy_gain", "win_rate", "kl"]
    rows = []
    for folder in toy_runs():
        summary = read_json(folder / "summary.json")
        rows.append([folder.name.removeprefix("toy-"), *(interval(summary[key]) for key in keys)])
    return table(["regularizer", *keys], rows, numbers={1, 2, 3, 4, 5})


def toy_sentence() -> HTML:
    """What the picture shows, with the numbers of this run."""
    entropy, kl, _ = (read_json(folder / "summary.json") for folder in toy_runs())
    reproduced = entropy["overoptimization"]["low"] > 0.45 and kl["overoptimization"]["high"] < 0.05
    verdict = "reproduced" if reproduced else "not reproduced"
    return HTML(
        f"<p><strong>Overoptimization under entropy, not under KL: {verdict}.</strong> With entropy 0.5 the proxy "
        f"gains {entropy['proxy_gain']['mean']:.2f} while gold falls {interval(entropy['overoptimization'])} below "
        f"its peak; with KL 0.5 the fall is {interval(kl['overoptimization'])} (reward units, 95 % intervals over "
        "seeds).</p>"
    )


def lines(axes: Any, rows: list[dict[str, Any]], key: str, label: str, style: tuple[str, Any]) -> None:
    points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    axes.plot(*zip(*points, strict=True), color=style[0], linestyle=style[1], marker="o", markersize=3, label=label)


def curves(runs: dict[str, Path], panels: list[tuple[str, str]]) -> Image:
    """One panel a metric, one line a run, against the optimizer step."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    grid = figure.subplots(1, len(panels))
    for axes, (key, title) in zip(grid, panels, strict=True):
        for (label, folder), style in zip(runs.items(), STYLES, strict=False):
            lines(axes, read_jsonl(folder / "metrics.jsonl"), key, label, style)
        axes.set(xlabel="optimizer step", title=title)
        axes.grid(color="0.9", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    grid[0].legend(frameon=False)
    return picture(figure)


def offline_runs() -> dict[str, Path]:
    return {name: RUNS / f"offline-{name}" for name in ("simpo", "dpo")}


def offline_figure() -> Image:
    panels = [
        ("loss", "loss (batch)"),
        ("rewards/margins", "reward margin (batch)"),
        ("logps/chosen", "log p chosen (nats)"),
    ]
    return curves(offline_runs(), panels)


def online_runs() -> dict[str, Path]:
    return {name: RUNS / f"online-{name}" for name in ("entropy", "kl")}


def online_figure() -> Image:
    panels = [
        ("proxy", "proxy reward (samples)"),
        ("gold", "gold reward (samples)"),
        ("entropy", "entropy (nats a response)"),
    ]
    return curves(online_runs(), panels)


def evaluation_table(runs: dict[str, Path], keys: list[str]) -> HTML:
    """Held-out metrics before and after training, from the first and last evaluation row of each run."""
    rows = []
    for name, folder in runs.items():
        rated = [row for row in read_jsonl(folder / "metrics.jsonl") if f"eval/{keys[0]}" in row]
        before, after = rated[0], rated[-1]
        rows += [
            [name, code(f"eval/{key}"), f"{before[f'eval/{key}']:.3f}", f"{after[f'eval/{key}']:.3f}"] for key in keys
        ]
    return table(["run", "metric", "before", "after"], rows, numbers={2, 3})


def commands_table() -> HTML:
    rows = []
    for marker in sorted((OUT / "stages").glob("*.json")):
        stage = read_json(marker)
        if marker.stem != "page":
            rows.append([marker.stem, code(" ".join(stage["command"])), f"{stage['seconds']:.0f}"])
    return table(["stage", "command", "seconds"], rows, numbers={2})


def versions_table() -> HTML:
    found = read_json(toy_runs()[0] / "config.json")["versions"]
    return table(["what", "version"], [[name, version] for name, version in found.items() if name != "git_commit"])
