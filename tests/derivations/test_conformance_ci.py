"""The test of somebody's tests and the pieces for CI, run as their users run them: real pytest, real bash."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("torch", reason="planted bugs are written in torch")

ROOT = Path(__file__).parents[2]
LOSS = """def sppo(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=0.1):
    w = policy_chosen_logps - ref_chosen_logps
    l = policy_rejected_logps - ref_rejected_logps
    return (w - 0.5 / beta) ** 2 + (l + 0.5 / beta) ** 2
"""
WEAK = """import torch
from mine import sppo


def test_shape():
    assert sppo(*torch.zeros(4, 3)).shape == (3,)
"""


def run(*words, cwd, **more):
    # no plugins but the one on trial: each of eight runs of pytest would load those of this environment anew
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | more
    return subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


@pytest.fixture
def project(tmp_path):
    (tmp_path / "mine.py").write_text(LOSS)
    (tmp_path / "test_mine.py").write_text(WEAK)
    return tmp_path


def test_what_mutate_hands_out_lets_no_bug_survive_and_the_plugin_says_so_inside_of_a_suite(project):
    python = (sys.executable, "-m")
    loss = ("mine.py:sppo", "--objective", "sppo", "--output", "test_missing.py")
    with (project / "mine.py").open("a") as loss_file, (project / "test_mine.py").open("a") as tests_file:
        loss_file.write("import torch\n\ntorch.ones(10**6).exp().sum()  # starts torch's other threads\n")
        tests_file.write("torch.ones(10**6).exp().sum()\n")
    arguments = (*loss, "--timeout", "20", "--", "pytest", "test_mine.py")
    first = run(*python, "derivations", "mutate", *arguments, cwd=project, OMP_NUM_THREADS="2")
    assert first.returncode == 1, first.stdout + first.stderr
    assert "0 of 2 planted bugs of sppo are noticed, 2 survive" in first.stdout
    assert "SPPO pushes both up" in first.stdout
    plugin = ("-p", "derivations.pytest_plugin", "--planted-bugs", "mine.py:sppo", "--planted-objective=sppo")
    second = run(*python, "pytest", *plugin, "test_mine.py", "test_missing.py", cwd=project)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "2 of 2 planted bugs of sppo are noticed, 0 survive" in second.stdout


def test_the_steps_of_the_action_run_in_bash(project):
    """The first step with a `python` that only says what it is asked for, the second one for good."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    install, command = (step for step in action["runs"]["steps"] if "run" in step)
    tools = project / "tools"
    tools.mkdir()
    says, real = tools / "says", tools / "real"
    for folder, body in ((says, 'printf "%s|" "$@"'), (real, f'exec {sys.executable} "$@"')):
        folder.mkdir()
        (folder / "python").write_text(f"#!/bin/sh\n{body}\n")
        (folder / "python").chmod(stat.S_IRWXU)
    path = os.environ["PATH"]
    asked = run(
        "bash", "-eo", "pipefail", "-c", install["run"], cwd=project, PATH=f"{says}:{path}", GITHUB_ACTION_PATH="/a b"
    )
    assert asked.stdout == "-m|pip|install|--quiet|/a b[llm]|pytest|"
    assert command["env"] == {"DERIVATIONS_COMMAND": "${{ inputs.command }}"}
    words = "conform mine.py:sppo --objective sppo --format junit --output conform.xml"
    done = run(
        "bash", "-eo", "pipefail", "-c", command["run"], cwd=project, PATH=f"{real}:{path}", DERIVATIONS_COMMAND=words
    )
    assert done.returncode == 0, done.stderr
    assert "<testsuite" in (project / "conform.xml").read_text()
