"""The explorer's page: its parts and the drawn numbers put into one file that asks for nothing."""

import re
from collections.abc import Callable
from importlib.resources import files

from derivations.cli.files import to_json
from toybandit.explorer.data import STEPS, explorer_data

SCRIPTS = ("formula.js", "simulate.js", "chart.js", "app.js")


def explorer_page(*, seeds: int = 20, seed: int = 0, on_progress: Callable[[float], None] = lambda share: None) -> str:
    """HTML of the explorer.

    Args:
        seeds: worlds, at least 2: means and intervals are over them.
        seed: root of all random numbers.
        on_progress: gets the share of the proxies fitted.

    Returns:
        One page; styles, scripts and numbers are in it.
    """
    data = explorer_data(seeds=seeds, seed=seed, on_progress=on_progress)
    parts = {
        "STYLE": read("style.css"),
        "ARMS": str(data["arms"]),
        "WORLDS": str(seeds),
        "LONGEST": str(max(STEPS)),
        "DATA": to_json(data),
        "SCRIPTS": "\n".join(map(read, SCRIPTS)),
    }
    return re.sub(r"/\* ([A-Z]+) \*/", lambda found: parts[found[1]], read("page.html"))


def read(name: str) -> str:
    """One part of the page, a file beside this one."""
    return (files("toybandit.explorer") / name).read_text(encoding="utf-8")
