"""Settings are checked by their annotations, wherever they come from: a command line, Python, a recipe, a grid.

lr: Annotated[float, Within(0, open=True)] = 0.2
world: Annotated[str, OneOf("tabular", "shared", "tree")] = "tabular"
schedule: Literal["cosine", "constant"] = "cosine"
top: int | None = None
"""

import dataclasses
import functools
import math
import reprlib
import typing
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from derivations.cli.errors import suggest

KINDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path",
    tuple: "a list",
}


@dataclasses.dataclass(frozen=True, repr=False)
class Within:
    """A finite number from `least` to `most`; open: `least` itself is left out. why: ends the message."""

    least: float = -math.inf
    most: float = math.inf
    open: bool = False
    why: str = ""

    def __repr__(self) -> str:  # in the signatures of the docs
        return f"Within({self.least:g}, {self.most:g})"

    def check(self, option: str, value: Any) -> None:
        """Raise ValueError for a number outside."""
        if self.least <= value <= self.most and math.isfinite(value) and not (self.open and value == self.least):
            return
        least = f" {'>' if self.open else '>='} {self.least}" if math.isfinite(self.least) else ""
        most = f"{' and' if least else ''} <= {self.most}" if math.isfinite(self.most) else ""
        raise ValueError(f"--{option} is {value}, expected a finite number{least}{most}{self.why and f'; {self.why}'}")


class OneOf:
    """One of these words."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def __repr__(self) -> str:
        return f"OneOf{self.words}"

    def check(self, option: str, value: Any) -> None:
        """Raise ValueError for another word, with the nearest one."""
        if value not in self.words:
            raise ValueError(f"unknown {option} {value!r}{suggest(value, list(self.words))}")


@functools.cache
def annotations(settings: type) -> dict[str, Any]:
    """The annotation of every field of a dataclass, in order, `Annotated` and all."""
    hints = typing.get_type_hints(settings, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(settings)}


def check_settings(settings: Any, kind: type | None = None) -> None:
    """Hold every field of a dataclass against its annotation.

    Args:
        settings: an instance.
        kind: the dataclass whose fields count; by default that of the instance.

    Raises:
        ValueError: of the first field that does not fit, with the option's name, the value and what is expected.
    """
    for name, annotation in annotations(kind or type(settings)).items():
        check_value(name, getattr(settings, name), annotation)


def check_value(name: str, value: Any, annotation: Any) -> None:
    """Raise ValueError for a value that its annotation does not allow; True and False are no numbers."""
    option = name.replace("_", "-")
    kinds, limits = kinds_of(annotation)
    if not any(_is(value, kind) for kind in kinds):
        words = [KINDS[kind] if kind in KINDS else repr(kind) for kind in kinds if kind is not NoneType]
        dot = " (YAML wants a dot in a number: 1.0e-5)" if isinstance(value, str) and float in kinds else ""
        raise ValueError(f"--{option} is {reprlib.repr(value)[:60]}, expected {' or '.join(words)}{dot}")
    for limit in limits if value is not None else ():
        limit.check(option, value)


def kinds_of(annotation: Any) -> tuple[list[Any], list[Any]]:
    """The kinds that an annotation allows (classes, NoneType, the words of a Literal), and its limits."""
    if get_origin(annotation) is Annotated:
        inner, *extras = get_args(annotation)
        kinds, limits = kinds_of(inner)
        return kinds, [*limits, *(extra for extra in extras if isinstance(extra, Within | OneOf))]
    if get_origin(annotation) is Literal:
        return list(get_args(annotation)), []
    if get_origin(annotation) in (Union, UnionType):
        parts = [kinds_of(part) for part in get_args(annotation)]
        return [kind for kinds, _ in parts for kind in kinds], [limit for _, limits in parts for limit in limits]
    return [get_origin(annotation) or annotation], []


def _is(value: Any, kind: Any) -> bool:
    if not isinstance(kind, type):
        return bool(value == kind)
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    return isinstance(value, list | tuple if kind is tuple else kind)
