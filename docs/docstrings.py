"""Sphinx extension: docstrings of this project are plain sentences with `code`, not reStructuredText.

|y| is a length and p* an optimum in them, not markup. So every paragraph is escaped and joined into one
line, and code spans and doctests are kept as code.
"""

import re
from typing import Any

from sphinx.application import Sphinx

SPAN = re.compile(r"(`[^`]+`)")
MARKUP = re.compile(r"([\\*|_`])")


def as_rst(lines: list[str]) -> list[str]:
    """The docstring as reStructuredText that shows what was typed; blank lines separate paragraphs."""
    found: list[str] = []
    for paragraph in "\n".join(lines).split("\n\n"):
        rows = [row.strip() for row in paragraph.splitlines() if row.strip()]
        if rows and rows[0].startswith(">>>"):
            found += [*rows, ""]
        elif rows:
            found += ["".join(_escaped(part) for part in SPAN.split(" ".join(rows))), ""]
    return found


def _escaped(part: str) -> str:
    """Text with its special characters escaped; a code span as an inline literal with room around it."""
    return rf"\ `{part}`\ " if SPAN.fullmatch(part) else MARKUP.sub(r"\\\1", part)


def convert(app: Sphinx, kind: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_rst(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", convert)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
