"""Protocols: TOML files fixed before a run. The hash of their bytes names them, and results carry it."""

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from derivations.cli.errors import InputError, reason


@dataclass(frozen=True)
class ProtocolFile:
    """A protocol as it was read: its text and its tables."""

    text: str
    tables: dict[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of the text, 64 hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """The first 12 digits, which results carry."""
        return self.digest[:12]


def read_protocol_file(path: Path) -> ProtocolFile:
    """A protocol file. Raises InputError if it cannot be read or is no TOML."""
    try:
        text = path.read_bytes().decode()
        return ProtocolFile(text, tomllib.loads(text))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read the protocol {path}: {reason(error)}") from None
