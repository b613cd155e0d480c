"""Conversations that a table keeps as texts: JSON, or Python's way to write a list, in a cell of CSV or Parquet."""

import ast
import json
import re
from typing import Any

from llm.data.row_formats.messages import is_conversation

_BEGINS = re.compile(r"""\s*(\[\s*)?\{\s*["'](role|from|content|value)["']\s*:""")
LONGEST = 1_000_000  # characters of a cell that is unpacked


def unpacked(row: Any) -> Any:
    """The row with its cells of messages unpacked; a text that is no conversation stays a text."""
    if not isinstance(row, dict) or not any(isinstance(v, str) and _BEGINS.match(v) for v in row.values()):
        return row
    return {name: _conversation(value) for name, value in row.items()}


def _conversation(value: Any) -> Any:
    if not isinstance(value, str) or len(value) > LONGEST or not _BEGINS.match(value):
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if is_conversation(found) or is_conversation([found]):
            return found
    return value
