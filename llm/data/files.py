"""Reading preference data: rows of any known format become comparisons, one after another.

A row that cannot be used is skipped with the reason, never dropped in silence; only a file that is no table, or of no
known format, stops the reading.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from derivations.cli.errors import InputError
from llm.data.containers import require_source, rows_of
from llm.data.row_formats import Comparison, Judged, Row, Unusable, detect, parse, shown
from llm.data.row_formats.mapping import mapped, read_mapping, unknown_format
from llm.data.row_formats.packed import unpacked
from llm.data.row_formats.rankings import order_by
from llm.data.row_formats.rows import MOST_RESPONSES, kind_of

Skipped = Sequence[tuple[str, str]]  # (place, reason)
PATIENCE = 1000  # rows of no known format before a file is given up
UNPAIRED = (
    "{name} holds single responses that are good or bad (format kto), which --objective kto takes; for the others "
    "`inspect-data {name} --write PAIRS.jsonl` writes a pair for each prompt that has both kinds"
)

__all__ = ["Reading", "Skipped", "Source", "by_reason", "read_source", "require_source", "require_usable"]


@dataclass
class Reading:
    """One pass over a file or data set, in bounded memory.

    Args:
        name: a file, or a hub data set written `owner/name` or `owner/name:split`.
        skip: told the place and the reason of every row that cannot be used.
        shape: name of the format of every row; `auto` goes by each row's fields.
        mapping: `theirs=ours` texts that rename fields.
        watch: shown every row that is an object, before it is read.

    While it is iterated, `formats` counts the formats of the rows and `tools` the rows whose tools are left out.
    """

    name: str
    skip: Callable[[str, str], None]
    shape: str = "auto"
    mapping: Sequence[str] = ()
    watch: Callable[[Row], None] | None = None
    rows: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    tools: int = 0

    def __iter__(self) -> Iterator[Comparison | Judged]:
        """Comparisons, and judged responses of unpaired data. Raises InputError for what is no table."""
        return _together(self._read(), self.skip)

    def _read(self) -> Iterator[Comparison | Judged]:
        renamed = read_mapping(self.mapping)
        refused, first = 0, None  # rows of no known format; the first of them, an object if there is one
        for where, given in rows_of(self.name):
            self.rows += 1
            row = unpacked(mapped(given, renamed))
            shape = self._shape(row)
            if shape is None or isinstance(row, Unusable):
                refused += 1
                if first is None or (isinstance(row, dict) and not isinstance(first[1], dict)):
                    first = (where, row)
                self.skip(where, str(row) if isinstance(row, Unusable) else _unknown(row))
            else:
                if self.watch and isinstance(row, dict):
                    self.watch(row)
                self.formats[shape] += 1
                self.tools += _has_tools(row)
                try:
                    yield parse(shape, row, where)
                except Unusable as reason:
                    self.skip(where, str(reason))
            if not self.formats and refused >= PATIENCE:
                break
        if not self.formats:
            raise _no_table(self.name, first)

    def _shape(self, row: Any) -> str | None:
        """The format of a row: its own, or that of the others, whose reader then says what is missing."""
        if self.shape != "auto":
            return self.shape
        found = detect(row)
        if found is None and self.formats and isinstance(row, dict):
            return max(self.formats, key=self.formats.__getitem__)
        return found


def _unknown(row: Any) -> str:
    if not isinstance(row, dict):
        return f"no object with fields; got {shown(row)}"
    nulls = ", ".join(shown(name).strip("'\"") for name in row if row[name] is None)
    return f"no known format{f' (null: {nulls})' if nulls else ''}"


def _has_tools(row: Any) -> bool:
    """Whether a row describes tools, which are left out of its prompt."""
    inner = row.get("input") if isinstance(row, dict) else None
    return isinstance(row, dict) and bool(row.get("tools") or (isinstance(inner, dict) and inner.get("tools")))


def _no_table(name: str, first: tuple[str, Any] | None) -> InputError:
    """Why a file gave no row of a known format."""
    if first is None:
        return InputError(f"{name} holds no rows")
    where, row = first
    if isinstance(row, dict):
        return unknown_format(where, row)
    if isinstance(row, Unusable):
        return InputError(f"cannot read {name}: {where}: {row}, and no other row is an object with fields")
    return InputError(
        f"{where}: expected an object with fields such as prompt, chosen, rejected; got {str(row)[:60]!r}"
    )


def _together(items: Iterator[Comparison | Judged], skip: Callable[[str, str], None]) -> Iterator[Comparison | Judged]:
    """Rated responses to one prompt that follow one another, as one comparison."""
    held: list[Judged] = []
    for item in items:
        rated = isinstance(item, Judged) and not item.verdict
        if held and not (rated and item.prompt == held[0].prompt and len(held) < MOST_RESPONSES):
            yield from _compared(held, skip)
            held = []
        if rated and isinstance(item, Judged):
            held.append(item)
        else:
            yield item
    if held:
        yield from _compared(held, skip)


def _compared(rated: list[Judged], skip: Callable[[str, str], None]) -> Iterator[Comparison]:
    if len(rated) < 2:
        skip(rated[0].where, "the only rated response to its prompt: nothing to compare it with")
        return
    try:
        texts, worse = [r.response for r in rated], [-r.score for r in rated]
        yield order_by(rated[0].prompt, texts, worse, rated[0].where, scored=True)
    except Unusable as reason:
        skip(rated[0].where, str(reason))


@dataclass(frozen=True)
class Source:
    """What one file or data set holds. shape: the format of most rows. judged: of unpaired data. tools: rows whose
    tools are left out."""

    name: str
    shape: str
    comparisons: Sequence[Comparison]
    skipped: Skipped
    judged: Sequence[Judged] = ()
    tools: int = 0


def read_source(
    name: str | Path, *, shape: str = "auto", mapping: Sequence[str] = (), keep: Callable[[], Any] = list
) -> Source:
    """All comparisons of a file or data set.

    Args:
        name, shape, mapping: as of `Reading`.
        keep: makes what they are kept in: `list`, or `Spool` for data of any size.

    Raises:
        InputError: as `Reading` does.
    """
    comparisons, judged, skipped = keep(), keep(), keep()
    reading = Reading(str(name), lambda where, reason: skipped.append((where, reason)), shape, mapping)
    for item in reading:
        (judged if isinstance(item, Judged) else comparisons).append(item)
    most = reading.formats.most_common(1)[0][0]
    return Source(str(name), most, comparisons, skipped, judged, reading.tools)


def require_usable(source: Source) -> None:
    """Refuse (InputError) a source without a comparison: of single responses, or with every row skipped."""
    if source.comparisons:
        return
    if source.judged:
        raise InputError(UNPAIRED.format(name=source.name))
    where, reason = source.skipped[0]
    raise InputError(f"{source.name}: no usable comparison; first: {where}: {reason}")


def by_reason(skipped: Sequence[tuple[str, str]]) -> list[tuple[str, int, str]]:
    """(reason, rows, first of them), most frequent first. Reasons that differ in their numbers only are one, in the
    words of the first."""
    counts: Counter[str] = Counter()
    first: dict[str, tuple[str, str]] = {}
    for where, reason in skipped:
        kind = kind_of(reason)
        counts[kind] += 1
        first.setdefault(kind, (where, reason))
    return [(first[kind][1], n, first[kind][0]) for kind, n in counts.most_common()]
