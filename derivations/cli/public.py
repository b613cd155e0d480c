"""Public names of a package that load on first use, so that importing the package loads next to nothing."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy(package: str, public: Mapping[str, tuple[str, ...]]) -> tuple[list[str], Callable[[str], Any]]:
    """`__all__` and `__getattr__` of a package.

    Args:
        package: its name.
        public: module -> the names that are taken from it.

    Returns:
        The names, and the function that finds one in the module that defines it (AttributeError for any other).
    """
    places = {name: module for module, names in public.items() for name in names}

    def find(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(places[name]), name)

    return list(places), find
