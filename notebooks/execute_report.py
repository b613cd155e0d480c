"""Execute a notebook and write it as one HTML file that needs nothing else: no scripts, no fonts, no network."""

import argparse
import html
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from derivations.commands import run_command, write_text

STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1.25rem 4rem; color: #1a1a1a; background: #fff;
       font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.35rem; margin: 2.5rem 0 .5rem; border-bottom: 1px solid #ddd; padding-bottom: .2rem; }
img { max-width: 100%; height: auto; display: block; margin: .75rem auto; }
.jp-OutputArea-output, .output_area, .scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; margin: .75rem 0; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #e4e4e4; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th { border-bottom: 2px solid #999; }
td:first-child { min-width: 8rem; }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .88em; }
td code { overflow-wrap: anywhere; }
pre { background: #f6f6f6; padding: .6rem .8rem; overflow-x: auto; }
.anchor-link, .jp-InputPrompt, .jp-OutputPrompt, .prompt { display: none; }
@media print { body { max-width: none; padding: 0; } h2, img, tr { break-inside: avoid; } }
"""


def page(notebook: Path) -> str:
    """Execute the notebook in its own folder and return the whole HTML page; a failing cell raises."""
    content = nbformat.read(notebook, as_version=4)
    NotebookClient(content, timeout=600, resources={"metadata": {"path": str(notebook.parent)}}).execute()
    exporter = HTMLExporter(template_name="basic", exclude_input=True, exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(content)
    first = next(cell.source for cell in content.cells if cell.cell_type == "markdown")
    title = html.escape(first.splitlines()[0].lstrip("# "))
    head = [
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{STYLE}</style>",
    ]
    return f'<!doctype html><html lang="en"><head>{"".join(head)}</head><body><main>{body}</main></body></html>'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--notebook", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    write_text(options.output, page(options.notebook))


if __name__ == "__main__":
    run_command(main)
