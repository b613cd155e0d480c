"""The common shapes of preference data: one row of a file in, one comparison out.

A comparison is a prompt and its responses, best first: two make a pair, more a ranking. The shape is
found from the fields of the first row, and may be named instead.
"""

import re
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from derivations.cli.errors import InputError

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}
_ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}
_TURN = re.compile(r"\n\n(Human|Assistant):")


@dataclass(frozen=True)
class Comparison:
    """One prompt with its responses as text, best first. where: the row's place in its file, for messages."""

    prompt: tuple[Message, ...]
    responses: tuple[str, ...]
    where: str


class Unusable(Exception):
    """This row cannot be trained on; the message says why. It is listed, counted and skipped."""


def shown(value: Any) -> str:
    """A value in an error message: short, however long or deep it is."""
    return reprlib.repr(value)[:60]


def detect_shape(row: Any, where: str) -> str:
    """Name of the shape of a row. Raises InputError if its fields fit none."""
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected an object with fields such as prompt, chosen, rejected; got {shown(row)}")
    row = {name: value for name, value in row.items() if value is not None}  # a table has every column in every row
    if "responses" in row:
        return "rankings"
    if "conversations" in row:
        return "sharegpt"
    if "prompt" in row:
        return "pairs"
    if "chosen" in row and "rejected" in row:
        return "transcripts"
    raise InputError(
        f"{where}: no known shape among fields {shown(sorted(map(str, row)))}; expected prompt/chosen/rejected, "
        "conversations/chosen/rejected, chosen and rejected as transcripts, or prompt/responses/ranking"
    )


def parse(shape: str, row: Any, where: str) -> Comparison:
    """The comparison in a row. Raises InputError for a wrong type, naming the field; Unusable for content."""
    return _PARSERS[shape](row, where)


def _parse_pairs(row: Any, where: str) -> Comparison:
    sides = [row.get(name) if isinstance(row, dict) else None for name in ("chosen", "rejected")]
    if all(isinstance(s, list | tuple) and len(s) > 1 for s in sides):  # whole conversations, as in UltraFeedback
        return _parse_transcripts(row, where)
    return Comparison(_prompt(row, where), (_response(row, "chosen", where), _response(row, "rejected", where)), where)


def _parse_sharegpt(row: Any, where: str) -> Comparison:
    prompt = _messages(_field(row, "conversations", where), where, "conversations")
    return Comparison(prompt, (_response(row, "chosen", where), _response(row, "rejected", where)), where)


def _parse_transcripts(row: Any, where: str) -> Comparison:
    """Whole conversations that agree up to their last turn, as messages or as hh-rlhf's text."""
    chosen, rejected = (_transcript(_field(row, name, where), where, name) for name in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise Unusable("chosen and rejected do not agree up to their last message")
    if len(chosen) < 2:
        raise Unusable("a transcript needs a prompt before its last message")
    return Comparison(
        chosen[:-1], (_reply(chosen[-1:], where, "chosen"), _reply(rejected[-1:], where, "rejected")), where
    )


def _parse_rankings(row: Any, where: str) -> Comparison:
    """`responses` in any order, with `scores` (higher is better) or `ranking` (indices, best first)."""
    responses = _field(row, "responses", where)
    if not isinstance(responses, list | tuple) or len(responses) < 2:
        raise InputError(f"{where}, field 'responses': expected a list of two or more, got {shown(responses)}")
    texts = [_reply(r, where, "responses") for r in responses]
    order = _order(row, len(texts), where)
    return Comparison(_prompt(row, where), tuple(texts[i] for i in order), where)


def _order(row: Any, n: int, where: str) -> list[int]:
    """Indices of the responses, best first."""
    ranking = row.get("ranking")
    if ranking is not None:
        indices = isinstance(ranking, list | tuple) and all(type(i) is int for i in ranking)
        if not indices or sorted(ranking) != list(range(n)):
            raise InputError(
                f"{where}, field 'ranking': expected the indices 0 to {n - 1}, best first; got {shown(ranking)}"
            )
        return list(ranking)
    scores = _field(row, "scores", where)
    numbers = isinstance(scores, list | tuple) and all(isinstance(s, int | float) and s == s for s in scores)
    if not numbers or len(scores) != n:
        raise InputError(f"{where}, field 'scores': expected {n} numbers, higher is better; got {shown(scores)}")
    if len(set(scores)) < n:
        raise Unusable("two responses have the same score; a ranking has no ties")
    return sorted(range(n), key=lambda i: -scores[i])


_PARSERS: dict[str, Callable[[Any, str], Comparison]] = {
    "pairs": _parse_pairs,
    "sharegpt": _parse_sharegpt,
    "transcripts": _parse_transcripts,
    "rankings": _parse_rankings,
}


def _field(row: Any, name: str, where: str) -> Any:
    if not isinstance(row, dict) or name not in row:
        raise InputError(f"{where}: field {name!r} is missing")
    return row[name]


def _prompt(row: Any, where: str) -> tuple[Message, ...]:
    prompt = _field(row, "prompt", where)
    return ({"role": "user", "content": prompt},) if isinstance(prompt, str) else _messages(prompt, where, "prompt")


def _transcript(value: Any, where: str, name: str) -> tuple[Message, ...]:
    if not isinstance(value, str):
        return _messages(value, where, name)
    first, *rest = _TURN.split(value)
    if first.strip() or not rest:
        raise InputError(f"{where}, field {name!r}: expected turns that begin with 'Human:' or 'Assistant:'")
    roles = {"Human": "user", "Assistant": "assistant"}
    turns = zip(rest[::2], rest[1::2], strict=True)
    return tuple({"role": roles[who], "content": text.strip()} for who, text in turns)


def _messages(value: Any, where: str, name: str) -> tuple[Message, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise InputError(f"{where}, field {name!r}: expected a list of messages, got {shown(value)}")
    return tuple(_message(item, where, name) for item in value)


def _message(value: Any, where: str, name: str) -> Message:
    """One message, as {"role", "content"} or ShareGPT's {"from", "value"}."""
    if isinstance(value, dict):
        role, content = _first(value, "role", "from"), _first(value, "content", "value")
        if isinstance(role, str) and role in _ROLES and isinstance(content, str):
            return {"role": _ROLES[role], "content": content}
    raise InputError(
        f"{where}, field {name!r}: expected a message with role ({', '.join(_ROLES)}) and text, got {shown(value)}"
    )


def _first(value: dict[str, Any], *names: str) -> Any:
    """The first of the fields that holds something; a table of both styles holds nulls for the other."""
    return next((value[name] for name in names if value.get(name) is not None), None)


def _response(row: Any, name: str, where: str) -> str:
    return _reply(_field(row, name, where), where, name)


def _reply(value: Any, where: str, name: str) -> str:
    """Text of a response given as text, as one message, or as a list of one message."""
    if isinstance(value, str):
        return value
    messages: Sequence[Message] = _messages(value if isinstance(value, list | tuple) else [value], where, name)
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise InputError(f"{where}, field {name!r}: expected text or exactly one assistant message")
    return messages[0]["content"]
