"""The report's part on proofs: verdicts and conditions as the run of the checks left them."""

import html
from collections import Counter
from typing import Any

import numpy as np
import sympy as sp
import torch
from IPython.display import HTML
from report_files import OUT, read_json
from report_html import code, folded, table

from derivations.names import OBJECTIVES, make_objective
from derivations.pages.book import STORY
from derivations.pages.book import VERDICTS as WORDS
from derivations.proofs import CHAPTERS
from derivations.prover.claims import load_claims
from derivations.prover.symbolic import SymArray

SYMBOLS = {"proved": "✓", "iff": "✓", "refuted": "✗", "failed": "‼"}  # beside the word, so colour carries nothing


def claims() -> dict[str, dict[str, Any]]:
    """The answer of `python -m derivations check --format json`, by id."""
    return {claim["id"]: claim for claim in read_json(OUT / "claims.json")["claims"]}


def verdict(claim: dict[str, Any]) -> str:
    return f"{SYMBOLS[claim['verdict']]} {WORDS[claim['verdict']]}"


def tally(found: list[dict[str, Any]]) -> str:
    """`9 claims: 8 proved, 1 refuted as written`."""
    counts = Counter(claim["verdict"] for claim in found)
    parts = [f"{counts[word]} {WORDS[word]}" for word in WORDS if counts[word]]
    return f"{len(found)} claim{'s' if len(found) > 1 else ''}: {', '.join(parts)}"


def story_table() -> HTML:
    """What the paper says, what is true, and what this run of the checks says of the claims behind it."""
    found = claims()
    rows = []
    for says, truth, names in STORY:
        lines = [f"{verdict(found[name])} <code>{name}</code>" for name in names if name in found]
        rows.append([says, truth, HTML("<br>".join(lines))])
    return table(["the paper says", "what is true", "this run"], rows, label="What the paper says and what is true")


def refuted_table() -> HTML:
    """Every claim that is refuted as written, with the condition under which it holds."""
    rows = [
        [HTML(f"{html.escape(claim['title'])}<br><code>{claim['id']}</code>"), claim["condition"]]
        for claim in claims().values()
        if claim["verdict"] == "refuted"
    ]
    return table(["refuted as written", "what does hold"], rows, label="Refuted claims")


def chapters() -> HTML:
    """All claims, one folded table a chapter."""
    chapter_of = {claim.id: claim.chapter for claim in load_claims()}
    parts = []
    for chapter, title in CHAPTERS.items():
        own = [claim for claim in claims().values() if chapter_of[claim["id"]] == chapter]
        rows = [
            [
                HTML(f"{html.escape(claim['title'])}<br><code>{claim['id']}</code>"),
                verdict(claim) + (f": {claim['condition']}" if claim["condition"] else ""),
                claim["scope"],
                f"{claim['mutants']['refuted']}/{claim['mutants']['made']}",
            ]
            for claim in own
        ]
        if own:
            header = ["claim", "verdict", "for which responses", "mutants refuted"]
            parts.append(folded(f"{title} ({tally(own)})", table(header, rows, label=title, numbers=[3])).data)
    return HTML("".join(parts))


def agreement_table() -> HTML:
    """Every named objective on the same random numbers through SymPy (50 digits), NumPy and torch; folded."""
    rng = np.random.default_rng(0)
    rows, gaps_seen = [], np.zeros(3)
    examples = {"gamma": 0.5, "label_smoothing": 0.1, "divergence": "jensen-shannon"}
    for name, recipe in OBJECTIVES.items():
        strength = {recipe.strength: 0.05 if recipe.strength == "alpha" else 2.0}
        objective = make_objective(name, **strength, **{k: v for k, v in examples.items() if k in recipe.options})
        shape = (16, 4 if recipe.listwise else 2)
        arrays = [-rng.uniform(5, 80, shape), rng.integers(2, 30, shape).astype(float), -rng.uniform(5, 80, shape)]

        def loss(make: Any, objective: Any = objective, arrays: Any = arrays) -> Any:
            logps, lengths, references = map(make, arrays)
            return objective.loss(objective.rewards(logps, length=lengths, ref_logp=references))

        exact = loss(lambda a: SymArray([[sp.Rational(x) for x in row] for row in a])).values
        exact = np.array([float(sp.N(expression, 50)) for expression in exact])
        by_float32 = loss(lambda a: torch.tensor(a, dtype=torch.float32)).double().numpy()
        others = (loss(np.asarray), loss(torch.tensor).numpy(), by_float32)
        gaps = np.array([np.abs(other - exact).max() for other in others])
        gaps_seen = np.maximum(gaps_seen, gaps / np.maximum(1.0, np.abs(exact).max()))
        rows.append([code(name), f"{exact.mean():.6f}", *(f"{gap:.1e}" for gap in gaps)])
    header = ["objective", "mean loss (SymPy, 50 digits)", "NumPy float64", "torch float64", "torch float32"]
    shown = table(header, rows, label="Largest difference from SymPy", numbers=[1, 2, 3, 4])
    worst = ", ".join(f"{n} {gap:.0e}" for n, gap in zip(header[2:], gaps_seen, strict=True))
    return folded(f"{len(rows)} objectives on 16 random examples; largest relative differences: {worst}", shown)
