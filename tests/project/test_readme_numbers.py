"""Numbers of README and the pages it leads to: what their commands give, or what the committed results hold."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from derivations.objectives import pair_loss
from derivations.preferences import rao_kupper
from derivations.prover.claims import load_claims
from toybandit.experiment import run
from toybandit.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TRIPLE = re.compile(r"(-?\d+\.?\d*(?:e-?\d+)?) \[(-?\d+\.?\d*(?:e-?\d+)?), (-?\d+\.?\d*(?:e-?\d+)?)\]")


def triples(text):
    """Means with their intervals, as they are printed: `0.54 [0.51, 0.57]`."""
    return TRIPLE.findall(text)


def agrees(shown, measured, error=0.0):
    """Whether the shown digits are those of the measured numbers, which may themselves be rounded by `error`."""
    digits = max(len(number.partition(".")[2]) for number in shown)
    return all(abs(float(a) - b) <= 0.5 * 10**-digits + error + 1e-12 for a, b in zip(shown, measured, strict=True))


def test_the_counts_of_claims_are_those_of_the_program():
    said = [claim.expected for claim in load_claims()]
    counts = [len(said), *(said.count(word) for word in ("proved", "iff", "refuted"))]
    found = re.search(r"There are (\d+) claims: (\d+) proved, (\d+) proved together .* (\d+) refuted", README)
    assert [int(number) for number in found.groups()] == counts


@pytest.mark.parametrize("page", ["README.md", "docs/paper.md"])
def test_every_interval_of_the_table_stands_in_a_page_of_results(page):
    pages = "".join((ROOT / "docs" / name).read_text() for name in ("toy.md", "online.md"))
    results = [tuple(map(float, triple)) for triple in triples(pages)]
    results += [(-mean, -high, -low) for mean, low, high in results]  # a loss is a negative gain
    text = (ROOT / page).read_text()
    shown = triples(text[text.index("| the paper says") :])
    assert len(shown) >= 5
    for triple in shown:
        # the pages have three digits, so they are off by up to 0.0005 itself
        assert any(agrees(triple, result, error=5e-4) for result in results), triple
    assert not any(agrees(("0.54", "0.51", "0.61"), result, error=5e-4) for result in results)


def test_the_numbers_of_the_three_runs_are_those_of_the_three_commands():
    text = (ROOT / "docs" / "start.md").read_text()
    line = next(line for line in text.splitlines() if "Read `overoptimization`" in line)
    without = re.search(r"and (\d\.\d+) without a regularizer", line)
    for name, shown in zip(("entropy", "kl", "none"), (*triples(line), without.groups()), strict=True):
        settings = Settings(regularizer=name, coefficient=None if name == "none" else 0.5, seeds=100)
        found = run(settings).summary["overoptimization"]
        # float32 steps: another machine may round the last shown digit the other way
        assert agrees(shown, (found.mean, found.low, found.high)[: len(shown)], error=2e-3)


def test_the_readme_is_short_and_its_table_too():
    assert len(README.encode()) <= 8000
    assert len(re.findall(r"^\| [^|]+ \| [^|].*\|$", README.replace(r"\|", " "), re.MULTILINE)) <= 9  # with its head


def test_the_fitted_difference_of_discarded_ties_is_where_the_margin_loss_is_least():
    truth, gamma = 1.0, 1.0
    won, lost = (np.exp(rao_kupper(np.array(sign * truth), np.array(0.0), gamma=gamma)) for sign in (1, -1))
    share = won / (won + lost)  # of decisive comparisons

    def risk(fitted):
        return share * pair_loss(np.array(fitted), np.array(0.0), gamma=gamma) + (1 - share) * pair_loss(
            np.array(-fitted), np.array(0.0), gamma=gamma
        )

    assert f"truth 1 is fitted as {minimize_scalar(risk).x:.2f} at gamma = 1" in README
