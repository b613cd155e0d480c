"""What is fed to readers: good files with a few bytes damaged, and good records with something else in a field."""

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

# What breaks parsers that were only shown what they expect.
TOKENS = (
    b"\x00", b"\xff", b"\xef\xbb\xbf", b"\r\n", b"\n", b"{", b"}", b"[", b"]", b'"', b"\\", b"\\u0000", b"\\ud800",
    b",", b"NaN", b"-Infinity", b"1e999", b"-", b"null", b"true", b"0", b"9" * 5000, b"[" * 3000, b"'", b"=", b"#",
    b"\xed\xa0\x80", b"\xe2\x80\xa8", b" " * 100, b"\x1b[2J", b"{}", b"[]", b'""', b"\x1f\x8b", b"PAR1",
    b"!!python/object/apply:os.abort",
)  # fmt: skip
TEXTS = (
    "", " ", "\0", "\ud800", "\x1b[31m", "[/bold]", "a\nb", "\u2028", "é" * 300, "{}", "nan", "../..", "a" * 5000,
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, good: Sequence[bytes]) -> bytes:
    """One of the good files with one to four places flipped, cut off, dropped, doubled, or with rubbish put in."""
    data = bytearray(draw(st.sampled_from(good)))
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 4)))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(("flip", "cut", "drop", "double", "insert", "replace")))
        end = min(len(data), at + draw(st.integers(1, 40)))
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at:]
        elif kind == "drop":
            del data[at:end]
        elif kind == "double":
            data[at:at] = data[at:end]
        else:
            data[at : end if kind == "replace" else at] = draw(st.sampled_from(TOKENS))
    return bytes(data)


def values() -> st.SearchStrategy[Any]:
    """Any JSON value, odd ones more often than not."""
    numbers = st.one_of(
        st.integers(-(2**70), 2**70), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from((0, -1, 1, 0.5))
    )
    texts = st.one_of(st.sampled_from(TEXTS), st.text(st.characters(), max_size=8))
    leaves = st.one_of(st.none(), st.booleans(), numbers, texts)
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
        max_leaves=6,
    )


@st.composite
def altered(draw: st.DrawFn, good: Sequence[Any]) -> Any:
    """One of the good JSON values with one to three of its parts replaced, removed or joined by something else."""
    value = json.loads(json.dumps(draw(st.sampled_from(good))))
    for _ in range(draw(st.integers(1, 3))):
        box = {"value": value}
        holder: Any = box
        key: Any = "value"
        while isinstance(holder[key], dict | list) and holder[key] and draw(st.integers(0, 3)):
            holder = holder[key]
            key = draw(st.sampled_from(list(holder) if isinstance(holder, dict) else list(range(len(holder)))))
        kind = draw(st.sampled_from(("replace", "remove", "extra")))
        if kind == "remove" and holder is not box:
            del holder[key]
        elif kind == "extra" and isinstance(holder[key], dict):
            holder[key][draw(st.sampled_from(TEXTS))] = draw(values())
        elif kind == "extra" and isinstance(holder[key], list):
            holder[key].append(draw(values()))
        else:
            holder[key] = draw(values())
        value = box["value"]
    return value


def as_bytes(value: Any) -> bytes:
    """JSON as a file; lone surrogates as escapes."""
    return json.dumps(value).encode()
