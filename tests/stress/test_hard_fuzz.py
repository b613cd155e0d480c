"""A fast part of `make fuzz`: every reader and every program on a few dozen generated inputs; and the law can fail."""

import json
import typing

import pytest
from hypothesis import strategies as st

from derivations.cli.errors import InputError
from tests.stress.fuzz import Lost, Reader, fuzz, law
from tests.stress.lines import REQUIRED, WORK, commands, fuzz_lines, place, type_in
from tests.stress.llm_readers import llm_readers
from tests.stress.other_readers import other_readers

EXAMPLES = 8


def test_every_reader_reads_or_refuses_in_one_line_that_names_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    readers = [*other_readers(), *llm_readers()]
    assert len({reader.name for reader in readers}) == len(readers) > 30
    rows = [fuzz(reader, examples=EXAMPLES, root=7) for reader in readers]
    assert [row.lost for row in rows if row.lost] == []
    assert all(row.tried >= EXAMPLES for row in rows)


@pytest.mark.parametrize("program", WORK)
def test_every_command_line_is_taken_or_refused_with_status_2(program):
    row = fuzz_lines(program, examples=EXAMPLES, root=7)
    assert row.lost == []
    assert row.tried >= EXAMPLES


@pytest.mark.parametrize("program", WORK)
def test_a_line_break_in_any_option_is_refused_in_one_line(program):
    for name, kind in commands(program).items():
        for option in typing.get_type_hints(kind):
            with place() as root:  # type_in raises if a refusal has two lines
                type_in(program, [name, *REQUIRED.get(name, []), f"--{option.replace('_', '-')}", "a\nb"], root)


def raising(error):
    def call():
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("prompt"), "KeyError"),
        (SystemExit(0), "SystemExit"),
        (InputError("a.json is wrong", below="and so on"), "no one short line"),
        (InputError("line 3 is wrong"), "does not name a.json"),
    ],
)
def test_the_law_is_broken_by_a_traceback_two_lines_or_a_nameless_file(error, message):
    with pytest.raises(Lost, match=message):
        law(raising(error), named="a.json")


def test_a_reader_that_fails_on_one_field_is_found_out_and_its_file_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def careless(folder):
        if json.loads((folder / "a.json").read_text()) > 1000:
            raise ZeroDivisionError("seen only with large numbers")

    row = fuzz(
        Reader("careless", "a.json", st.integers().map(lambda n: str(n).encode()), careless), examples=200, root=0
    )
    assert len(row.lost) == 1
    assert "ZeroDivisionError" in row.lost[0]
    assert (tmp_path / "out" / "fuzz" / "careless").read_text() == "1001"  # the smallest one


def test_a_refusal_that_leaves_a_file_behind_is_found_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def leaves(folder):
        (folder / "half").write_text("")
        raise InputError("a.json is wrong")

    row = fuzz(Reader("leaves", "a.json", st.just(b""), leaves), examples=1, root=0)
    assert "left files behind" in row.lost[0]


def test_a_command_that_breaks_is_found_out(monkeypatch):
    from toybandit.cli_sweep import Sweep

    monkeypatch.setattr(Sweep, "over_file", raising(KeyError("grid")))
    with place() as root, pytest.raises(Lost, match="from toybandit"):
        type_in("toybandit", ["sweep", "--grid", "coefficient=1"], root)


def test_a_line_that_would_open_a_page_in_the_browser_stops_before():
    with place() as root:
        assert type_in("toybandit", ["explore"], root) == "accepted"


@pytest.mark.parametrize("reference", [[None], [{}], ["a"], 3])
def test_a_batch_that_was_kept_with_something_else_for_its_reference_is_refused(reference, tmp_path):
    from llm.offline.replay import _groups

    row = {"where": "a line 1", "examples": [{"prompt": [1], "response": [2], "complete": True}], "reference": [-1]}
    [(_, logps, _)] = _groups({"batch": [row]}, tmp_path)
    assert logps.tolist() == [-1.0]
    with pytest.raises(InputError, match=r"diverged\.json keeps no batch of a training step"):
        _groups({"batch": [row | {"reference": reference}]}, tmp_path)
