"""`conform` as a user meets it: contract, options, errors, exit status, formats, and what the documentation shows."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the losses on trial here are written in torch")

from derivations.cli.errors import InputError  # noqa: E402
from derivations.conformance import conform  # noqa: E402
from derivations.conformance.commands import Conform  # noqa: E402
from derivations.conformance.contracts import NAMES, options_of  # noqa: E402
from derivations.conformance.laws import all_laws  # noqa: E402
from derivations.conformance.loading import load, parse_pairs, parse_value  # noqa: E402
from derivations.conformance.loss_under_test import make_subject  # noqa: E402
from derivations.conformance.report import FORMATS  # noqa: E402
from derivations.objectives import dpo, simpo  # noqa: E402

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "my_losses.py"


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # tensors this small lose more to threads than they gain
    yield
    torch.set_num_threads(before)


def command(*arguments, cwd=ROOT):
    line = [sys.executable, "-m", "derivations", "conform", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}  # this checkout, from whatever folder
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=cwd, env=environment)


def from_source(source):
    names = {"torch": torch, "np": np, "F": torch.nn.functional}
    exec(source, names)  # noqa: S102
    return names["loss"]


# ---------------------------------------------------------------- what the documentation shows


def test_the_example_of_the_documentation_comes_out_as_printed_there():
    page = (ROOT / "docs" / "conformance.md").read_text()
    broken, mended = re.findall(r"```text\n(.*?)```", page, flags=re.DOTALL)
    run = command("my_losses.py:simpo_loss", "--objective", "simpo", cwd=EXAMPLE.parent)
    assert run.returncode == 1
    assert run.stdout.startswith(broken)
    assert "BROKEN  mask-leak" in run.stdout
    assert run.stdout.index("BROKEN") < run.stdout.index("advice") < run.stdout.index("passed")
    outcome = conform(load(f"{EXAMPLE}:mended"), "simpo")
    assert outcome.ok  # although there is advice
    text = FORMATS["text"](outcome, "my_losses.py:mended")
    assert text.startswith(mended)
    assert "advice  empty-response" in text


def test_the_documentation_lists_every_law_and_every_objective():
    page = (ROOT / "docs" / "conformance.md").read_text()
    for law in all_laws():
        assert f"| `{law.id}` | {law.kind} |" in page
    for name in NAMES:
        assert f"`{name}`" in page
    from derivations.conformance.planted_bugs import BUGS, CORRECT

    assert f"takes {len(CORRECT)} correct losses, plants {len(BUGS)} bugs" in page
    rows = page.count("| verdict |") + page.count("| advice |")
    assert rows == len(all_laws())


# ---------------------------------------------------------------- formats


@pytest.fixture(scope="module")
def failing():
    return conform(load(f"{EXAMPLE}:simpo_loss"), "simpo")


def test_json_has_every_law_failures_first_and_the_identity(failing):
    data = json.loads(FORMATS["json"](failing, "here:f"))
    assert data["ok"] is False
    assert {law["id"] for law in data["laws"]} == {trial.law.id for trial in failing.trials}
    order = [law["status"] for law in data["laws"]]
    assert order == sorted(order, key=["broken", "advice", "passed", "skipped"].index)
    first = data["laws"][0]
    assert first["id"] == "value"
    assert "chosen_logps = [[-1.63]]" in first["input"]
    assert [term["term"] for term in data["identity"]["terms"]] == [
        "SimPO, gamma read as gamma/beta, or SimPO, gamma doubled",
        "NLL of the chosen response (mean over tokens)",
    ]


def test_junit_counts_verdicts_as_failures_and_advice_as_words(failing):
    suite = ElementTree.fromstring(FORMATS["junit"](failing, "here:f"))  # noqa: S314
    cases = {case.get("name"): case for case in suite}
    assert int(suite.get("failures")) == len(failing.broken) == len(suite.findall("testcase/failure"))
    assert cases["value"].find("failure") is not None
    assert cases["empty-response"].find("failure") is None
    assert "advice  empty-response" in cases["empty-response"].find("system-out").text


def test_what_the_function_prints_stays_out_of_the_report(tmp_path):
    (tmp_path / "noisy.py").write_text(
        "import torch.nn.functional as F\nprint('at import')\n"
        "def f(chosen_logp, rejected_logp, alpha=1.0):\n"
        "    print('in a call')\n    return -F.logsigmoid(alpha * (chosen_logp - rejected_logp))\n"
    )
    run = command("noisy.py:f", "--objective", "maxent", "--format", "json", cwd=tmp_path)
    assert run.returncode == 0
    assert json.loads(run.stdout)["identity"]["words"] == "maxent as named"
    assert "in a call" in run.stderr


# ---------------------------------------------------------------- exit status 2: the function cannot be called


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("nonsense", "names no function"),
        ("no_such_file.py:f", "there is no file"),
        ("no.such.module:f", "could not be imported"),
        ("broken.py:f", "ZeroDivisionError"),
        ("leaves.py:f", "SystemExit"),
        ("good.py:los", "did you mean 'loss'"),
        ("good.py:NUMBER", "is not a function but int"),
        ("good.py:raises", r"KeyError: 'beta'"),
        ("good.py:other_names", "'policy_best' is not in the contract"),
        ("good.py:nothing", "takes none of the arrays"),
        ("good.py:list_of_values", "it returned list"),
        ("good.py:per_token", "an array of shape"),
        ("good.py:positional", "positional-only"),
    ],
)
def test_a_function_that_cannot_be_called_is_named_with_the_reason_and_without_a_traceback(
    place, says, tmp_path, monkeypatch
):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit('usage: ...')\n")
    (tmp_path / "good.py").write_text(
        "NUMBER = 3\n"
        "def loss(chosen_logp): return chosen_logp\n"
        "def raises(chosen_logp): return {}['beta']\n"
        "def other_names(policy_best): return policy_best\n"
        "def nothing(): return 0.0\n"
        "def list_of_values(chosen_logp): return [chosen_logp, chosen_logp]\n"
        "def per_token(chosen_logps, chosen_mask): return chosen_logps * chosen_mask\n"
        "def positional(chosen_logp, /): return chosen_logp\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=says):
        conform(load(place), "dpo", options={"beta": 0.1})


def test_on_the_command_line_that_is_exit_status_2_with_the_contract_and_no_traceback(tmp_path):
    (tmp_path / "l.py").write_text("def f(chosen_logps): raise OverflowError('too long')\n")
    run = command("l.py:f", "--objective", "simpo", "--option", "beta=2", cwd=tmp_path)
    assert run.returncode == 2
    assert run.stdout == ""
    assert "OverflowError: too long (l.py, line 1)" in run.stderr
    assert "chosen_mask" in run.stderr
    assert "Traceback" not in run.stderr
    assert len(run.stderr.splitlines()) < 10


@pytest.mark.parametrize(
    ("objective", "option", "map", "says"),
    [
        ("simp", (), (), "did you mean 'simpo'"),
        ("simpo", ("beta",), (), "NAME=VALUE"),
        ("simpo", ("beta=-1",), (), "beta is -1"),
        ("simpo", ("beta=2", "betta=2"), (), "neither the objective nor the function takes it"),
        ("simpo", ("beta=2",), ("x=chosen_logp",), "the function's parameters are"),
        ("simpo", ("beta=2",), ("beta=chosen",), "unknown name 'chosen'"),
        ("simpo", ("beta=2", "beta=3"), (), "given twice"),
        ("simpo", ("beta=2", "gamma_beta_ratio=1", "gamma=2"), (), "say the same thing"),
        ("simpo-pl", ("beta=2", "top=3"), (), "top can be 1 or 2"),
    ],
)
def test_wrong_options_are_one_clear_line(objective, option, map, says):
    place = (
        "derivations.objectives:simpo"
        if objective != "simpo-pl"
        else f"{ROOT}/derivations/conformance/correct_losses.py:simpo_pl"
    )
    with pytest.raises(InputError, match=says):
        Conform(place, objective, option, map).run()


def test_values_are_numbers_truths_or_words():
    texts = parse_pairs("--option", ["a=2", "b=0.5", "c=True", "d=none", "e=x=y"])
    assert {name: parse_value(text) for name, text in texts.items()} == {
        "a": 2,
        "b": 0.5,
        "c": True,
        "d": "none",
        "e": "x=y",
    }


# ---------------------------------------------------------------- options and conventions


def test_options_come_from_the_command_then_from_the_function_s_defaults():
    def loss(chosen_logps, beta=2.5, gamma=1.25, other=3): ...

    subject = make_subject(loss, "simpo", _backend(), options={"gamma": 0.5, "other": 4})
    assert subject.target.options == {"beta": 2.5, "gamma": 0.5}
    assert subject.extras == {"other": 4}


@pytest.mark.parametrize(
    ("parameter", "value", "gamma"), [("gamma_beta_ratio", 0.25, 0.5), ("simpo_gamma", 0.5, 0.5), ("gamma", 0.5, 0.5)]
)
def test_each_code_s_margin_is_converted_both_ways(parameter, value, gamma):
    """beta = 2: gamma/beta = 0.25 is gamma = 0.5; the function must be handed its own convention back."""
    source = f"""
def loss(chosen_logp, rejected_logp, chosen_length, rejected_length, {parameter}, beta=2.0):
    margin = beta * {parameter} if "ratio" in "{parameter}" else {parameter}
    return -F.logsigmoid(beta * (chosen_logp / chosen_length - rejected_logp / rejected_length) - margin)
"""
    outcome = conform(from_source(source), "simpo", options={parameter: value}, backend="torch")
    assert outcome.subject.target.options["gamma"] == pytest.approx(gamma)
    assert outcome.ok, [trial.law.id for trial in outcome.broken]


def test_names_of_the_user_s_own_are_mapped():
    source = """
def loss(policy_w, policy_l, ref_w, ref_l, scale):
    return -F.logsigmoid(scale * (policy_w - policy_l - ref_w + ref_l))
"""
    names = {"policy_w": "chosen_logp", "policy_l": "rejected_logp", "ref_w": "ref_chosen_logp"}
    mapping = names | {"ref_l": "ref_rejected_logp", "scale": "beta"}
    assert conform(from_source(source), "dpo", mapping=mapping, options={"scale": 0.1}).ok


@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_the_ground_floor_s_own_functions_conform_in_torch_and_numpy(backend):
    for function, name, options in ((dpo, "dpo", {"beta": 0.3}), (simpo, "simpo", {"beta": 2.0, "gamma": 0.6})):
        outcome = conform(function, name, options=options, backend=backend)
        assert outcome.ok, [(trial.law.id, trial.verdict) for trial in outcome.broken]
        assert str(outcome.identity).startswith(f"{name} as named")


def test_a_numpy_function_is_recognized_without_being_told():
    source = """
def loss(chosen_logp, rejected_logp, alpha=1.0):
    return np.mean(np.logaddexp(0.0, -alpha * (np.asarray(chosen_logp) - np.asarray(rejected_logp))))
"""
    outcome = conform(from_source(source), "maxent")
    assert outcome.subject.backend.name == "numpy"
    assert outcome.ok


def test_without_torch_a_torch_backend_is_refused_in_one_line_and_numpy_still_works():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from derivations.conformance import conform\n"
        "from derivations.objectives import dpo\n"
        "outcome = conform(dpo, 'dpo', options={'beta': 0.1})\n"
        "assert outcome.ok and outcome.subject.backend.name == 'numpy'\n"
        "from derivations.cli.command_line import run_command\n"
        "run_command(lambda: conform(dpo, 'dpo', options={'beta': 0.1}, backend='torch'))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("error: torch is not installed")
    assert len(run.stderr.splitlines()) == 1


def test_every_objective_says_what_it_takes():
    for name in NAMES:
        with pytest.raises(InputError, match="contract"):
            make_subject(lambda: 0.0, name, _backend(), options=dict.fromkeys(options_of(name)[:1], 0.5))


def _backend():
    from derivations.conformance.backends import NumpyBackend

    return NumpyBackend()
