"""Formats with a chosen and a rejected response."""

from typing import Any

from llm.data.row_formats.messages import (
    answer_of,
    field,
    history_of,
    messages_of,
    number_of,
    prompt_of,
    reply_of,
    spoken,
    text_of,
    with_system,
)
from llm.data.row_formats.rows import Comparison, Message, Row, Unusable

PROMPTS = (  # looked for in this order
    *("prompt", "question", "instruction", "conversations", "conversation"),
    *("trajectory", "messages", "context", "query", "input", "problem", "user_prompt", "inputs", "user", "post"),
)
SIDES = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("preferred_output", "non_preferred_output"),
    ("chosen", "reject"),
    ("accepted", "rejected"),
    ("preferred", "dispreferred"),
    ("preferred", "rejected"),
    ("response_j", "response_k"),
    *((f"chosen_{what}", f"rejected_{what}") for what in ("answer", "output", "completion", "text")),
    ("response_chosen", "response_rejected"),
    *(("y_w", "y_l"), ("win", "lose"), ("winner", "loser"), ("better", "worse"), ("good", "bad")),
)
PATTERNS = ("score_{}", "{}_score", "{}_rating", "{}-rating", "{}_reward", "{}_avg_rating", "rating_{}", "reward_{}")
SCORES = tuple((pattern.format("chosen"), pattern.format("rejected")) for pattern in PATTERNS)


def sides_of(row: Row) -> tuple[str, str] | None:
    """Names of the fields of the chosen and the rejected response, if the row has them."""
    return next((names for names in SIDES if all(row.get(name) is not None for name in names)), None)


def prompt_field(row: Row) -> str | None:
    """Name of the field of the prompt, if the row has one."""
    return next((name for name in PROMPTS if row.get(name) is not None), None)


def read_pair(row: Row, where: str, *, prompt: str | None = None) -> Comparison:
    """A prompt with two responses: texts, messages, or whole conversations that repeat the prompt."""
    chosen, rejected = sides_of(row) or SIDES[0]
    name = prompt or prompt_field(row) or PROMPTS[0]
    return compare(prompt_in(row, name), (row, chosen), (row, rejected), where, row)


def prompt_in(row: Row, name: str) -> tuple[Message, ...]:
    """The prompt in a field, with LLaMA-Factory's `input` behind an `instruction`, the history and the system."""
    found = prompt_of(field(row, name), name)
    if name == "instruction" and isinstance(row.get("input"), str) and row["input"].strip():
        found = ({"role": "user", "content": f"{text_of(row[name], name)}\n{row['input']}"},)
    if row.get("history") and name in ("instruction", "query", "prompt"):
        found = history_of(row["history"], "history") + found
    return with_system(found, row)


def read_transcripts(row: Row, where: str) -> Comparison:
    """Whole conversations that agree up to their last turn, as messages or as hh-rlhf's text."""
    chosen, rejected = sides_of(row) or SIDES[0]
    read = {name: _conversation(field(row, name), name) for name in (chosen, rejected)}
    return compare((), (read, chosen), (read, rejected), where, row)


def _conversation(value: Any, name: str) -> list[Message]:
    return list(spoken(value, name) if isinstance(value, str) else messages_of(value, name))


def read_swift(row: Row, where: str) -> Comparison:
    """ms-swift: `messages` end with the chosen answer; `rejected_response`, or the messages `rejected_messages`."""
    if "rejected_messages" in row and row["rejected_messages"] is not None:
        read = {n: list(messages_of(field(row, n), n)) for n in ("messages", "rejected_messages")}
        return compare((), (read, "messages"), (read, "rejected_messages"), where, row)
    if row.get("messages") is not None:
        whole = messages_of(row["messages"], "messages")
        answer_of(whole[-1:], "messages")
        chosen = {"messages": whole[-1]["content"]}
        return compare(with_system(whole[:-1], row), (chosen, "messages"), (row, "rejected_response"), where, row)
    return compare(prompt_in(row, "query"), (row, "response"), (row, "rejected_response"), where, row)


def compare(
    prompt: tuple[Message, ...], chosen: tuple[Row, str], rejected: tuple[Row, str], where: str, row: Row
) -> Comparison:
    """The comparison of two responses, each a field of a row, behind a prompt that they may repeat."""
    whole = []
    for holder, name in (chosen, rejected):
        replies = reply_of(field(holder, name), name)
        goes_on = replies[0]["role"] == "assistant"
        whole.append((*prompt, *replies) if goes_on else with_system(replies, row))
        answer_of(replies[-1:], name)
    if whole[0][:-1] != whole[1][:-1]:
        raise Unusable(f"{chosen[1]} and {rejected[1]} do not agree up to their last message")
    if len(whole[0]) < 2:
        raise Unusable(f"no prompt before the last message of {chosen[1]} and {rejected[1]}")
    if whole[0] == whole[1]:
        raise Unusable(f"{chosen[1]} and {rejected[1]} are the same")
    return Comparison(whole[0][:-1], (whole[0][-1]["content"], whole[1][-1]["content"]), where, scores=_scores(row))


def _scores(row: Row) -> tuple[float, ...]:
    for names in SCORES:
        if all(type(row.get(name)) in (int, float) for name in names):
            return tuple(number_of(row[name], name) for name in names)
    return ()
