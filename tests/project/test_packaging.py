"""What an installation brings: the base package without `llm`, which PyPI has another package of."""

import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def settings(folder: Path) -> dict:
    return tomllib.loads((folder / "pyproject.toml").read_text())


def test_the_two_distributions_have_one_version_and_the_base_holds_no_llm():
    base, language_model = settings(ROOT), settings(ROOT / "llm")
    version = base["project"]["version"]
    assert language_model["project"]["version"] == version
    assert language_model["project"]["dependencies"] == [f"maxent-rlhf[llm]=={version}"]
    assert not any(name.startswith("llm") for name in base["tool"]["setuptools"]["packages"]["find"]["include"])
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"version {version.rpartition('.')[0]} " in (ROOT / "docs/stable.md").read_text()


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A Python that has only what the base install asks for: this environment's packages, torch and yaml hidden."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    site = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                          capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    here = Path(subprocess.run([sys.executable, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                               capture_output=True, text=True, check=True).stdout.strip())  # fmt: skip
    extra = {"torch", "transformers", "accelerate", "datasets", "peft", "yaml", "_yaml", "safetensors", "filelock"}
    for entry in here.iterdir():
        if entry.name.partition(".")[0] not in extra and not entry.name.startswith(("__editable__", "_editable")):
            (Path(site) / entry.name).symlink_to(entry)
    return python


@pytest.mark.parametrize("command", ["train --objective dpo", "online --regularizer kl=0.05", "inspect-data README.md"])
def test_without_the_extra_a_command_names_it_in_one_line(bare, command):
    done = subprocess.run([bare, "-m", "llm", *command.split()], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (2, "error: this needs the extra `llm`: pip install '.[llm]'\n")


def test_without_the_extra_help_and_the_other_packages_answer(bare):
    for command in ("llm --help", "llm train --help", "derivations --help", "toybandit --help"):
        done = subprocess.run([bare, "-m", *command.split()], capture_output=True, text=True, cwd=ROOT)
        assert (done.returncode, done.stderr) == (0, ""), command


def test_the_build_of_llm_refuses_an_environment_with_another_package_of_that_name(bare):
    probe = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([bare, "-c", probe], capture_output=True, text=True, check=True).stdout.strip())
    foreign = site / "llm-0.27.dist-info"
    foreign.mkdir()
    done = subprocess.run([bare, "setup.py", "--version"], capture_output=True, text=True, cwd=ROOT / "llm",
                          env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"})  # fmt: skip
    foreign.rmdir()
    assert done.returncode == 1
    assert done.stderr.startswith("another package named `llm` is installed here (llm-0.27.dist-info)")
