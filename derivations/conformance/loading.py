"""Finding the user's function at MODULE:FUNCTION or file.py:FUNCTION, and reading NAME=VALUE texts."""

import contextlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from derivations.cli.errors import InputError, suggest
from derivations.conformance.calls import reason

BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def load(place: str) -> Callable[..., Any]:
    """The function at `package.module:function` (from the current folder) or `path/file.py:function`."""
    module_name, colon, name = place.rpartition(":")
    if not colon or not module_name or not name:
        raise InputError(f"{place!r} names no function; write module:function or file.py:function")
    try:
        module = _load_file(Path(module_name)) if module_name.endswith(".py") else _load_module(module_name)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a script that parses its own command line leaves
        raise InputError(f"{module_name} could not be imported: {reason(error)}") from error
    function = module
    for part in name.split("."):
        if not hasattr(function, part):
            known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
            raise InputError(f"{module_name} has no function {name!r}{suggest(name, known)}")
        function = getattr(function, part)
    if not callable(function):
        raise InputError(f"{place} is not a function but {type(function).__name__}")
    return function


def one_call(function: Callable[..., Any]) -> Callable[..., Any]:
    """A class of losses as one function: the parameters of its constructor and those of its call, side by side."""
    if not inspect.isclass(function):
        return function
    made = {name: p for name, p in inspect.signature(function).parameters.items() if p.kind in BY_NAME}
    method = getattr(function, "forward", function.__call__)
    called = {name: p for name, p in inspect.signature(method).parameters.items() if p.kind in BY_NAME}
    called.pop("self", None)
    if twice := sorted(set(made) & set(called)):
        raise InputError(
            f"{function.__name__} takes {twice[0]!r} when it is made and when it is called; write an adapter"
        )

    def call(**given: Any) -> Any:
        loss: Any = function(**{name: value for name, value in given.items() if name in made})
        return loss(**{name: value for name, value in given.items() if name in called})

    both = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*called.values(), *made.values())]
    call.__signature__ = inspect.Signature(both)  # type: ignore[attr-defined]
    call.__name__ = function.__name__
    return call


def parse_pairs(flag: str, texts: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` texts as a dictionary. InputError for one without `=`, or a name given twice."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise InputError(f"{flag} {text!r}: write it as NAME=VALUE")
        if name in found:
            raise InputError(f"{flag} {name} is given twice")
        found[name] = value
    return found


def parse_value(text: str) -> Any:
    """A number, true or false; anything else is a word."""
    words = {"true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _load_module(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"_on_trial_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.resolve().parent))  # its neighbours can be imported, as by `python file.py`
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module
