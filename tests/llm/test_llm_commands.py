"""Bad input is one line with status 2, found before anything slow or written; `--help` answers without torch."""

import importlib.metadata
import json
import subprocess
import sys
import textwrap
from dataclasses import dataclass

import pytest

from derivations.cli.command_line import run_command
from llm.__main__ import main
from tests.helpers.llm_runs import write_pairs


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def llm(tmp_path, monkeypatch, capsys):
    """`python -m llm ARGUMENTS` in an empty folder, without the seconds that loading torch anew takes."""
    monkeypatch.chdir(tmp_path)

    def start(*arguments):
        monkeypatch.setattr(sys, "argv", ["llm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run_command(main)
        out, err = capsys.readouterr()
        return Done(ended.value.code, out, err)

    return start


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--objective", "dpo", "--data", "no-such.jsonl"), "no such file: no-such.jsonl"),
        (("train", "--objective", "dpoo"), "did you mean 'dpo'"),
        (("train", "--objective", "f-dpo"), "divergence is None"),
        (("train", "--objective", "dpo-pl", "--gamma", "1"), "takes no gamma"),
        (("train", "--objective", "dpo", "--patience", "3"), "give --eval-every"),
        (("train", "--objective", "dpo", "--label-smoothing", "nan"), "takes no label_smoothing"),
        (("train", "--objective", "cdpo", "--label-smoothing", "nan"), "label_smoothing is nan"),
        (("train", "--objective", "f-dpo", "--divergence", "alpha-divergence", "--order", "nan"), "order is nan"),
        (("train", "--recipe", "nothing"), "no recipe 'nothing'"),
        (("train", "--objective", "dpo", "--data", "x" * 300), "File name too long"),
        (("inspect-data", "no-such.jsonl"), "no such file: no-such.jsonl"),
        (("train", "--objective", "dpo", "--beta", "-1"), "beta is -1.0"),
        (("train", "--objective", "dpo", "--alpha", "1"), "takes no alpha"),
        (("train", "--objective", "dpo", "--lr", "nan"), "--lr is nan"),
        (("train", "--objective", "dpo", "--batch-size", "0"), "--batch-size is 0"),
        (("train", "--objective", "dpo", "--model", "./no-such-model"), "'./no-such-model' cannot be loaded"),
        (("online", "--regularizer", "entropi=1"), "did you mean 'entropy'"),
        (("online", "--regularizer", "kl", "--coefficient", "-1"), "coefficient is -1.0"),
        (("online", "--regularizer", "none", "--samples", "1"), "at least 2"),
        (("online", "--regularizer", "none", "--gold", "sentimant"), "did you mean 'sentiment'"),
        (("online", "--regularizer", "none", "--prompt", "Write."), "write {topic} there"),
        (("online", "--regularizer", "none", "--proxy", "no-such"), "--proxy no-such: no saved proxy there"),
        (("online", "--regularizer", "none", "--wrong-bonus", "nan"), "--wrong-bonus is nan"),
    ],
)
def test_bad_input_is_one_line_that_names_it_with_status_2_and_leaves_no_run_folder(llm, arguments, message, tmp_path):
    out = () if arguments[0] == "inspect-data" else ("--out", "out")
    done = llm(*arguments, *out)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_broken_data_is_found_before_the_model_is_loaded(llm, tmp_path):
    """So are single responses, which no objective takes; the command that makes pairs of them is named."""
    kto = json.dumps({"prompt": "a", "completion": "b", "label": True})
    refused = {'{"prompt": ': "cannot read a.jsonl: a.jsonl line 1: broken JSON", kto: "a.jsonl holds single responses"}
    for text, message in refused.items():
        (tmp_path / "a.jsonl").write_text(text)
        done = llm("train", "--objective", "dpo", "--data", "a.jsonl", "--model", "./none", "--out", "out")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: {message}")
        assert len(done.stderr.splitlines()) == 1
        assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
    assert "`inspect-data a.jsonl --write PAIRS.jsonl` writes a pair for each prompt" in done.stderr


def test_data_of_which_nothing_is_usable_is_refused_with_the_first_reason(llm, tmp_path):
    turn = {"role": "user", "content": "a"}
    (tmp_path / "a.jsonl").write_text(json.dumps({"chosen": [turn], "rejected": [turn]}))
    done = llm("inspect-data", "a.jsonl")
    assert done.returncode == 2
    assert done.stderr == (
        "error: a.jsonl: no usable comparison; first: a.jsonl line 1: field 'chosen' ends with a message of the user, "
        "not with an answer\n"
    )


def test_help_answers_without_torch():
    code = "import sys, llm.settings.train, llm.__main__; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_without_torch_the_extra_is_named(llm, monkeypatch):
    monkeypatch.setattr("llm.__main__.find_spec", lambda name: None)
    done = llm("train", "--objective", "dpo")
    assert (done.returncode, done.stderr) == (2, "error: this needs the extra `llm`: pip install '.[llm]'\n")


@pytest.mark.parametrize(
    ("version", "refused"), [("5.19.4", True), ("4.57.0", True), ("5.20.0", False), ("6.0.0rc1", False)]
)
@pytest.mark.parametrize("command", ["train", "online", "inspect-data"])
def test_a_transformers_that_is_too_old_is_refused_in_one_line(command, version, refused, llm, monkeypatch, tmp_path):
    real = importlib.metadata.version
    monkeypatch.setattr("importlib.metadata.version", lambda name: version if name == "transformers" else real(name))
    (tmp_path / "a.jsonl").write_text(json.dumps(PAIR))
    options = {"train": ("--objective", "dpo"), "online": ("--regularizer", "none"), "inspect-data": ("a.jsonl",)}
    done = llm(command, *options[command], "--model", "./none")
    assert done.returncode == 2
    words = f"error: transformers {version} is too old; pip install 'transformers>=5.20'\n"
    assert (done.stderr == words) == refused


def test_a_transformers_that_is_too_old_is_refused_by_the_import_of_the_library_too():
    code = """
        import importlib.metadata
        real = importlib.metadata.version
        importlib.metadata.version = lambda name: "5.19.0" if name == "transformers" else real(name)
        from derivations.cli.command_line import run_command
        run_command(lambda: __import__("llm.scoring.models"))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "transformers 5.19.0 is too old" in done.stderr.splitlines()[-1]


PAIR = {"prompt": "a", "chosen": "b", "rejected": "c"}


@pytest.mark.parametrize("command", ["train", "online"])
def test_a_run_folder_that_cannot_be_is_refused_before_the_model_is_loaded(llm, command, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    (tmp_path / "file").write_text("")
    what = ("--objective", "dpo") if command == "train" else ("--regularizer", "none")
    refusals = (("thesis", "not a run folder"), ("file/run", "nothing can be written"), ("x" * 300, "name too long"))
    for out, message in refusals:
        done = llm(command, *what, "--model", "./none", "--out", out)
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_the_early_check_of_the_run_folder_agrees_with_the_one_that_makes_it(tmp_path):
    from derivations.cli.errors import InputError
    from derivations.cli.run_folder import start_run
    from llm.engine.jsonl import require_out

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("")
    (tmp_path / "file").write_text("")
    for name in ("run", "empty", "other", "file", "new", "new/deep", "file/below"):
        outcomes = []
        for check in (require_out, lambda out: start_run(out, {})):
            try:
                check(tmp_path / name)
                outcomes.append("accepted")
            except InputError:
                outcomes.append("refused")
        assert outcomes[0] == outcomes[1], name


@pytest.mark.parametrize("damage", ["cut", "header", "not json"])
def test_a_damaged_model_folder_is_one_line(llm, damage, tiny_folder, tmp_path):
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    weights = folder / "model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "header":
        weights.write_bytes(b"\xff" * 64)
    else:
        (folder / "config.json").write_text("{")
    (tmp_path / "a.jsonl").write_text(json.dumps(PAIR))
    done = llm("train", "--objective", "maxent", "--data", "a.jsonl", "--model", "model", "--out", "out")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: model 'model' cannot be loaded (")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_length_beyond_the_model_s_positions_is_refused(llm, tiny_folder, tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(PAIR))
    options = ("--objective", "maxent", "--data", "a.jsonl", "--model", str(tiny_folder), "--max-length", "513")
    done = llm("train", *options, "--out", "out")
    assert done.returncode == 2
    assert "513 tokens, but the model has positions 512; lower --max-length" in done.stderr


def test_as_json_a_training_run_prints_its_settings_and_summary_and_nothing_else(llm, tiny_folder, tmp_path, own_cache):
    write_pairs(tmp_path / "pairs.jsonl", 8)
    options = ("--objective", "dpo", "--model", tiny_folder, "--data", "pairs.jsonl", "--eval-size", "2", "--no-save")
    done = llm("train", *options, "--max-steps", "1", "--out", "run", "--format", "json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["summary"] == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (answer["settings"]["objective"], answer["settings"]["lr"]) == ("dpo", 1e-5)
    again = llm("train", *options, "--max-steps", "1", "--out", "run", "--format", "json", "--resume")
    assert json.loads(again.stdout)["summary"] == answer["summary"]


def test_as_json_an_online_run_prints_its_settings_and_summary(llm, tiny_folder, tmp_path, own_cache):
    options = ("--regularizer=none", "--gold=length", "--max-new-tokens=6", "--max-steps=1", "--no-save")
    done = llm("online", *options, "--model", tiny_folder, "--eval-samples=1", "--out=run", "--format=json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["summary"] == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert answer["settings"]["regularizer"] == "none"
