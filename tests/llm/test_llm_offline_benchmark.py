"""The offline benchmark keeps what it measured: seed by seed, and rows of other runs. Measuring itself is made up."""

import sys
from dataclasses import fields
from pathlib import Path

import pytest

import benchmarks.llm_offline as benchmark
from benchmarks.llm_offline import CASES, Settings, markdown
from derivations.cli.errors import InputError
from derivations.cli.files import read_json

DOCS = Path(__file__).parents[2] / "docs" / "llm-offline-benchmark"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command; returns its status and the seeds it measured. `cut`: the seed in which it is interrupted."""
    pytest.importorskip("trl")

    def command(*options, cut=None):
        measured = []

        def measure(case, settings, seed):
            if seed == cut:
                raise KeyboardInterrupt
            measured.append((case.name, seed))
            shared = {"case": case.name, "seed": seed, "loss": 1.0, "grad_norm": 1.0, "gflop": 1.0}
            arms = (("ours", 1.0, 1.0), (f"trl-{case.trl}", 4.0, 4.0))
            return [
                shared | {"arm": arm, "step": step, "seconds": seconds, "peak_gib": peak}
                for step in range(settings.batches + 1)
                for arm, seconds, peak in arms
            ]

        monkeypatch.setattr(benchmark, "measure", measure)
        monkeypatch.setattr(benchmark, "machine_peak", lambda threads: {"float32": 1.0, "bf16": 2.0})
        monkeypatch.setattr(sys, "argv", ["llm_offline", *options, "--out", str(tmp_path / "page")])
        return benchmark.main(), measured

    return command


def row(tmp_path, case):
    (line,) = [x for x in (tmp_path / "page.md").read_text().splitlines() if x.startswith(f"| {case} |")]
    return line


def test_a_cut_costs_the_seed_it_falls_into_and_the_same_command_goes_on(run, tmp_path):
    options = ("--cases", "simpo-bf16", "--batches", "2")
    with pytest.raises(KeyboardInterrupt):
        run(*options, cut=1)
    assert "| 2 x 1 |" in row(tmp_path, "simpo-bf16")
    assert run(*options) == (0, [("simpo-bf16", 1), ("simpo-bf16", 2)])
    assert "| 2 x 3 | 4.00 (4.00 to 4.00) | 0.25 |" in row(tmp_path, "simpo-bf16")
    assert run(*options) == (0, [])


def test_rows_that_were_not_asked_for_stay(run, tmp_path):
    run("--cases", "dpo-bf16", "--batches", "1", "--seeds", "2")
    before = row(tmp_path, "dpo-bf16")
    run("--cases", "simpo-bf16", "--batches", "3", "--seeds", "1")
    assert row(tmp_path, "dpo-bf16") == before
    assert "| 3 x 1 |" in row(tmp_path, "simpo-bf16")
    kept = read_json(tmp_path / "page.json")
    assert [line["case"] for line in kept["lines"]] == ["simpo-bf16", "dpo-bf16"]
    assert {step["case"] for step in kept["steps"]} == {"simpo-bf16", "dpo-bf16"}


@pytest.mark.parametrize("other", ["batches", "code"])
def test_seeds_measured_under_other_conditions_are_not_mixed(other, run, monkeypatch):
    options = ("--cases", "simpo-bf16", "--seeds", "2", "--batches")
    run(*options, "1")
    if other == "code":
        monkeypatch.setattr("benchmarks.llm_offline_kept.SOURCES", ("llm/scoring/head.py",))
    seeds = [("simpo-bf16", 0), ("simpo-bf16", 1)]
    assert run(*options, "2" if other == "batches" else "1") == (0, seeds)


def test_a_damaged_file_is_one_message(run, tmp_path):
    (tmp_path / "page.json").write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        run("--cases", "simpo-bf16")


def test_the_page_is_what_its_json_gives():
    lines = read_json(DOCS.with_suffix(".json"))["lines"]
    settings = Settings()
    told = (lines[0].get("conditions") or {}).items()
    names = {f.name for f in fields(Settings)} - {"file", "cases", "seeds", "out"}
    settings = Settings(**{name: value for name, value in told if name in names})
    assert DOCS.with_suffix(".md").read_text(encoding="utf-8") == markdown(lines, settings)
    assert [line["case"] for line in lines] == [name for name in CASES if name in {x["case"] for x in lines}]
