"""Which tests share a process of a parallel run, and which begin first.

A file's tests stay together, as with xdist's `--dist loadfile`, and so do files that rest on the same expensive fixture
of the session. What takes longest begins first, so that no process is left with it when the others have ended.
"""

from typing import Any

from xdist.scheduler import LoadFileScheduling

TOGETHER = {  # file -> what it shares with others: all claims checked once, one page of the report
    "test_book.py": "claims",
    "test_browser.py": "claims",
    "test_derivations.py": "claims",
    "test_report.py": "claims",
}
APART = ("test_notebooks.py",)  # files whose tests share nothing, each longer than most files
LONGEST = (  # which begin first, in this order: a minute or more each, down to half a minute
    "claims",
    "test_llm_sharding.py",
    "test_llm_compiled.py",
    "test_rocq.py",
    "05_language_model",
    "test_llm_resume.py",
    "test_conformance_laws.py",
    "test_llm_offline.py",
    "test_llm_online.py",
    "test_llm_processes.py",
    "test_readme.py",
    "test_hard_fuzz.py",
    "test_toybandit_experiments.py",
)


def unit_of(nodeid: str) -> str:
    """The unit of work a test belongs to: its file, what its file shares with others, or itself."""
    file = nodeid.split("::", 1)[0].rsplit("/", 1)[-1]
    return nodeid if file in APART else TOGETHER.get(file, file)


def turn_of(nodeid: str) -> int:
    """When its unit begins: its place among the longest, behind them for all others."""
    unit = unit_of(nodeid)
    return next((place for place, name in enumerate(LONGEST) if name in unit), len(LONGEST))


class Units(LoadFileScheduling):
    """xdist's distribution by file, with units in the place of files, in the order of the tests."""

    def __init__(self, config: Any, log: Any) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
