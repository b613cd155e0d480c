"""The report's page needs nothing but itself, and its stages run once."""

import importlib
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from rich.console import Console

ROOT = Path(__file__).parents[2]


@pytest.fixture
def make_report(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("make_report", ROOT / "notebooks" / "make_report.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "make_report", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "OUT", tmp_path)
    return module


def notebook(tmp_path: Path, source: str) -> Path:
    path = tmp_path / "page.ipynb"
    cells = [nbformat.v4.new_markdown_cell("# A title & more\n\nText."), nbformat.v4.new_code_cell(source)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def execute(source: Path, output: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "notebooks" / "execute_report.py", "--notebook", source, "--output", output]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_page_embeds_its_figures_and_asks_for_nothing_from_outside(tmp_path):
    drawing = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\nprint(6 * 7)"
    run = execute(notebook(tmp_path, drawing), tmp_path / "page.html")
    assert run.returncode == 0, run.stderr
    page = (tmp_path / "page.html").read_text()
    assert "<title>A title &amp; more</title>" in page
    assert "42" in page
    assert page.count("data:image/png;base64,") == 1
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:|#)", page)
    assert "<script" not in page
    assert "@import" not in page


def test_a_failing_cell_fails_the_page_and_leaves_no_half_of_one(tmp_path):
    run = execute(notebook(tmp_path, "1 / 0"), tmp_path / "page.html")
    assert run.returncode not in (0, 2)
    assert "ZeroDivisionError" in run.stderr
    assert not (tmp_path / "page.html").exists()


def test_a_finished_stage_is_not_run_again_until_its_command_or_sources_change(tmp_path, make_report):
    result, source = tmp_path / "result", tmp_path / "source.py"
    source.write_text("x = 1")

    def stage(text: str):
        write = f"open({str(result)!r}, 'a').write({text!r})"
        return make_report.Stage("a", "writes", ("-c", write), result, (str(source),))

    def run(a_stage) -> int:
        return make_report.run_stage(a_stage, make_report.fingerprint(a_stage, {}), Console(quiet=True))

    assert [run(stage("x")), run(stage("x"))] == [0, 0]
    assert result.read_text() == "x"
    run(stage("y"))
    source.write_text("x = 2")
    run(stage("y"))
    assert result.read_text() == "xyy"


def test_a_failed_stage_says_so_and_is_run_again(tmp_path, make_report):
    stage = make_report.Stage("b", "fails", ("-c", "raise SystemExit(3)"), tmp_path / "never", ())
    mark = make_report.fingerprint(stage, {})
    assert make_report.run_stage(stage, mark, Console(quiet=True)) == 3
    assert not (tmp_path / "stages" / "b.json").exists()


def test_every_stage_names_sources_that_exist(make_report):
    for stage in (*make_report.STAGES, make_report.REPORT):
        assert all((ROOT / source).exists() for source in stage.sources), stage.name


def test_every_figure_has_a_description_a_reading_with_numbers_and_the_commands_behind_it(report_page):
    page = report_page.read_text()
    figures = re.findall(r"<figure>.*?</figure>", page, re.DOTALL)
    assert len(figures) == 4
    for figure in figures:
        assert len(re.search(r'<img [^>]*alt="([^"]+)"', figure)[1]) > 20
        assert re.search(r"<figcaption><p>.*\d", figure)
        assert "python -m " in re.search(r"<pre[^>]*>(.*?)</pre>", figure, re.DOTALL)[1]
        shapes = figure.count("data:image/png;base64,"), figure.count("data:image/svg+xml;base64,")
        assert shapes in ((2, 0), (0, 1))  # one shape for wide screens and one for narrow, or one that scales


def test_the_page_opens_with_its_answers_and_folds_the_claims_away(report_page):
    page = report_page.read_text()
    claims = json.loads((report_page.parent / "claims.json").read_text())["claims"]
    refuted = [claim["id"] for claim in claims if claim["verdict"] == "refuted"]
    assert page.index('<ul class="short">') < page.index("<h2")
    outside = re.sub(r"<details.*?</details>", "", page, flags=re.DOTALL)
    assert all(f"<code>{name}</code>" in outside for name in refuted)
    folded = "".join(re.findall(r"<details.*?</details>", page, re.DOTALL))
    assert all(f"<code>{claim['id']}</code>" in folded for claim in claims)
    assert f"{len(claims)} claims: " in page
    assert f"{len(refuted)} refuted as written" in page


def test_the_words_of_a_reading_follow_the_interval(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "notebooks"))
    change_of = importlib.import_module("report_runs").change_of
    assert change_of({"mean": 0.2, "low": 0.1, "high": 0.3}).startswith("grows")
    assert change_of({"mean": -0.2, "low": -0.3, "high": -0.1}).startswith("falls")
    assert change_of({"mean": 0.2, "low": -0.1, "high": 0.5}).startswith("shows no clear change")
