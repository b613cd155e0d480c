"""What the pages and docstrings show is what happens: doctests of the packages and of the docs."""

import ast
import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import derivations
import llm
import toybandit

ROOT = Path(__file__).parents[2]
PAGES = [page for folder in ("docs", "docs/how-to") for page in sorted((ROOT / folder).glob("*.md"))]


def modules():
    for package in (derivations, toybandit, llm):
        yield package.__name__
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not found.name.endswith("__main__") and found.name != "llm.setup":  # which builds a distribution
                yield found.name


@pytest.mark.parametrize("name", [*modules()])
def test_the_examples_in_docstrings_give_what_they_show(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("page", [page for page in PAGES if ">>>" in page.read_text()], ids=lambda page: page.stem)
def test_the_examples_of_a_page_give_what_they_show(page):
    result = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert result.attempted > 0
    assert result.failed == 0


def test_the_doctest_runner_notices_a_wrong_answer(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\n>>> 1 + 1\n3\n\n```\n")
    assert doctest.testfile(str(page), module_relative=False, report=False).failed == 1


def test_formulas_have_space_around_log_and_none_around_bars(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    mathml = pytest.importorskip("mathml").mathml
    thin = '<mspace width="0.1667em"/>'
    spaced = mathml(r"\frac{\beta}{|y|}\log\pi(y)")
    assert f"</mfrac>{thin}<mi>log</mi>{thin}<mi>" in spaced
    assert spaced.count('lspace="0" rspace="0">&#x0007C;') == 2
    assert thin not in mathml(r"- \log(x)")


def test_a_command_in_a_docstring_keeps_its_hyphens_and_quotes_on_the_api_page(tmp_path):
    application = pytest.importorskip("sphinx.application", reason="Sphinx is not installed: pip install '.[docs]'")
    tree = ast.parse((ROOT / "docs" / "conf.py").read_text())
    set_there = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "smartquotes"
    }
    (tmp_path / "index.rst").write_text("API\n===\n\n.. automodule:: toybandit.cli_plot\n   :members: Plot\n")
    built = tmp_path / "built"
    extensions = {"extensions": ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]}
    sphinx = application.Sphinx(
        tmp_path, None, built, built, "html", confoverrides=extensions | set_there, status=None, warning=None
    )
    sphinx.build()
    assert "toybandit plot runs/entropy runs/kl --out runs/both.png" in (built / "index.html").read_text()
