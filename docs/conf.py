"""Sphinx: the book of claims and the how-to pages, readable offline (formulas become MathML, nothing is fetched)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "maxent-rlhf"
author = "the maxent-rlhf authors"
extensions = ["myst_nb", "sphinx_design", "mathml"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
nb_execution_mode = "off"
html_theme = "furo"
html_title = "maxent-rlhf"
html_math_renderer = "mathml"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["style.css"]
