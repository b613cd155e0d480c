"""What every command does alike: exit status, whole files, run folders that lose nothing."""

import importlib
import json
import os
import pickle
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from derivations.cli.command_line import command_line, read_command, run_command
from derivations.cli.errors import InputError, input_errors
from derivations.cli.files import to_json, write_json
from derivations.cli.run_folder import start_run
from llm.settings.train import TrainConfig
from toybandit.cli_run import Run

PROGRAMS = ("derivations", "toybandit", "llm")


def program(name):
    return importlib.import_module(f"{name}.__main__")


COMMANDS = [(name, command) for name in PROGRAMS for command in program(name).COMMANDS]


def fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("main", "status"),
    [
        (lambda: None, 0),
        (lambda: 1, 1),
        (lambda: fail(InputError("no such file: x")), 2),
        (lambda: fail(KeyboardInterrupt()), 130),
    ],
)
def test_exit_status_says_how_it_ended(main, status, capsys):
    with pytest.raises(SystemExit) as ended:
        run_command(main)
    assert ended.value.code == status
    if status == 2:
        assert capsys.readouterr().err == "error: no such file: x\n"


def test_a_defect_of_ours_is_not_dressed_up_as_the_user_s_mistake():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0)


def test_value_errors_of_settings_become_input_errors_with_their_place():
    with pytest.raises(InputError, match=r"config\.json: beta"), input_errors("config.json: "):
        raise ValueError("beta is -1")


def test_a_failed_write_leaves_the_old_file_and_no_temporary_one(tmp_path):
    path = tmp_path / "summary.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["summary.json"]


def test_a_message_carries_no_control_characters_and_no_endless_value():
    assert str(InputError("a\x1b[2J\0\udcff: é \u4e2d")) == "a\\x1b[2J\\x00\\udcff: é \u4e2d"
    words = str(InputError("file.json: got " + "9" * 10**6 + "; mend it"))
    assert words.startswith("file.json: got 999")
    assert words.endswith("999; mend it")
    assert len(words) < 1500


def test_a_message_is_one_line_whatever_it_names_unless_more_is_put_below_it():
    error = InputError("no such file: a\nb\u2028c", below="contract\x1b:\n  logp")
    assert str(error) == "no such file: a\\nb\\u2028c\ncontract\\x1b:\n  logp"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 (as between processes)


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_json(pipe, {"a": 1})
    assert json.loads(os.read(reader, 100)) == {"a": 1}
    os.close(reader)
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_lone_surrogate_survives_the_file(tmp_path):
    write_json(tmp_path / "a.json", {"text": "half \ud800 é"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"text": "half \ud800 é"}


def test_json_is_strict_and_knows_arrays_paths_and_non_finite_numbers():
    text = to_json({"x": np.float32(0.5), "y": [float("nan"), float("inf")], "p": Path("a/b"), "z": np.arange(2)})
    assert json.loads(text) == {"x": 0.5, "y": [None, None], "p": "a/b", "z": [0, 1]}


def test_an_earlier_run_is_moved_aside_and_nothing_else_is_touched(tmp_path):
    out = tmp_path / "run"
    start_run(out, {"seed": 0})
    (out / "metrics.jsonl").write_text("first")
    start_run(out, {"seed": 1})
    assert (tmp_path / "run.1" / "metrics.jsonl").read_text() == "first"
    saved = json.loads((out / "config.json").read_text())
    assert saved["config"] == {"seed": 1}
    assert {"python", "numpy"} <= saved["versions"].keys()


def test_a_folder_that_is_not_a_run_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="not a run folder"):
        start_run(tmp_path, {})
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("name", [".", "/", "x" * 300, "a\0b"])
def test_a_place_that_cannot_be_written_is_one_clear_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "thesis.tex").write_text("years of work")
    for write in (write_json, start_run):
        with pytest.raises(InputError, match=r"cannot|not a run folder"):
            write(Path(name), {})
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("derivations chek", "unknown command 'chek'; did you mean 'check'? (known: check, list"),
        ("llm trian", "did you mean 'train'?"),
        ("toybandit run --wolrd tree", "toybandit run has no option --wolrd; did you mean '--world'?"),
        ("llm online --regulariser kl", "has no option --regulariser; did you mean '--regularizer'?"),
        ("derivations check --no-mutant", "did you mean '--no-mutants'?"),
        ("llm train --out a", "llm train needs --objective"),
        ("llm train --objective dpo --dtype=bf15", "--dtype: unknown choice 'bf15'; did you mean 'bf16'?"),
        ("toybandit offline --optimizer adm", "--optimizer: unknown choice 'adm'; did you mean 'adam'?"),
    ],
)
def test_a_mistyped_name_is_one_line_with_the_nearest_one(line, message, monkeypatch, capsys):
    name, *words = line.split()
    monkeypatch.setattr(sys, "argv", [name, *words])
    with pytest.raises(SystemExit) as ended:
        run_command(program(name).main)
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_underscores_equals_signs_and_formulas_behind_two_dashes_are_no_mistakes():
    run = read_command({"run": Run}, prog="p", about="", arguments=["run", "--prior_scale=2", "--regularizer", "none"])
    assert run.prior_scale == 2
    derive = program("derivations").COMMANDS["derive"]
    words = ["derive", "--format", "json", "--", "-beta*q*log(p/q)"]
    assert read_command({"derive": derive}, prog="p", about="", arguments=words).formula == words[-1]


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids="-".join)
def test_help_shows_examples_that_the_command_takes_and_says_what_each_option_is(
    name, command, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for place in ("pairs.jsonl", "held-out.jsonl"):
        Path(place).write_text("{}")
    commands = program(name).COMMANDS
    docs = f"{commands[command].__doc__}\n{program(name).__doc__}"
    examples = re.findall(rf"Example: (python -m {name} {command}\b.*)", docs)
    assert examples
    for example in examples:
        words = shlex.split(example)
        assert isinstance(read_command(commands, prog="p", about="", arguments=words[3:]), commands[command])
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as ended:
        read_command(commands, prog="p", about="", arguments=[command, "--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert "usage: p" in shown
    options = re.findall(r"│ +(-.*?)(?:\(default: .*\)|\(required\))? +│", shown)
    assert all(re.search(r"[a-z]{3,} [a-z]", option) for option in options), options


def test_the_overview_names_every_command_with_its_examples(capsys):
    for name in PROGRAMS:
        with pytest.raises(SystemExit):
            read_command(
                program(name).COMMANDS, prog=f"python -m {name}", about=program(name).__doc__, arguments=["--help"]
            )
        shown = capsys.readouterr().out
        assert all(
            f"  {command}" in shown and f"python -m {name} {command}" in shown for command in program(name).COMMANDS
        )


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_alone_says_what_it_can_do_with_three_examples(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name])
    with pytest.raises(SystemExit) as ended:
        run_command(program(name).main)
    shown, err = capsys.readouterr()
    assert (ended.value.code, err) == (0, "")
    assert len(re.findall(rf"^  python -m {name} ", shown, re.MULTILINE)) == 3
    assert len(shown.splitlines()) < 32


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Run, Run(regularizer="beta*p*log(p/q)", coefficient=0.5, prompts=None, quiet=True, out=Path("a b"))),
        (TrainConfig, TrainConfig(objective="simpo", gamma=0.3, save=False, micro_batch_size=None)),
    ],
)
def test_the_echoed_command_line_gives_the_same_settings_again(kind, settings):
    words = ["x", *shlex.split(command_line(settings))]
    assert read_command({"x": kind}, prog="p", about="", arguments=words) == settings
