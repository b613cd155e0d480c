"""The online experiment run whole, on a tiny model with one step: processes, resumption, results, report."""

import json

import pytest

from derivations.commands import run_command
from experiments import online
from experiments.online_plan import Run, read_plan
from experiments.runs import start, start_all
from toybandit.verdicts import number

PROTOCOL = """
seeds = 2
least_seeds = 2
texts = 4
seconds = {{ start = 1.0, step = 1.0, evaluation = 1.0 }}
[common]
model = "{model}"
gold = "length"
max_steps = 2
eval_every = 1
eval_samples = 2
prompts_per_step = 2
samples = 2
max_new_tokens = 6
proxy_pairs = 50
lr = 1e-3
[groups.main]
says = ""
options = {{}}
[groups.main.arms]
"none" = {{ regularizer = "none" }}
"entropy-0.05" = {{ regularizer = "entropy=0.05" }}
[toy]
seeds = 2
steps = 3
pairs = {{ "none" = "none" }}
[least]
forgotten = 0.02
kl = 0.1
spread = 0.001
[[claims]]
says = "Entropy forgets"
checks = [{{ arm = "entropy-0.05", metric = "retention/kappa", how = "after", at_most = 0.5 }}]
"""


@pytest.fixture
def experiment(tiny_folder, tmp_path, own_cache, monkeypatch):
    """Call the command with runs in this process; returns its status and the names of the runs that it started."""
    (tmp_path / "p.toml").write_text(PROTOCOL.format(model=tiny_folder))
    plan = read_plan(tmp_path / "p.toml")
    paths = {"protocol": "p.toml", "results": "results", "out": "out", "report": "docs/online.md"}
    base = [word for name, path in paths.items() for word in (f"--{name}", str(tmp_path / path))]

    def call(*options, fails=()):
        started = []

        def here(run, settings):
            started.append(run.name)
            if run.name in fails:
                return 1
            online.do(run, plan, settings)
            return 0

        monkeypatch.setattr(online, "start_run", here)
        monkeypatch.setattr("sys.argv", ["online", *base, "--jobs", "1", *options])
        with pytest.raises(SystemExit) as left:
            run_command(online.main)
        return left.value.code, started

    return call


def test_an_experiment_goes_on_with_what_is_missing_and_finished_runs_are_not_touched(experiment, tmp_path, capsys):
    results = tmp_path / "results"
    assert experiment("--dry-run") == (0, [])
    assert not results.exists()  # a dry run writes nothing
    names = ["none-seed0", "entropy-0.05-seed0", "none-seed1", "entropy-0.05-seed1"]
    assert experiment("--only", "*-seed0", fails={"entropy-0.05-seed0"}) == (1, names[:2])
    assert [path.name for path in results.iterdir()] == ["none-seed0.json"]
    assert "**too few seeds**" in (tmp_path / "docs/online.md").read_text()
    first = (results / "none-seed0.json").read_bytes()
    assert experiment("--report-only") == (0, [])
    assert experiment() == (0, names[1:])
    assert (results / "none-seed0.json").read_bytes() == first
    assert experiment() == (0, [])
    assert {path.stem for path in results.iterdir()} == set(names)
    assert not list((tmp_path / "out").glob("*/run"))  # weights and records are not kept
    capsys.readouterr()
    experiment("--dry-run")
    assert "0 of 4 runs left" in capsys.readouterr().out

    text = (tmp_path / "docs/online.md").read_text()
    assert "**not reproduced**" in text  # two steps do not halve kappa
    assert "missing" not in text
    for path in results.iterdir():
        assert path.stat().st_size < 10_000
        result = json.loads(path.read_text())
        assert [e["step"] for e in result["evaluations"]] == [0, 1, 2]
        start_kappa = result["evaluations"][0]["retention"]["kappa"]["mean"]
        assert start_kappa == pytest.approx(1, abs=1e-5)
        assert len(result["curve"]["kl"]) == 2
        assert len(result["texts"]) == 4
    last = json.loads((results / "none-seed1.json").read_text())["evaluations"][-1]
    assert number(last["retention"]["kappa"]["mean"]) in text  # the table of runs


def test_a_run_is_a_process_with_a_log_and_its_exit_status(tmp_path, capsys):
    log = tmp_path / "a" / "log.txt"
    assert start("good", "platform", [], log) == 0
    assert log.read_text().strip()
    assert start("bad", "json.tool", [str(tmp_path / "missing.json")], log) != 0
    assert "missing.json" in log.read_text()
    assert "good: done" in (said := capsys.readouterr().out)
    assert "bad: failed, see" in said


def test_an_interrupt_starts_no_more_runs():
    started = []

    def one(run):
        started.append(run)
        if run == 1:
            raise KeyboardInterrupt
        return 0

    with pytest.raises(KeyboardInterrupt):
        start_all(list(range(50)), one, 1)
    assert started[:2] == [0, 1]
    assert len(started) < 5  # one job: at most the next one was on its way


def test_the_process_of_a_run_gets_the_folders_of_the_experiment(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(online, "start", lambda *args: seen.append(args) or 0)
    settings = online.Settings(out=tmp_path / "o", results=tmp_path / "r", protocol=tmp_path / "p.toml")
    assert online.start_run(Run("kl-0.05", "main", 2, {}), settings) == 0
    ((name, module, options, log),) = seen
    assert (name, module) == ("kl-0.05-seed2", "experiments.online")
    assert options == ["--run", name, "--out", str(tmp_path / "o"), "--results", str(tmp_path / "r"), "--protocol",
                       str(tmp_path / "p.toml")]  # fmt: skip
    assert log == tmp_path / "o" / name / "log.txt"
