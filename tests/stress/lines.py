"""Property: whatever is typed behind `python -m derivations|toybandit|llm` is done, or refused in words with status 2.

The command runs in this process up to the start of its work, which is replaced by `Accepted`: so thousands of
lines take minutes. A refusal leaves nothing behind; nothing ends in a traceback.
"""

import contextlib
import importlib
import io
import itertools
import os
import sys
import tempfile
import time
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal
from unittest import mock

from hypothesis import given, seed
from hypothesis import strategies as st

from derivations.cli.command_line import run_command
from derivations.conformance.calls import time_limit
from tests.stress.fuzz import SECONDS, Lost, listing, tries
from tests.stress.table import Row

WORK = {
    "derivations": (
        "derivations.__main__.check_claims",
        "derivations.__main__.derive",
        "derivations.conformance.commands.conform",
        "derivations.conformance.trial.run_zoo",
    ),
    "toybandit": (
        "toybandit.cli_explore.explorer_page",
        "toybandit.experiment.run",
        "toybandit.cli_run._train",
        "toybandit.cli_sweep.sweep",
        "toybandit.cli_sweep.run_experiments",
    ),
    "llm": (
        "llm.offline.train.train",
        "llm.online.train.online",
        "llm.data.inspect.inspect_data",
        "llm.settings.plan.print_plan",
        "llm.offline.replay.replay",
    ),
}
INTEGERS = ("0", "1", "2", "5", "-1", "30", str(10**30), "1_000")
NUMBERS = ("0", "1", "-1", "0.1", "0.5", "1e-5", "nan", "inf", "-inf", "1e400", "1e-320", str(10**30))
WORDS = (
    "dpo", "simpo", "ipo", "maxent", "maxent-pl", "f-dpo", "kl", "entropy", "entropy=0.5+kl=0.1", "none", "tabular",
    "tree", "fitted", "exact", "natural", "optimum", "float32", "bf16", "auto", "pairs", "json", "text", "true",
    "False", "llama-3-8b-simpo", "coefficient=0.1,0.5", "regularizer=entropy,kl", "seeds=2", "coefficient=", "=1",
    "a=b=c", "beta=2", "p*log(p)", "plackett*", "losses.py:f", "losses.py:", ":f", "nowhere:f", "1", "phase", "",
    " ", "[/b]", "[bold]", "-", "--", "--help", "é", "\udcff", "a\nb", "\x1b[2J", "x" * 300, "*", "%s", "{}",
    "$HOME",
)  # fmt: skip
PATHS = (
    "out", "new/deep", "file", "file/below", "thesis", "run", "empty", ".", "..", "a.jsonl", "bad.jsonl", "a.toml",
    "bad.toml", "a.yaml", "bad.yaml", "missing", "out.png", "out.xyz", "owner/name", "/proc/nope/run", "n" * 300,
    "[/b]", "\udcff",
)  # fmt: skip
FILES = {
    "file": "text",
    "thesis/chapter.tex": "years of work",
    "run/config.json": "{}",
    "run/diverged.json": "{}",
    "bad.toml": "[",
    "bad.yaml": "{",
    "a.jsonl": '{"prompt": "a", "chosen": "b", "rejected": "c"}\n',
    "bad.jsonl": "{",
    "a.yaml": "objective: dpo\n",
    "a.toml": "[grid]\ncoefficient = [0.1]\n[settings]\nseeds = 2\n",
    "losses.py": "def f(logp):\n    return logp\n",
}
REQUIRED = {
    "train": ["--objective", "dpo"],
    "online": ["--regularizer", "kl", "--coefficient", "0.1"],
    "show": ["retention-law"],
    "derive": ["p*log(p)"],
    "inspect-data": ["a.jsonl"],
    "plot": ["run"],
    "replay": ["run"],
    "conform": ["losses.py:f", "--objective", "dpo"],
    "book": ["--output", "out"],
}


class Accepted(BaseException):
    """The options were taken and the work would begin."""


def commands(program: str) -> dict[str, type]:
    """Subcommands of a program with the dataclass that holds their options."""
    return dict(importlib.import_module(f"{program}.__main__").COMMANDS)


def words_for(hint: Any) -> tuple[str, ...]:
    """What could stand behind an option of this kind; nothing for a switch."""
    kinds = typing.get_args(hint) or (hint,)
    if typing.get_origin(hint) is Literal:
        return (*kinds, "no-such")
    if typing.get_origin(hint) is Annotated:
        return words_for(kinds[0])
    for kind, words in ((bool, ()), (int, INTEGERS), (float, NUMBERS), (Path, PATHS)):
        if kind in kinds:
            return words
    return WORDS + PATHS


def lines(program: str) -> st.SearchStrategy[list[str]]:
    """Arguments: a command, mostly known options with a value of a kind that could be meant."""
    known, anything = commands(program), INTEGERS + NUMBERS + WORDS + PATHS

    def options(name: str) -> st.SearchStrategy[list[str]]:
        pairs = [
            st.sampled_from(anything).map(lambda word: [word]),
            st.sampled_from(([], ["--no-such"], ["--no-save"])),
        ]
        for field, hint in typing.get_type_hints(known[name], include_extras=True).items():
            words, flag = words_for(hint), f"--{field.replace('_', '-')}"
            if words:
                pairs.append(st.sampled_from(words).map(lambda word, flag=flag: [flag, word]))
            else:
                pairs.append(st.just([flag]))
        if name == "train":
            pairs.append(st.sampled_from(("llama-3-8b-simpo", *PATHS)).map(lambda word: ["--recipe", word]))
        start = st.sampled_from((REQUIRED.get(name, []), REQUIRED.get(name, []), []))
        return st.tuples(start, st.lists(st.one_of(pairs), max_size=4)).map(
            lambda both: [name, *both[0], *itertools.chain(*both[1])]
        )

    return st.one_of(*(options(name) for name in known), st.lists(st.sampled_from(anything), max_size=2))


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """An empty world to type commands in: current folder `here`, with a few files of every kind."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as root:
        here = Path(root) / "above" / "here"
        for folder in ("thesis", "run", "empty"):
            (here / folder).mkdir(parents=True)
        for name, text in FILES.items():
            (here / name).write_text(text)
        os.chdir(here)
        try:
            yield Path(root)
        finally:
            os.chdir(before)


def type_in(program: str, arguments: list[str], root: Path) -> str:
    """Run the line; how it ended: accepted, status 0, 1 or 2. Raises Lost if the law is broken."""
    main = importlib.import_module(f"{program}.__main__").main
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    before = listing(root)
    with contextlib.ExitStack() as stack:
        for target in WORK[program]:
            stack.enter_context(mock.patch(target, side_effect=Accepted))
        stack.enter_context(mock.patch.object(sys, "argv", [program, *arguments]))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(time_limit(SECONDS))
        try:
            run_command(main)
        except Accepted:
            return "accepted"
        except SystemExit as end:
            status = end.code
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            raise Lost(f"{type(error).__name__}: {str(error)[:200]} from {program} {arguments}") from error
    words = err.getvalue()
    if status not in (0, 1, 2):
        raise Lost(f"status {status!r} from {program} {arguments}")
    if status == 2 and not words.strip():
        raise Lost(f"status 2 without a word from {program} {arguments}")
    if status == 2 and words.startswith("error: ") and "contract (" not in words and words.count("\n") != 1:
        raise Lost(f"the refusal is no one line: {words[:300]!r} from {program} {arguments}")
    if status == 2 and listing(root) != before:
        raise Lost(f"a refusal left files behind: {program} {arguments}")
    return f"status {status}"


def fuzz_lines(program: str, *, examples: int, root: int) -> Row:
    """Type generated lines. root: seed of the generator."""
    row, counts, start = Row("fuzz", f"command lines of {program}"), dict[str, int](), time.monotonic()

    @seed(root)
    @tries(examples)
    @given(lines(program))
    def one(arguments: list[str]) -> None:
        row.tried += 1
        with place() as here:
            outcome = type_in(program, arguments, here)
        counts[outcome] = counts.get(outcome, 0) + 1

    try:
        one()
    except Lost as error:
        row.lost.append(str(error))
    told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    row.note = f"{told}, {time.monotonic() - start:.0f} s"
    return row


def check(programs: Any = ("derivations", "toybandit", "llm"), *, examples: int, root: int) -> list[Row]:
    return [fuzz_lines(program, examples=examples, root=root) for program in programs]
