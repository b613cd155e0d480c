"""The command `explore`: write the live explorer and open it."""

import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from derivations.cli.command_line import command_line
from derivations.cli.errors import input_errors
from derivations.cli.files import write_text
from derivations.cli.settings import Within, check_settings
from toybandit.explorer.page import explorer_page
from toybandit.progress import progress


@dataclass(frozen=True)
class Explore:
    """Open a page where sliders change regularizer, strength, proxy, data and optimizer, and the curves follow.

    One file that computes in the browser, without a server and without a network: it can be sent to others. It shows
    proxy and gold reward, KL and retention, always beside the same run without a regularizer, and the command that
    gives the same numbers.

    Example: python -m toybandit explore

    Example: python -m toybandit explore --output explorer.html --no-open
    """

    output: Path = Path("out/explore.html")
    """Page to write."""
    open: bool = True
    """Open the page in the browser."""
    seeds: Annotated[int, Within(2, 100)] = 20
    """How many worlds the page has, 2 to 100; means and 95 % intervals are over them."""
    seed: Annotated[int, Within(0)] = 0
    """Root of all random numbers."""
    quiet: bool = False
    """Print nothing; errors are still shown."""

    def run(self) -> None:
        """Draw the worlds, write the page, open it."""
        with input_errors():
            check_settings(self, Explore)
        if not self.quiet:
            print(f"settings: {command_line(self)}", flush=True)
        with progress("fitting reward models", quiet=self.quiet) as advance:
            page = explorer_page(seeds=self.seeds, seed=self.seed, on_progress=advance)
        write_text(self.output, page)
        opened = self.open and webbrowser.open(self.output.resolve().as_uri())
        if not self.quiet:
            print(f"written: {self.output} ({len(page) / 2**20:.1f} MiB, computes in the browser, asks for nothing)")
            print("next: move a slider" if opened else f"next: open {self.output} in a browser and move a slider")
