"""README and the docs, followed literally: every Python block runs, every command line is one that its program takes.

Commands are really run, in the order of the page and in an empty folder, with options appended that make
them small (`TINY`; the last occurrence of an option wins). Commands of `llm` go as far as the start of the
work: the options are parsed and checked and the data must be there. Targets of make must exist.
"""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "how-to").glob("*.md"))]

TINY = {
    ("derivations", "check"): ("--only", "maxent-bradley-terry", "--no-mutants", "--jobs", "1"),
    ("derivations", "book"): ("--no-mutants",),
    ("toybandit", "run"): ("--seeds", "2", "--steps", "3"),
    ("toybandit", "offline"): ("--seeds", "2", "--steps", "3"),
    ("toybandit", "sweep"): ("--seeds", "2", "--steps", "3", "--backend", "local"),
    ("toybandit", "experiments"): ("--only", "8", "--seeds", "2"),
}
LLM_WORK = (
    "llm.offline.train.train",
    "llm.online.train.online",
    "llm.data.inspect.inspect_data",
    "llm.settings.plan.print_plan",
)
LLM_WORK += ("llm.offline.replay.replay",)
# Shown for being refused, or for a loss that is wrong.
REFUSED = ('derive "beta*q*(p/q - 1)**2/2"', "my_losses.py:simpo_loss", "my_grpo.py:grpo_loss")
# These install, look at what a run left, change the folder, or need an extra (which test_adapters.py tries).
NOT_TRIED = (
    "pip install",
    "head ",
    "source ",
    "cd ",
    "python -m derivations conform derivations.conformance.adapters:",
    "python -m derivations mutate",  # takes its time; tests/derivations tries it
)
# files that a page takes for granted
DATA = ("pairs.jsonl", "rankings.jsonl", "mine.jsonl", "clean.jsonl", "held-out.jsonl")
