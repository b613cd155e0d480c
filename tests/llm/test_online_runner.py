"""The online experiment run whole, on a tiny model with one step: processes, resumption, results, report."""

import json

import numpy as np
import pytest
import torch

from derivations.cli.command_line import run_command
from derivations.evidence.results import start, start_all
from derivations.evidence.verdicts import number
from derivations.objectives import rloo_advantage
from llm.engine.engine import Engine
from llm.experiments import online
from llm.experiments.online_kernel import clock, gradient, norm_of, response
from llm.experiments.online_plan import Run, read_plan
from llm.online.setup import POOL_SAMPLES, make_world
from llm.sampling.topics import TOPICS
from llm.scoring.models import load_model
from llm.settings.online import OnlineConfig

PROTOCOL = """
seeds = 2
least_seeds = 2
texts = 4
seconds = {{ start = 1.0, step = 1.0, evaluation = 1.0, kernel = 1.0 }}
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
[kernel]
seeds = 1
samples = 2
step = 0.003
alpha = 0.05
ratio_at_most = 0.5
clock_at_most = 0.5
[toy]
seeds = 2
steps = 3
pairs = {{ "none" = "none" }}
offline = {{ steps = 3, held_out = 5, objectives = {{ dpo = {{ beta = 1.0 }} }} }}
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
    names = ["none-seed0", "entropy-0.05-seed0", "none-seed1", "entropy-0.05-seed1", "kernel-seed0"]
    assert experiment("--only", "none-seed0", "entropy-0.05-seed0", fails={"entropy-0.05-seed0"}) == (1, names[:2])
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
    assert "0 of 5 runs left" in capsys.readouterr().out

    text = (tmp_path / "docs/online.md").read_text()
    assert "**not reproduced**" in text  # two steps do not halve kappa
    assert "missing" not in text
    for path in results.glob("[!k]*.json"):
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
    assert (name, module) == ("kl-0.05-seed2", "llm.experiments.online")
    assert options == ["--run", name, "--out", str(tmp_path / "o"), "--results", str(tmp_path / "r"), "--protocol",
                       str(tmp_path / "p.toml")]  # fmt: skip
    assert log == tmp_path / "o" / name / "log.txt"


# ---- the kernel


@pytest.fixture
def world(tiny_folder, tmp_path, own_cache):
    config = OnlineConfig(
        regularizer="none", model=str(tiny_folder), gold="length", max_new_tokens=6, proxy_pairs=50, quiet=True
    )
    model, tokenizer = load_model(config.model)
    return make_world(config, Engine.of(config, model), tokenizer, config.make_regularizer())


def test_the_answer_to_a_step_is_the_directional_derivative_fitted_on_reference_samples(world):
    """Brute force: the derivative of each log-prob by automatic differentiation, then least squares."""
    batch = world.draw(TOPICS[:6], k=3, max_new_tokens=6, seed=(1, 2))
    direction = gradient(world.engine, batch, batch.logq, k=3)
    found = response(world, direction, length=5e-3)

    fixed = list(world.fixed.values())
    policy = [p for p in world.engine.transformer.parameters() if p.requires_grad]
    changes = []
    for example in (e for own in fixed for e in own.examples):
        slopes = torch.autograd.grad(world.engine.scorer([example]).sum(), policy)
        changes.append(sum(float((s * d).sum()) for s, d in zip(slopes, direction, strict=True)))

    def centre(x):
        table = x.reshape(-1, POOL_SAMPLES)
        return (table - table.mean(1, keepdims=True)).ravel()

    logq, proxy = (centre(np.concatenate([getattr(b, n).double().numpy() for b in fixed])) for n in ("logq", "proxy"))
    (kappa, tau), *_ = np.linalg.lstsq(np.stack([logq, proxy], 1), centre(np.array(changes)))
    # third order of the step and float32 log-probs, of which a step so small moves a thousandth: a few per cent
    assert found["kappa"] == pytest.approx(kappa, rel=0.1)
    assert found["tau"] == pytest.approx(tau, rel=0.1, abs=0.1 * abs(kappa))
    assert found["bend"] < 0.5
    assert abs(kappa) > 1e-3
    again = response(world, direction, length=5e-3)
    assert again == found  # the weights were put back


def test_the_gradient_raises_the_score_it_is_of(world):
    batch = world.draw(TOPICS[:6], k=3, max_new_tokens=6, seed=(1, 2))
    direction = gradient(world.engine, batch, batch.proxy, k=3)
    weights = rloo_advantage(batch.proxy.reshape(-1, 3)).reshape(-1)

    def score():
        return float((weights * world.engine.logps(batch.examples)).mean())

    before, step = score(), 1e-2 / norm_of(direction)
    with torch.no_grad():
        for parameter, own in zip(world.engine.transformer.parameters(), direction, strict=True):
            parameter += step * own
    # to first order the score rises by step * |g|^2
    assert score() - before == pytest.approx(step * norm_of(direction) ** 2, rel=0.05)


def test_natural_gradient_s_rates_make_a_clock_of_1():
    alpha, rate = 0.05, 3.0  # along log q: kappa at this rate; along r: tau at the same
    assert clock(-alpha * rate, rate, alpha) == pytest.approx(1)
