"""Execute a notebook and write it as one HTML file that needs nothing else: no scripts, no fonts, no network."""

import argparse
import html
import re
from pathlib import Path

from execute import run_cells
from nbconvert import HTMLExporter

from derivations.cli.command_line import run_command
from derivations.cli.files import write_text

STYLE = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
HEADING = re.compile(r'<h2 id="([^"]+)">(.*?)<a class="anchor-link".*?</h2>')


def page(notebook: Path) -> str:
    """Execute the notebook in its own folder and return the whole HTML page; a failing cell raises."""
    content = run_cells(notebook)
    exporter = HTMLExporter(template_name="basic", exclude_input=True, exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(content)
    first = next(cell.source for cell in content.cells if cell.cell_type == "markdown")
    title = html.escape(first.splitlines()[0].lstrip("# "))
    links = "".join(f'<a href="#{name}">{heading.split(":")[0]}</a>' for name, heading in HEADING.findall(body))
    head = [
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',  # else a browser asks the server for one
        f"<title>{title}</title><style>{STYLE}</style>",
    ]
    contents = f'<nav aria-label="Contents">{links}</nav>' if links else ""
    return (
        f'<!doctype html><html lang="en"><head>{"".join(head)}</head><body>{contents}<main>{body}</main></body></html>'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--notebook", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    write_text(options.output, page(options.notebook))


if __name__ == "__main__":
    run_command(main)
