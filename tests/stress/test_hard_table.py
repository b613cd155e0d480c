"""What hard use found is kept row by row, and its page says what is kept, losses included."""

import json
import sys
from pathlib import Path

import pytest

from derivations.cli.errors import InputError
from tests.stress import __main__ as program
from tests.stress.table import Row, circumstances, keep, read_kept, write_page

RESULTS = Path(__file__).parents[2] / "docs" / "results" / "hard-use.json"


def test_rows_are_kept_in_pieces_and_the_last_about_the_same_thing_counts(tmp_path):
    kept, when = tmp_path / "hard.json", circumstances()
    keep(Row("fuzz", "a|reader", tried=2000, note="1 read, 1999 refused"), kept, when)
    keep(Row("kill", "llm train", tried=20, lost=["killed after 2 s: metrics.jsonl differ"]), kept, when)
    page = write_page(kept).read_text()
    assert page.index("| kill | llm train | 20 | 1 |") < page.index(r"| fuzz | a\|reader | 2,000 | 0 | 1 read")
    assert "Lost in all: 1." in page
    assert "- kill, llm train: killed after 2 s: metrics.jsonl differ" in page
    keep(Row("kill", "llm train", tried=19), kept, when | {"date": "2001-02-03"})
    page = write_page(kept).read_text()
    assert "| kill | llm train | 19 | 0 |  |" in page
    assert "Lost in all: 0." in page
    assert "killed after 2 s" not in page
    then, now = page.split("## When, and with what")[1].strip().splitlines()  # each set of circumstances once
    assert then.startswith("- 2001-02-03; ")
    assert "began: kill 1 (" in then
    assert now.startswith(f"- {when['date']}; ")
    assert "began: fuzz 1 (" in now
    assert f"python {when['versions']['python']}" in page


def test_each_part_is_kept_as_soon_as_it_ends(tmp_path, monkeypatch):
    def broken(hard, folder):
        yield Row("kill", "first", tried=1)
        raise KeyError("second")

    kept = tmp_path / "hard.json"
    monkeypatch.setitem(program.BEHIND, "kill", broken)
    with pytest.raises(KeyError):
        program.Hard(parts=("kill",), out=kept).run()
    assert [(row["what"], row["tried"]) for row in read_kept(kept)] == [("first", 1)]


def test_only_takes_what_has_one_of_the_parts_in_its_name():
    names = ("format oasst", "recipe YAML", "sweep TOML")
    assert [name for name in names if program.Hard(only=("format ", "TOML")).takes(name)] == [names[0], names[2]]
    assert all(program.Hard().takes(name) for name in names)


@pytest.mark.parametrize("text", ["[1]", "{}", '[{"part": "kill"}]', "["])
def test_a_file_of_something_else_is_refused_and_not_overwritten(text, tmp_path):
    kept = tmp_path / "hard.json"
    kept.write_text(text)
    for part in ("table", "kill"):
        with pytest.raises(InputError, match=r"hard\.json"):
            program.Hard(parts=(part,), out=kept).run()
    assert kept.read_text() == text


def test_the_page_is_written_by_its_command_alone(tmp_path, monkeypatch):
    keep(Row("soak", "steps", tried=1), tmp_path / "hard.json", circumstances())
    monkeypatch.setattr(sys, "argv", ["stress", "table", "--out", str(tmp_path / "hard.json")])
    assert program.main() == 0
    assert "| soak | steps | 1 | 0 |  |" in (tmp_path / "hard.md").read_text()
    with pytest.raises(InputError, match="table goes without another part"):
        program.Hard(parts=("table", "kill"), out=tmp_path / "hard.json").run()


def test_the_page_in_the_docs_is_what_its_rows_say(tmp_path):
    kept = tmp_path / RESULTS.name
    kept.write_text(RESULTS.read_text())
    assert write_page(kept).read_text() == RESULTS.with_suffix(".md").read_text()
    assert json.loads(RESULTS.read_text())
