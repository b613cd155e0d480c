"""Preference data: reading the common file shapes, splitting, and tokenizing without blurring the boundary.

A prompt is tokenized through the chat template (plain text if the model has none) and a response on
its own, so no token spans the two and prompt ids are a prefix of the whole. A complete response ends
with exactly one EOS, which counts in its length and its log-prob; a truncated one has none.
Rows that cannot be used are returned with the reason, never dropped in silence.
"""

import gzip
import json
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from derivations.commands import InputError
from llm.logprobs import Example

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}


@dataclass(frozen=True)
class Pair:
    """One comparison as text. where: the row's place in its file, for messages."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    where: str


@dataclass(frozen=True)
class EncodedPair:
    """One comparison as tokens."""

    chosen: Example
    rejected: Example
    where: str


def read_pairs(path: Path) -> tuple[list[Pair], str]:
    """Pairs of a JSON or JSONL file (.gz allowed) and the name of the shape found.

    Shapes: `prompt/chosen/rejected` with text or chat messages (TRL), `chosen/rejected transcripts`
    (lists of messages with a shared beginning), `ShareGPT` (conversations, chosen, rejected).
    Raises InputError naming file, line or row, and field.
    """
    rows = _read_rows(path)
    if not rows:
        raise InputError(f"{path} holds no rows")
    shape = _shape(rows[0][1], rows[0][0])
    parse = _SHAPES[shape]
    return [parse(row, where) for where, row in rows], shape


def _read_rows(path: Path) -> list[tuple[str, Any]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if text.lstrip().startswith("["):
        return [(f"{path} row {n}", row) for n, row in enumerate(_parse_json(text, path, 0), start=1)]
    lines = [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    return [(f"{path} line {n}", _parse_json(line, path, n - 1)) for n, line in lines]


def _parse_json(text: str, path: Path, lines_before: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} line {lines_before + error.lineno}: broken JSON ({error.msg} at column {error.colno})"
        ) from None


def _shape(row: Any, where: str) -> str:
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected an object with fields such as prompt, chosen, rejected; got {row!r:.60}")
    if "conversations" in row:
        return "ShareGPT"
    if "prompt" in row:
        return "prompt/chosen/rejected"
    if isinstance(row.get("chosen"), list):
        return "chosen/rejected transcripts"
    raise InputError(
        f"{where}: no known shape among fields {sorted(row)}; expected prompt/chosen/rejected, "
        "conversations/chosen/rejected, or chosen and rejected as lists of messages"
    )


def _parse_trl(row: Any, where: str) -> Pair:
    prompt = _field(row, "prompt", where)
    messages = ({"role": "user", "content": prompt},) if isinstance(prompt, str) else _messages(prompt, where, "prompt")
    return Pair(messages, _response(row, "chosen", where), _response(row, "rejected", where), where)


def _parse_sharegpt(row: Any, where: str) -> Pair:
    prompt = _messages(_field(row, "conversations", where), where, "conversations")
    return Pair(prompt, _response(row, "chosen", where), _response(row, "rejected", where), where)


def _parse_transcripts(row: Any, where: str) -> Pair:
    chosen, rejected = (_messages(_field(row, name, where), where, name) for name in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise InputError(f"{where}: chosen and rejected must agree up to their last message")
    return Pair(
        chosen[:-1],
        _reply(chosen[-1:], where, "chosen"),
        _reply(rejected[-1:], where, "rejected"),
        where=where,
    )


_SHAPES: dict[str, Callable[[Any, str], Pair]] = {
    "prompt/chosen/rejected": _parse_trl,
    "ShareGPT": _parse_sharegpt,
    "chosen/rejected transcripts": _parse_transcripts,
}
_ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}


def _field(row: Any, name: str, where: str) -> Any:
    if not isinstance(row, dict) or name not in row:
        raise InputError(f"{where}: field {name!r} is missing")
    return row[name]


def _messages(value: Any, where: str, name: str) -> tuple[Message, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise InputError(f"{where}, field {name!r}: expected a list of messages, got {value!r:.60}")
    return tuple(_message(item, where, name) for item in value)


def _message(value: Any, where: str, name: str) -> Message:
    """One message, as {"role", "content"} or ShareGPT's {"from", "value"}."""
    if isinstance(value, dict):
        role, content = value.get("role", value.get("from")), value.get("content", value.get("value"))
        if isinstance(role, str) and role in _ROLES and isinstance(content, str):
            return {"role": _ROLES[role], "content": content}
    raise InputError(
        f"{where}, field {name!r}: expected a message with role ({', '.join(_ROLES)}) and text, got {value!r:.60}"
    )


def _response(row: Any, name: str, where: str) -> str:
    return _reply(_field(row, name, where), where, name)


def _reply(value: Any, where: str, name: str) -> str:
    """Text of a response given as text, as one message, or as a list of one message."""
    if isinstance(value, str):
        return value
    messages = _messages(value if isinstance(value, list | tuple) else [value], where, name)
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise InputError(f"{where}, field {name!r}: expected text or exactly one assistant message")
    return messages[0]["content"]


def split_pairs(pairs: Sequence[Any], *, eval_size: int, seed: int) -> tuple[list[Any], list[Any]]:
    """Train and evaluation parts by seed. Raises InputError if nothing would be left to train on."""
    if len(pairs) <= eval_size:
        raise InputError(
            f"{len(pairs)} usable pairs are too few to hold out {eval_size} for evaluation; lower --eval-size"
        )
    shuffled = list(pairs)
    random.Random(seed).shuffle(shuffled)  # noqa: S311
    return shuffled[eval_size:], shuffled[:eval_size]


def encode_prompt(messages: Sequence[Message], tokenizer: Any) -> tuple[int, ...]:
    """Prompt ids up to the point where the response begins."""
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        return tuple(tokenizer(text, add_special_tokens=False).input_ids)
    ids = tokenizer("\n".join(m["content"] for m in messages)).input_ids
    return tuple(ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids)


def encode_response(text: str, tokenizer: Any, *, room: int) -> tuple[tuple[int, ...], bool]:
    """Response ids of at most `room` tokens, and whether it is complete (ends with its EOS)."""
    ids = list(tokenizer(text, add_special_tokens=False).input_ids)
    while ids and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    ids.append(tokenizer.eos_token_id)
    return tuple(ids[:room]), len(ids) <= room


def encode_pairs(
    pairs: Sequence[Pair], tokenizer: Any, *, max_length: int
) -> tuple[list[EncodedPair], list[tuple[str, str]]]:
    """Tokenized pairs, and (where, reason) of every row left out. Raises InputError if none remains."""
    kept: list[EncodedPair] = []
    skipped: list[tuple[str, str]] = []
    for pair in pairs:
        try:
            kept.append(_encode(pair, tokenizer, max_length))
        except _Unusable as reason:
            skipped.append((pair.where, str(reason)))
    if not kept:
        raise InputError(f"no usable pair among {len(pairs)}; first: {skipped[0][0]}: {skipped[0][1]}")
    return kept, skipped


class _Unusable(Exception):
    """This row cannot be trained on; the message says why."""


def _encode(pair: Pair, tokenizer: Any, max_length: int) -> EncodedPair:
    if not pair.chosen.strip() or not pair.rejected.strip():
        raise _Unusable("empty response")
    prompt = encode_prompt(pair.prompt, tokenizer)
    room = max_length - len(prompt)
    if not prompt:
        raise _Unusable("empty prompt")
    if len(prompt) > max_length // 2:  # a response cut to a few tokens is noise, and length-normalized noise is loud
        raise _Unusable(f"the prompt has {len(prompt)} tokens and leaves no room: at most half of {max_length} is its")
    chosen, rejected = (
        Example(prompt, *encode_response(text, tokenizer, room=room)) for text in (pair.chosen, pair.rejected)
    )
    if chosen.response == rejected.response:
        raise _Unusable("chosen and rejected are the same" + ("" if chosen.complete else " after truncation"))
    return EncodedPair(chosen, rejected, pair.where)
