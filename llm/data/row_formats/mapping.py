"""`--map theirs=ours` for a file of no known format, and the message that says which `--map` would read it."""

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

from derivations.cli.errors import InputError, suggest
from llm.data.row_formats.rows import Row, shown
from llm.data.row_formats.table import FORMATS, NAMES

OURS = ("prompt", "chosen", "rejected", "system", "messages", "responses", "scores", "ranking", "completion", "label")
# What others call them; a field is also taken for one of ours if its name holds one of these words.
WORDS = {
    "prompt": ("prompt", "question", "query", "instruction", "input", "user", "context", "ask", "problem", "task"),
    "chosen": ("chosen", "preferred", "accepted", "better", "best", "winner", "win", "good", "positive", "liked"),
    "rejected": ("rejected", "dispreferred", "nonpreferred", "worse", "worst", "loser", "lose", "bad", "negative"),
    "responses": ("responses", "answers", "completions", "outputs", "candidates", "generations"),
    "scores": ("scores", "ratings", "rewards"),
    "completion": ("completion", "response", "answer", "output", "reply"),
    "label": ("label", "thumbs", "feedback", "desirable", "upvoted"),
}
NEAREST = (
    ("pairs", ("prompt", "chosen", "rejected")),
    ("rankings", ("prompt", "responses", "scores")),
    ("kto", ("prompt", "completion", "label")),
)
MOST_FIELDS = 12  # named in the message


def read_mapping(texts: Sequence[str]) -> dict[str, str]:
    """`theirs=ours` texts as a mapping. Raises InputError for another form or an unknown name of ours."""
    found: dict[str, str] = {}
    for text in texts:
        theirs, equals, ours = text.rpartition("=")
        if not equals or not theirs:
            raise InputError(f"--map {text}: expected THEIRS=OURS, a field of the file and its name here")
        if ours not in OURS:
            raise InputError(f"--map {text}: unknown name {ours!r}{suggest(ours, list(OURS))}")
        if ours in found.values():
            raise InputError(f"--map {text}: {ours!r} is given twice")
        found[theirs] = ours
    return found


def mapped(row: Any, mapping: dict[str, str]) -> Any:
    """A row with its fields renamed; `a.b` reaches into an object. A field that is not there changes nothing."""
    if not mapping or not isinstance(row, dict):
        return row
    renamed = {name: value for name, value in row.items() if name not in mapping and name not in mapping.values()}
    for theirs, ours in mapping.items():
        value = row.get(theirs, _inside(row, theirs))
        if value is not None:
            renamed[ours] = value
    return renamed


def _inside(row: Any, path: str) -> Any:
    for name in path.split("."):
        row = row.get(name) if isinstance(row, dict) else None
    return row


def unknown_format(where: str, row: Row) -> InputError:
    """The refusal of a file: its fields, the nearest format, and the `--map` that would read it."""
    names = [str(name) for name in row if row[name] is not None]
    fields = ", ".join(shown(name).strip("'\"") for name in names[:MOST_FIELDS]) + (
        ", ..." if names[MOST_FIELDS:] else ""
    )
    name, wanted, found = max(
        ((name, wanted, guess(row, wanted)) for name, wanted in NEAREST),
        key=lambda item: (len(item[2]) / len(item[1]), len(item[2])),
    )
    options = " ".join(
        f"--map {_quoted(found.get(ours, 'FIELD'))}={ours}" for ours in wanted if found.get(ours) != ours
    )
    about = next(f.fields for f in FORMATS if f.name == name)
    missing = [ours for ours in wanted if ours not in found]
    left = f", with the field of {' and '.join(missing)} for FIELD" if missing else ""
    return InputError(
        f"{where}: no known format has the fields {fields or '(none)'}; the nearest is `{name}` ({about}): "
        f"try {options}{left} (known: {', '.join(NAMES)})"
    )


def _quoted(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").replace(".", "").isalnum() else repr(shown(name))


def guess(row: Row, wanted: Sequence[str]) -> dict[str, str]:
    """Which field of the row is each of ours, by its name; every field once, and only where something points to it."""
    points = sorted(
        (
            (likeness(str(theirs), ours), ours, str(theirs))
            for theirs in row
            if row[theirs] is not None
            for ours in wanted
        ),
        key=lambda item: -item[0],
    )
    found: dict[str, str] = {}
    for point, ours, theirs in points:
        if point > 0.5 and ours not in found and theirs not in found.values():
            found[ours] = theirs
    return found


def likeness(theirs: str, ours: str) -> float:
    """How much a field's name looks like one of ours, from 0 to 1; the longest word counts, so that `dispreferred`
    is not taken for `preferred`."""
    name = theirs.lower().replace("_", "").replace("-", "").replace(" ", "")[:60]
    held = max((len(word) for word in WORDS[ours] if word in name), default=0)
    alike = max(SequenceMatcher(None, name, word).ratio() for word in WORDS[ours])
    return max(held / (len(name) + 1) + 0.5 if held else 0.0, alike - 0.3)
