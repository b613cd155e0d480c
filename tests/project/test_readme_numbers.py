"""Numbers of README: each is what its command gives, or what the committed result of the command holds."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from derivations.conformance.laws import all_laws
from derivations.conformance.planted_bugs import BUGS
from derivations.objectives import pair_loss
from derivations.preferences import rao_kupper
from derivations.prover.claims import load_claims
from toybandit.experiment import run
from toybandit.experiments.protocol import PROTOCOL
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


def section(start, end):
    return README[README.index(start) : README.index(end, README.index(start))]


def test_the_counts_of_claims_bugs_and_laws_are_those_of_the_program():
    said = [claim.expected for claim in load_claims()]
    counts = [len(said), *(said.count(word) for word in ("proved", "iff", "refuted"))]
    found = re.search(r"There are (\d+) claims: (\d+) proved, (\d+) proved together .* (\d+) refuted", README)
    assert [int(number) for number in found.groups()] == counts
    assert f"{len(BUGS)} planted bugs against its {len(all_laws())} laws" in README


def test_the_results_of_reproduce_toy_are_those_of_the_packaged_protocol():
    results = json.loads((ROOT / "docs" / "toy.json").read_text())
    assert results["protocol"] == hashlib.sha256(PROTOCOL.read_bytes()).hexdigest()
    verdicts = {entry["number"]: entry["verdict"] for entry in results["statements"]}
    rows = re.findall(r"^\| (\d+)\. [^|]*\| (\w[\w ]*) \|", README, re.MULTILINE)
    assert len(rows) == 10
    assert all(verdicts[number] == verdict for number, verdict in rows)


@pytest.mark.parametrize("end", [("| the paper says", "In your own CI"), ("| statement | verdict", "One element-step")])
def test_every_interval_of_the_tables_stands_in_a_page_of_results(end):
    pages = "".join((ROOT / "docs" / name).read_text() for name in ("toy.md", "online.md"))
    results = [tuple(map(float, triple)) for triple in triples(pages)]
    results += [(-mean, -high, -low) for mean, low, high in results]  # a loss is a negative gain
    shown = triples(section(*end))
    assert len(shown) >= 2
    for triple in shown:
        # the pages have three digits, so they are off by up to 0.0005 itself
        assert any(agrees(triple, result, error=5e-4) for result in results), triple
    assert not any(agrees(("0.54", "0.51", "0.61"), result, error=5e-4) for result in results)


def test_the_numbers_of_the_two_runs_are_those_of_the_two_commands():
    line = next(line for line in README.splitlines() if line.startswith("A policy follows the gradient"))
    shown = triples(line)
    assert len(shown) == 2
    for name, triple in zip(("entropy", "kl"), shown, strict=True):
        found = run(Settings(regularizer=name, coefficient=0.5, seeds=100)).summary["overoptimization"]
        # float32 steps: another machine may round the last shown digit the other way
        assert agrees(triple, (found.mean, found.low, found.high), error=2e-3)


def test_the_margins_under_the_picture_are_those_of_its_script():
    found = json.loads((ROOT / "docs/_static/prove-simulate-train.json").read_text())["gained"]
    shown = triples(next(line for line in README.splitlines() if line.startswith("Bands are 95 %")))
    for triple, name in zip(shown, ("DPO", "SimPO"), strict=True):
        assert agrees(triple, tuple(found[name][key] for key in ("mean", "low", "high")))


def test_the_fitted_difference_of_discarded_ties_is_where_the_margin_loss_is_least():
    truth, gamma = 1.0, 1.0
    won, lost = (np.exp(rao_kupper(np.array(sign * truth), np.array(0.0), gamma=gamma)) for sign in (1, -1))
    share = won / (won + lost)  # of decisive comparisons

    def risk(fitted):
        return share * pair_loss(np.array(fitted), np.array(0.0), gamma=gamma) + (1 - share) * pair_loss(
            np.array(-fitted), np.array(0.0), gamma=gamma
        )

    assert f"truth 1 is fitted as {minimize_scalar(risk).x:.2f} at gamma = 1" in README
