"""Sphinx extension: formulas as MathML, which browsers draw themselves, without a script from the network."""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

CLOSED = r"(?:</m(?:i|n|frac|style|su[bp]|subsup|row)>|&#x0(?:0029|007C);</mo>)"  # what a function's name may not touch
NAMES = r"<mi>(?:log|exp|tanh|max|min|sup|inf|lim|arg)</mi>"
BAR = '<mo stretchy="false">&#x0007C;</mo>'
THIN = '<mspace width="0.1667em"/>'


def mathml(latex: str, display: str = "inline") -> str:
    """The formula as MathML, with thin spaces around log and the like, and none around the bars of |y|."""
    text = convert(latex, display=display)
    text = text.replace(
        '<mo stretchy="false">&#x0007C;</mo>', '<mo stretchy="false" lspace="0" rspace="0">&#x0007C;</mo>'
    )
    text = re.sub(rf"({CLOSED})(?={NAMES})", rf"\1{THIN}", text)
    return re.sub(rf"({NAMES})(?!<mo[^>]*>(?:\(|\[|&#x0028;|&#x00028;)|</mrow>)", rf"\1{THIN}", text)


def inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def display(translator: HTML5Translator, node: nodes.math_block) -> None:
    # a formula wider than the page scrolls by itself
    translator.body.append(f'<div style="overflow-x:auto; margin:0.4em 0">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
