"""The protocol of the experiments: read, checked against the packaged one, and named by its hash."""

import tomllib
from pathlib import Path
from typing import Any

from derivations.cli.errors import InputError, input_errors
from derivations.evidence.protocol import ProtocolFile, read_protocol_file
from toybandit.settings import Settings

PROTOCOL = Path(__file__).with_name("protocol.toml")
# A list in a table, and the number beside it that must be one of its members.
CHOSEN = (
    ("s1", "strengths", "strength"),
    ("s2", "alphas", "turned_alpha"),
    ("s2", "alphas", "harmless_alpha"),
    ("phase", "alphas", "alpha"),
)


class Protocol(ProtocolFile):
    """A protocol of the bandit's experiments: tables of numbers."""

    @property
    def packaged(self) -> bool:
        """Whether this is the protocol that came with the program."""
        return self.text == PROTOCOL.read_text(encoding="utf-8")


def read_protocol(path: Path) -> Protocol:
    """The protocol of a file. Raises InputError for a file that is none, naming the table and the number."""
    found = read_protocol_file(path)
    text, tables = found.text, found.tables
    standard = tomllib.loads(PROTOCOL.read_text(encoding="utf-8"))
    for name, numbers in standard.items():
        _compare(f"{path}: table [{name}]", tables.get(name, {}), numbers)
    for table, values, value in CHOSEN:
        if tables[table][value] not in tables[table][values]:
            raise InputError(f"{path}: table [{table}]: {value} = {tables[table][value]} is not one of {values}")
    for name in standard:
        numbers = tables["common"] | tables[name]
        with input_errors(f"{path}: table [{name}]: "):
            Settings(regularizer="none", **{key: numbers[key] for key in ("seed", "seeds", "lr", "steps")})
        if numbers["steps"] < 1:
            raise InputError(f"{path}: table [{name}]: steps is 0, and every statement needs a run of 1 step or more")
    late = tables["common"] | tables["s5"]
    if not 0 < late["drift_from"] < late["lr"] * late["steps"]:
        raise InputError(f"{path}: table [s5]: drift_from is {late['drift_from']}, expected a time within lr * steps")
    return Protocol(text, tables)


def _compare(where: str, found: Any, standard: dict[str, Any]) -> None:
    """Every number of the standard table is there, and of its kind."""
    if not isinstance(found, dict):
        raise InputError(f"{where} is {found!r}, expected a table")
    for key, value in standard.items():
        if key not in found:
            raise InputError(f"{where} has no {key!r}; start from {PROTOCOL.name} of the package")
        if isinstance(value, dict):
            _compare(f"{where}, {key}", found[key], value)
        elif isinstance(value, list):
            ok = isinstance(found[key], list) and found[key] and all(_alike(x, value[0]) for x in found[key])
            if not ok or ("bounds" in where and len(found[key]) != len(value)):
                raise InputError(f"{where}: {key} is {found[key]!r}, expected a list of numbers like {value}")
        elif not _alike(found[key], value):
            raise InputError(f"{where}: {key} is {found[key]!r}, expected a number like {value}")


def _alike(found: Any, standard: Any) -> bool:
    """A whole number where the standard has one, else any finite number."""
    kinds = (int,) if isinstance(standard, int) else (int, float)
    return type(found) in kinds and abs(found) < float("inf")
