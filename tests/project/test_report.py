"""The report's page needs nothing but itself, and its stages run once."""

import importlib
import io
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from rich.console import Console

ROOT = Path(__file__).parents[2]


@pytest.fixture
def stages(monkeypatch):
    """The runner of stages, imported as the script `make_report.py` does."""
    monkeypatch.syspath_prepend(str(ROOT / "notebooks"))
    return importlib.import_module("report_stages")


def runner(stages, out: Path, *own) -> tuple[object, io.StringIO]:
    """A runner that writes into a pipe, and what it wrote."""
    said = io.StringIO()
    return stages.Runner(out, Console(file=said, width=200), stages.Clock(own, first_time=False)), said


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


def test_a_finished_stage_is_not_run_again_until_its_command_or_sources_change(tmp_path, stages):
    result, source = tmp_path / "result", tmp_path / "source.py"
    source.write_text("x = 1")

    def run(text: str) -> int:
        write = f"open({str(result)!r}, 'a').write({text!r})"
        stage = stages.Stage("a", "writes", ("-c", write), result, (str(source),))
        return runner(stages, tmp_path, stage)[0].run([stage], {"a": stages.fingerprint(stage, {})})

    assert [run("x"), run("x")] == [0, 0]
    assert result.read_text() == "x"
    run("y")
    source.write_text("x = 2")
    run("y")
    assert result.read_text() == "xyy"


def test_a_change_in_a_folder_below_a_source_runs_its_stage_again(tmp_path, stages):
    (tmp_path / "source" / "deep").mkdir(parents=True)
    stage = stages.Stage("a", "", ("-c", ""), tmp_path / "result", (str(tmp_path / "source"),))
    before = stages.fingerprint(stage, {})
    (tmp_path / "source" / "deep" / "file.py").write_text("x = 1")
    assert stages.fingerprint(stage, {}) != before


def test_a_failed_stage_says_so_stops_the_one_beside_it_and_is_run_again(tmp_path, stages):
    bad = stages.Stage("bad", "fails", ("-c", "print('why'); raise SystemExit(3)"), tmp_path / "never", ())
    slow = stages.Stage("slow", "sleeps", ("-c", "import time; time.sleep(60)"), tmp_path / "no", (), lane=1)
    run, said = runner(stages, tmp_path, bad, slow)
    began = time.monotonic()
    assert run.run([bad, slow], {"bad": "x", "slow": "y"}) == 3
    assert time.monotonic() - began < 30
    assert "why\n" in said.getvalue()
    assert "failed with exit status 3: python -c print" in said.getvalue()
    assert not (tmp_path / "stages").exists()


def test_in_a_pipe_no_silence_lasts_and_every_line_says_what_is_left(tmp_path, stages, monkeypatch):
    monkeypatch.setattr(stages, "EVERY", 0.4)
    write = "import time; time.sleep({}); open({!r}, 'w')"
    own = [
        stages.Stage(n, "sleeps", ("-c", write.format(s, str(tmp_path / n))), tmp_path / n, (), lane=lane, seconds=s)
        for n, s, lane in (("a", 2.0, 0), ("b", 0.2, 1), ("c", 0.2, 1))
    ]
    run, said = runner(stages, tmp_path, *own)
    assert run.run(own, dict.fromkeys("abc", "x")) == 0
    lines = said.getvalue().splitlines()
    starts, ends = ([lines.index(line) for line in lines if word in line] for word in (" starts: ", " s (expected "))
    assert [lines[i].split()[0] for i in starts] == ["a", "b", "c"]
    assert starts[2] > next(i for i in ends if lines[i].split()[0] == "b")  # c waits for b, not for a
    between = [line for line in lines if re.fullmatch(r"    \w \d+ of about .*; \d+ s so far, about \d+ s left", line)]
    assert between, lines
    assert lines[-1].endswith("all done")


def test_what_is_left_is_the_longest_lane_and_the_last_stage_at_the_speed_so_far(stages, tmp_path):
    own = [
        stages.Stage(n, "", (), tmp_path, (), lane=lane, seconds=s, once=once)
        for n, s, lane, once in (("a", 10, 0, 0), ("b", 20, 0, 0), ("c", 25, 1, 40), ("page", 5, -1, 0))
    ]
    clock = stages.Clock(own, first_time=False)
    assert clock.left([]) == pytest.approx(35)  # 10 + 20 beside 25, then 5
    assert stages.Clock(own, first_time=True).left([]) == pytest.approx(70)
    clock.took["a"] = 30.0  # three times as slow as expected
    assert clock.left([]) == pytest.approx(3 * 25 + 3 * 5)
    clock.skip("c")
    assert clock.left([]) == pytest.approx(3 * 20 + 3 * 5)


def test_every_stage_names_sources_that_exist(stages):
    report = importlib.import_module("make_report")
    for stage in (*report.STAGES, report.REPORT):
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
    training = importlib.import_module("report_training")
    change_of, more_or_less, learned = training.change_of, training.more_or_less, training.learned
    assert change_of({"mean": 0.2, "low": 0.1, "high": 0.3}).startswith("grows")
    assert change_of({"mean": -0.2, "low": -0.3, "high": -0.1}).startswith("falls")
    assert change_of({"mean": 0.2, "low": -0.1, "high": 0.5}).startswith("shows no clear change")
    assert more_or_less({"mean": -2.0, "low": -3.0, "high": -1.0}) == "below it by 2.00 [1.00, 3.00] nats"
    assert more_or_less({"mean": 2.0, "low": -1.0, "high": 5.0}).startswith("not surely apart")
    chance, clear = {"mean": 0.5, "low": 0.3, "high": 0.7}, {"mean": 0.9, "low": 0.8, "high": 1.0}
    assert [learned(clear, chance), learned(chance, chance), learned(clear, clear)] == [True, False, False]


def test_the_train_section_shows_the_control_and_what_was_measured_over_seeds(report_page):
    page = report_page.read_text()
    train = page[page.index("Train: a language model") :]
    for words in ("shuffled labels", "no regularizer", "Measured over 3 seeds (docs/offline.md)", "verdict"):
        assert words in train
    offline = json.loads((ROOT / "docs" / "offline.json").read_text())["claims"]
    assert all(claim["claim"] in train for claim in offline)
    online = json.loads((ROOT / "docs" / "online.json").read_text())["claims"]
    assert f"All {len(online)} claims of that experiment with their verdicts" in train
    assert "TrainConfig(" not in page
    assert "Objective(" not in page
