"""Sphinx: the book, notebooks, how-to pages and API, readable offline (formulas are MathML, nothing is fetched).

The notebooks are copied beside these pages at the start of a build, with the outputs they have, and not run.
"""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

shutil.rmtree(HERE / "notebooks", ignore_errors=True)
(HERE / "notebooks").mkdir()
for notebook in (HERE.parent / "notebooks").glob("0*.ipynb"):
    shutil.copy(notebook, HERE / "notebooks")

project = "maxent-rlhf"
author = "the maxent-rlhf authors"
extensions = ["myst_nb", "sphinx_design", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml"]
napoleon_numpy_docstring = False
smartquotes = False  # `--out` stays two hyphens, so that a pasted command works
default_role = "code"  # `name` in a docstring is code
highlight_language = "text"  # a block without a language is what a command printed
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # it would be fetched from the network
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
add_module_names = False
html_theme = "furo"
html_title = "maxent-rlhf"
html_math_renderer = "mathml"
html_show_sourcelink = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["style.css"]


def escape(app: Any, kind: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """In docstrings |y| is a length, p* an optimum and s_ a prefix, not markup; code and doctests stay as they are."""
    example = False
    for i, line in enumerate(lines):
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if not example:
            parts = re.split(r"(`[^`]*`)", line)
            lines[i] = "".join(p if p.startswith("`") else re.sub(r"([\\*|]|_(?!\w))", r"\\\1", p) for p in parts)

    ESCAPED[name] = list(lines)


def restore(app: Any, kind: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Of an attribute napoleon takes `World: one of three` for a type and its description."""
    if kind == "attribute":
        lines[:] = ESCAPED[name]


ESCAPED: dict[str, list[str]] = {}


def setup(app: Any) -> None:
    for function, priority in ((escape, 400), (restore, 600)):  # napoleon, at 500, reads Args, Returns and Raises
        app.connect("autodoc-process-docstring", function, priority=priority)
