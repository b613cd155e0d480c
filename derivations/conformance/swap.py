"""Put another function in the place of one that a module defines, before anybody imports it from there."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from derivations.cli.errors import InputError

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


def source_of(place: str) -> tuple[Path, str]:
    """The file and the function's name of `module:function` or `path/file.py:function`. InputError if there is none."""
    module, _, name = place.rpartition(":")
    if module.endswith(".py"):
        return Path(module).resolve(), name
    sys.path.insert(0, str(Path.cwd()))
    try:
        spec = importlib.util.find_spec(module)
    except ImportError:
        spec = None
    finally:
        sys.path.pop(0)
    if spec is None or not spec.origin:
        raise InputError(f"{module} is no module that can be imported from here")
    return Path(spec.origin).resolve(), name


class _Loader(importlib.abc.Loader):
    """Runs a module by its own loader, then replaces one of its functions."""

    def __init__(self, inner: Any, name: str, wrap: Wrap) -> None:
        self.inner, self.name, self.wrap = inner, name, wrap

    def create_module(self, spec: Any) -> ModuleType | None:
        found: ModuleType | None = self.inner.create_module(spec)
        return found

    def exec_module(self, module: ModuleType) -> None:
        self.inner.exec_module(module)
        *path, last = self.name.split(".")
        owner: Any = module
        for part in path:
            owner = getattr(owner, part)
        setattr(owner, last, self.wrap(getattr(owner, last)))


class _Finder(importlib.abc.MetaPathFinder):
    """Lets the other finders look, and steps in for one file."""

    def __init__(self, path: Path, name: str, wrap: Wrap) -> None:
        self.path, self.name, self.wrap = path, name, wrap

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is None:
                continue
            if spec.origin and spec.loader and Path(spec.origin).resolve() == self.path:
                spec.loader = _Loader(spec.loader, self.name, self.wrap)
            return spec
        return None


def install(place: str, wrap: Wrap) -> None:
    """From now on whoever imports the function's module gets wrap(function) under its name."""
    path, name = source_of(place)
    forget(lambda file: file == path)
    sys.meta_path.insert(0, _Finder(path, name, wrap))


def forget(which: Callable[[Path], bool]) -> None:
    """Forget imported modules whose files are these, and the packages they are in, which may hold their functions."""
    loaded = {key for key, module in sys.modules.items() if (file := _file(module)) and which(file)}
    heads = {key.partition(".")[0] for key in loaded} - {"derivations", "__main__"}
    for key in list(sys.modules):
        if key.partition(".")[0] in heads:
            del sys.modules[key]


def _file(module: Any) -> Path | None:
    place = getattr(module, "__file__", None)  # some are no files at all and have a mere name there (torch.ops)
    return Path(place).resolve() if isinstance(place, str) and Path(place).is_absolute() else None
