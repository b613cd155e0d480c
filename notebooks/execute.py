"""`make notebooks`: execute the numbered notebooks in place, so that they read with their outputs on a code host.

    python notebooks/execute.py                          # all of them
    python notebooks/execute.py notebooks/03_retention.ipynb

A notebook whose cell fails is left as it was. Outputs carry no times and no widget state, so a second
run changes only what the code changed.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
import zmq
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from nbclient import NotebookClient
from rich.console import Console
from traitlets import Type
from traitlets.config import Config

from derivations.cli.command_line import run_command
from derivations.cli.errors import InputError
from derivations.cli.files import write_text

HERE = Path(__file__).resolve().parent
WIDGET = "application/vnd.jupyter.widget-view+json"
PER_CELL = 900  # seconds before a cell counts as hung; a busy machine is slow, not hung


class Requests(AsyncZMQSocketChannel):
    """The channel on which cells are sent, and what a widget's output area tells the kernel.

    Jupyter sends past asyncio, which may swallow the sign that an answer has come: the notebook would then wait for
    ever. To ask the socket for its events makes asyncio look again.
    """

    def send(self, msg: dict[str, Any]) -> None:
        super().send(msg)
        self.socket.get(zmq.EVENTS)


class Client(AsyncKernelClient):
    """The kernel's client, with such a channel."""

    shell_channel_class = Type(Requests)


def run_cells(path: Path) -> Any:
    """The notebook with fresh outputs, run in its own folder; a failing cell raises CellExecutionError."""
    if not path.is_file():
        raise InputError(f"{path}: no such notebook; name files of {HERE}")
    notebook = nbformat.read(path, as_version=4)
    # Sockets in a folder of its own instead of TCP ports, which others on the machine could listen on.
    with tempfile.TemporaryDirectory() as sockets:
        NotebookClient(
            notebook,
            timeout=PER_CELL,
            resources={"metadata": {"path": str(path.parent)}},
            record_timing=False,
            coalesce_streams=True,  # else one print may become two outputs, by chance
            config=Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel", "client_factory": Client}}),
        ).execute()
    return notebook


def executed(path: Path) -> Any:
    """The notebook with fresh outputs and nothing in it that belongs to this run alone."""
    notebook = run_cells(path)
    notebook.metadata.pop("widgets", None)  # a widget lives with its kernel; the static figure after it stays
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
    notebook.metadata["language_info"] = {"name": "python"}  # not the version of whoever ran it
    return notebook


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: notebooks/0*.ipynb")
    options = parser.parse_args()
    console = Console(highlight=False)
    for path in options.notebooks or sorted(HERE.glob("0*.ipynb")):
        start = time.monotonic()
        notebook = executed(path)
        write_text(path, nbformat.writes(notebook) + "\n")
        console.print(f"  {path.name:32} {time.monotonic() - start:5.1f} s")


if __name__ == "__main__":
    run_command(main)
