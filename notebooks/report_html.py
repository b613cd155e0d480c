"""Pieces of the report's page: tables, figures with a reading under them, folded parts.

Everything is plain HTML with its data inside. A wide thing scrolls in a region that the keyboard can reach,
and a figure comes in two shapes, of which a narrow screen takes the narrow one.
"""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

from IPython.display import HTML
from matplotlib.figure import Figure

NARROW = 640  # pixels of the screen up to which the narrow shape is taken


def text(value: Any) -> str:
    """HTML of a cell: an HTML object as it is, anything else escaped."""
    return value.data if isinstance(value, HTML) else html.escape(str(value))


def code(value: str) -> HTML:
    return HTML(f"<code>{html.escape(value)}</code>")


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, label: str, numbers: Sequence[int] = ()) -> HTML:
    """A table that scrolls by itself where the screen is narrow; columns in `numbers` are right-aligned.

    label: what the table holds, for those who do not see it.
    """

    def row(kind: str, values: Sequence[Any], scope: str = "") -> str:
        marks = [' class="number"' if i in numbers else "" for i in range(len(values))]
        return "<tr>" + "".join(f"<{kind}{scope}{m}>{text(v)}</{kind}>" for m, v in zip(marks, values, strict=True))

    head, body = row("th", header, ' scope="col"'), "".join(row("td", values) for values in rows)
    inside = f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"
    return HTML(f'<div class="scroll" role="region" tabindex="0" aria-label="{html.escape(label)}">{inside}</div>')


def folded(summary: str, inside: HTML, *, name: str = "") -> HTML:
    """A part that opens on a click or on Enter. name: its class, for the style sheet."""
    mark = f' class="{name}"' if name else ""
    return HTML(f"<details{mark}><summary>{html.escape(summary)}</summary>{inside.data}</details>")


def commands(lines: Sequence[str], *, summary: str) -> HTML:
    """Command lines, folded."""
    return folded(summary, HTML(f'<pre tabindex="0">{html.escape(chr(10).join(lines))}</pre>'), name="how")


def figure(wide: Figure, narrow: Figure, *, alt: str, reading: HTML, how: Sequence[str]) -> HTML:
    """A picture, the sentence that reads it, and the commands whose files it is drawn from.

    alt: what is drawn, for those who do not see it. reading: what it shows, in one sentence.
    """
    source = f'<source media="(max-width: {NARROW}px)" srcset="{_png(narrow)}">'
    image = f'<picture>{source}<img src="{_png(wide)}" alt="{html.escape(alt)}"></picture>'
    files = commands(how, summary="Commands that make this figure")
    return HTML(f"<figure>{image}<figcaption>{reading.data}{files.data}</figcaption></figure>")


def _png(drawing: Figure) -> str:
    """The figure as a data address, drawn here so that the page does not depend on a notebook's plotting backend."""
    with io.BytesIO() as file:
        drawing.savefig(file, format="png", dpi=150)
        return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
