"""What every command of this project does alike: command lines, exit status, errors, run folders.

Exit status: 0 done, 1 a check failed, 2 the input was wrong, 130 interrupted. A user's mistake raises
InputError and ends in one line on stderr. A run folder holds `config.json` (resolved settings,
versions, git commit), `metrics.jsonl`, `summary.json` and `figures/`; every file is written beside its
place and renamed, so a killed run leaves the old file or the new one, never half of one.
"""

import contextlib
import dataclasses
import importlib.metadata
import io
import json
import math
import os
import platform
import re
import shlex
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NoReturn

from derivations.names import suggest

VERSIONED = ("maxent-rlhf", "numpy", "scipy", "sympy", "torch", "transformers", "accelerate")


class InputError(Exception):
    """The user's input was wrong. The message says what was got, where, and how to mend it, in one line.

    Not a ValueError: argument parsers catch those and frame them in words of their own. Control characters, which
    names and files may hold and a terminal would obey, are shown as escapes. A very long line loses its middle.
    """

    def __str__(self) -> str:
        words = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in super().__str__())
        return words if len(words) <= 1500 or "\n" in words else f"{words[:1000]} [...] {words[-400:]}"


@contextlib.contextmanager
def input_errors(prefix: str = "") -> Iterator[None]:
    """Turn a ValueError raised while reading the user's settings into an InputError."""
    try:
        yield
    except ValueError as error:
        raise InputError(f"{prefix}{error}") from error


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
    settings that stand where the command line says nothing. Raises InputError for an unknown or missing name; a
    value of the wrong kind is refused by tyro, with exit status 2 too.
    """
    import tyro  # programs need it, importers of this module do not

    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words:
        raise InputError(f"name a command: {', '.join(commands)}; `{prog} --help` explains them")
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


def _overview(commands: Mapping[str, type], prog: str, about: str) -> None:
    """What the commands do, each in its first sentence, and their examples."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"usage: {prog} COMMAND [OPTIONS]\n\n{about.split('Example: ')[0].strip()}\n", markup=False)
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, kind in commands.items():
        table.add_row(f"  {name}", " ".join((kind.__doc__ or "").split("\n\n")[0].split()))
    Console(highlight=False).print(table)
    docs = [*(kind.__doc__ or "" for kind in commands.values()), about]
    examples = [line for doc in docs for line in re.findall(r"Example: (.+)", doc)]
    console.print("\nExamples:", *(f"  {line}" for line in examples), sep="\n", markup=False)
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
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, tuple | list):
            words += [f"--{name}", *map(str, value)] if value else []
        elif value is not None:
            words += [f"--{name}", str(value)]
    return shlex.join(words)


def write_text(path: Path, text: str) -> None:
    """Write a file whole: temporary file in the same folder, then rename. InputError where that cannot be done.

    A pipe or a device (/dev/stdout) is written to and never replaced.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        if path.is_dir():
            raise InputError(f"cannot write {path}: it is a folder; give the name of a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        # a lone surrogate becomes \udXXX, which in JSON is its proper escape
        data = text.encode("utf-8", errors="backslashreplace")
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        temporary.write_bytes(data)
        temporary.replace(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        with contextlib.suppress(OSError, ValueError):  # never written
            temporary.unlink()
        raise InputError(f"cannot write {path}: {reason(error)}") from error


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Strict JSON of settings and results: dataclasses, paths and NumPy scalars allowed; NaN and inf become null."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy and torch
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path) or hasattr(value, "free_symbols"):  # a path or a formula
        return str(value)
    return value


def write_json(path: Path, value: Any) -> None:
    """`to_json` into a file, whole, indented."""
    write_text(path, to_json(value, indent=2) + "\n")


def reason(error: Exception) -> str:
    """What went wrong with a file, without its name: the system's word for it, or the error's own."""
    return getattr(error, "strerror", None) or str(error)


def read_json(path: Path) -> Any:
    """What a JSON file of ours holds. Raises InputError for one that cannot be read or is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}") from None


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that results depend on, and the git commit if there is one."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    commit = _git_commit()
    return found | ({"git_commit": commit} if commit else {})


def _git_commit() -> str | None:
    """Commit of the checkout this package is imported from; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:  # git is not installed
        return None
    return answer.stdout.strip() or None


def start_run(out: Path, config: Any) -> Path:
    """Make the run folder `out` and save the resolved config in it. Returns `out`.

    An earlier run in the same place is moved aside to `out.1`, `out.2`, ..., so nothing is lost. A
    folder that holds anything else is refused (InputError).
    """
    try:
        clear_killed_start(out)
        _move_earlier_run(out.resolve())
    except (OSError, ValueError) as error:  # a name too long, no permission, a NUL in it
        raise InputError(f"cannot use --out {out}: {reason(error)}") from error
    write_json(out / "config.json", {"config": config, "versions": versions()})
    return out


def clear_temporaries(folder: Path) -> None:
    """Remove what a kill within `write_text` leaves in a folder: temporary files that were never renamed."""
    for path in folder.glob(".*.tmp"):
        path.unlink()


def clear_killed_start(out: Path) -> None:
    """Remove what a kill within the first write of config.json leaves: a folder with a temporary file and no more."""
    if out.is_dir() and all(path.match(".config.json.*.tmp") for path in out.iterdir()):
        clear_temporaries(out)


def _move_earlier_run(out: Path) -> None:
    """Rename a run folder that is in the way; refuse any other folder or file."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "config.json").exists())):
        raise InputError(f"--out {out} exists and is not a run folder of this project; choose another one")
    if (out / "config.json").exists():
        number = next(n for n in range(1, 10**6) if not out.with_name(f"{out.name}.{n}").exists())
        out.rename(out.with_name(f"{out.name}.{number}"))
        print(f"note: the earlier run in {out} is now {out}.{number}", file=sys.stderr)
