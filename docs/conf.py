"""Sphinx: the book, notebooks, how-to pages and API, readable offline (formulas are MathML, nothing is fetched).

The notebooks are copied beside these pages at the start of a build, with the outputs they have, and not run.
"""

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

shutil.rmtree(HERE / "notebooks", ignore_errors=True)
(HERE / "notebooks").mkdir()
for notebook in (HERE.parent / "notebooks").glob("0*.ipynb"):
    shutil.copy(notebook, HERE / "notebooks")

project = "maxent-rlhf"
author = "the maxent-rlhf authors"
extensions = ["myst_nb", "sphinx_design", "sphinx.ext.autodoc", "docstrings", "mathml"]
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
