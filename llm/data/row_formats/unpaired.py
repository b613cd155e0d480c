"""Formats with one response and its judgement: good or bad (KTO), or a rating."""

from typing import Any

from llm.data.row_formats.messages import answer_of, field, messages_of, number_of, reply_of
from llm.data.row_formats.pairs import prompt_field, prompt_in
from llm.data.row_formats.rows import Judged, Message, Row, Unusable, shown

ANSWERS = ("completion", "response", "output", "answer")
LABELS = ("label", "kto_tag", "desirable", "thumbs_up")
GOOD = ("true", "good", "desirable", "chosen", "thumbs_up")
BAD = ("false", "bad", "undesirable", "rejected", "thumbs_down")
RATINGS = ("helpfulness", "score", "reward", "rating", "overall_score")


def label_of(row: Row) -> str | None:
    """Name of the field that says good or bad, if the row has one."""
    return next((n for n in LABELS if type(row.get(n)) is bool or _word(row.get(n)) is not None), None)


def _word(value: Any) -> bool | None:
    if isinstance(value, str):
        return {word: word in GOOD for word in (*GOOD, *BAD)}.get(value.strip().lower())
    return bool(value) if type(value) in (int, float) and value in (0, 1) else None


def rating_of(row: Row) -> str | None:
    """Name of the field of the rating, if the row has one."""
    return next((n for n in RATINGS if type(row.get(n)) in (int, float)), None)


def answer_field(row: Row) -> str | None:
    """Name of the field of the one response, if the row has one."""
    return next((n for n in ANSWERS if row.get(n) is not None and not isinstance(row[n], dict)), None)


def read_judged(row: Row, where: str) -> Judged:
    """A response that is good or bad: behind a prompt, or the last message of a conversation."""
    name = label_of(row) or next((n for n in LABELS if n in row), LABELS[0])
    value = field(row, name)
    good = value if isinstance(value, bool) else _word(value)
    if good is None:
        raise Unusable(f"field {name!r}: expected true or false; got {shown(value)}")
    return Judged(*_answered(row), where, float(good), True)


def read_rated(row: Row, where: str) -> Judged:
    """A response with a rating, HelpSteer's `helpfulness` first; rows of one prompt that follow one another are
    compared."""
    name = rating_of(row) or RATINGS[0]
    return Judged(*_answered(row), where, number_of(field(row, name), name), False)


def _answered(row: Row) -> tuple[tuple[Message, ...], str]:
    answer = answer_field(row)
    name = prompt_field({k: v for k, v in row.items() if k != answer})
    if answer is not None and name is not None:
        prompt, replies = prompt_in(row, name), reply_of(row[answer], answer)
    else:
        name = name or "messages"
        whole = messages_of(field(row, name), name)
        prompt, replies, answer = prompt_in({**row, name: list(whole[:-1])}, name), whole[-1:], name
    return prompt, answer_of(replies, str(answer))
