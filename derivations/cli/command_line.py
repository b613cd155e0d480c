"""Command lines: a dataclass of settings per command, help with examples, exit status 0, 1, 2 or 130."""

import dataclasses
import io
import os
import re
import shlex
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from derivations.cli.errors import InputError, suggest
from derivations.cli.files import write_text

if TYPE_CHECKING:
    from rich.table import Table

WIDE = 200  # columns, where nothing says how many there are


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Run a command line and leave with its exit status (None counts as 0)."""
    if isinstance(
        sys.stdout, io.TextIOWrapper
    ):  # a name that the terminal's encoding does not have is no reason to fail
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = main() or 0
        sys.stdout.flush()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    except BrokenPipeError:  # the reader of our output (`| head`) went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status)


def read_command(
    commands: Mapping[str, type],
    *,
    prog: str,
    about: str,
    arguments: Sequence[str] | None = None,
    default: Any = None,
) -> Any:
    """The settings that a command line gives: an instance of the dataclass of the command it names.

    commands: names and dataclasses; class and field docstrings are the help, and lines `Example: ...` in them
    (and in `about`) are shown together. arguments: without the program's name (default: sys.argv). default:
    settings that stand where the command line says nothing. Without a command it prints a short overview. Raises
    InputError for an unknown name; a value of the wrong kind is refused by tyro, with exit status 2 too.
    """
    import tyro  # programs need it, importers of this module do not

    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words:
        _overview(commands, prog, about, examples=3)
        raise SystemExit(0)
    if words[0] in ("-h", "--help"):
        _overview(commands, prog, about)
        raise SystemExit(0)
    if words[0] not in commands:
        raise InputError(f"unknown command {words[0]!r}{suggest(words[0], list(commands))}")
    kind, prog = commands[words[0]], f"{prog} {words[0]}"
    if not {"-h", "--help"} & set(words):
        _check_names(kind, words[1:], prog, required=default is None)
    given = {} if default is None else {"default": default}
    return tyro.cli(kind, args=words[1:], prog=prog, **given)


def show_table(table: "Table") -> None:
    """Print a table; in a pipe or a file as wide as it is, which rich would fold at 80 columns, words and all."""
    from rich.console import Console

    console = Console(highlight=False)
    if not (console.is_terminal or console.is_jupyter or "COLUMNS" in os.environ):
        console.width = WIDE
    console.print(table)


def _overview(commands: Mapping[str, type], prog: str, about: str, *, examples: int | None = None) -> None:
    """What the commands do, each in its first sentence, and their examples; or the first of so many commands."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"usage: {prog} COMMAND [OPTIONS]\n\n{about.split('Example: ')[0].strip()}\n", markup=False)
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, kind in commands.items():
        table.add_row(f"  {name}", " ".join((kind.__doc__ or "").split("\n\n")[0].split()))
    show_table(table)
    docs = [about, *(kind.__doc__ or "" for kind in commands.values())]
    shown = [re.findall(r"Example: (.+)", doc) for doc in docs]
    lines = [line for found in shown for line in found]
    if examples is not None:
        lines = [found[0] for found in shown if found][:examples]
    console.print("\nExamples:", *(f"  {line}" for line in lines), sep="\n", markup=False)
    console.print(f"\n`{prog} COMMAND --help` gives every option with its unit and default.", markup=False)
    console.print("Exit status: 0 done, 1 a check failed, 2 the input was wrong, 130 interrupted.", markup=False)


def _check_names(kind: type, words: Sequence[str], prog: str, *, required: bool) -> None:
    """Refuse (InputError) options that the command does not have, a missing one, and a value that is no choice."""
    hints = typing.get_type_hints(kind)
    fields = {f"--{field.name.replace('_', '-')}": field for field in dataclasses.fields(kind)}
    switches = {f"--no-{name[2:]}" for name, field in fields.items() if hints[field.name] is bool}
    words = words[: words.index("--")] if "--" in words else words  # what follows is no option
    given = set()
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        if not word.startswith("--") or word.startswith("--tyro-"):
            continue
        name, equals, value = word.partition("=")
        name = name.replace("_", "-")
        given.add(name)
        if name not in fields and name not in switches:
            near = suggest(name, [*fields, *switches]).split(" (known")[0]
            raise InputError(f"{prog} has no option {name}{near}; `{prog} --help` lists them")
        choices = typing.get_args(hints[fields[name].name]) if name in fields else ()
        if choices and all(isinstance(choice, str) for choice in choices):
            value = value if equals else following
            if value not in choices:
                raise InputError(f"{name}: unknown choice {value!r}{suggest(value, list(choices))}")
    for name, field in fields.items():
        named = "Positional" not in str(typing.get_type_hints(kind, include_extras=True)[field.name])
        bare = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and named and bare and name not in given:
            raise InputError(f"{prog} needs {name}; `{prog} --help` says what it takes")


def command_line(settings: Any) -> str:
    """The settings in full, as the options that would give them again; what is None is left out."""
    words: list[str] = []
    hints = typing.get_type_hints(type(settings), include_extras=True)
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, tuple | list):
            again = "UseAppendAction" in str(hints[field.name])  # one option for each value
            given = [(f"--{name}", str(v)) for v in value] if again else [(f"--{name}", *map(str, value))]
            words += [word for option in given for word in option] if value else []
        elif value is not None:
            words += [f"--{name}", str(value)]
    return shlex.join(words)


def tell(text: str, output: Path | None = None, *, quiet: bool) -> None:
    """The answer into its file, or to the terminal unless that shall be quiet."""
    if output is not None:
        write_text(output, text)
    elif not quiet:
        print(text, end="")
