"""Texts and chat messages as data sets write them: plain, {"role", "content"}, {"from", "value"}, content in parts,
hh-rlhf's "\\n\\nHuman: ... \\n\\nAssistant: ...", HelpSteer's <extra_id_1>. Whatever is no text is refused by name."""

import re
from typing import Any

from llm.data.row_formats.rows import Message, Row, Unusable, shown

ROLES = {
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "chatgpt": "assistant", "bot": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip
TOOL_ROLES = ("tool", "function", "observation", "function_call", "function_response", "ipython", "tool_call")
ANSWER_FIELDS = ("content", "value", "text", "answer", "response", "completion", "output")
_TURN = re.compile(r"(?:\A|\n\n)\s*(Human|Assistant):")
_EXTRA = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")
_SPOKEN = {"Human": "user", "User": "user", "Assistant": "assistant"}


def field(row: Row, name: str) -> Any:
    """A field's value. Raises Unusable if it is missing or holds nothing."""
    if not isinstance(row, dict) or name not in row:
        raise Unusable(f"field {name!r} is missing")
    if row[name] is None:
        raise Unusable(f"field {name!r} is null")
    return row[name]


def text_of(value: Any, name: str) -> str:
    """A text, or the texts of content in parts. Raises Unusable for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and value and all(_is_part(part) for part in value):
        return "".join(_part(part, name) for part in value)
    if value is None:
        raise Unusable(f"field {name!r}: a content that is null")
    raise Unusable(f"field {name!r}: expected text; got {shown(value)}")


def _is_part(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and "role" not in value and "from" not in value)


def _part(part: Any, name: str) -> str:
    if isinstance(part, str):
        return part
    text = part.get("text")
    if part.get("type", "text") in ("text", "output_text", "input_text") and isinstance(text, str):
        return text
    raise Unusable(f"field {name!r}: a part of a content that is no text; got {shown(part)}")


def message_of(value: Any, name: str) -> Message:
    """One message, as {"role", "content"} or ShareGPT's {"from", "value"}. Raises Unusable, also for tools."""
    if not isinstance(value, dict):
        raise Unusable(f"field {name!r}: expected a message with a role and a content; got {shown(value)}")
    role, content = _first(value, "role", "from"), _first(value, "content", "value", "text")
    if isinstance(role, str) and role in TOOL_ROLES:
        raise Unusable(f"a message of the role {role!r}: tools are not trained on")
    if value.get("tool_calls") or value.get("function_call"):
        raise Unusable("a tool call: tools are not trained on")
    if not isinstance(role, str) or role not in ROLES:
        raise Unusable(f"field {name!r}: expected a message with a role ({', '.join(ROLES)}); got {shown(value)}")
    return {"role": ROLES[role], "content": text_of(content, name)}


def _first(value: Row, *names: str) -> Any:
    """The first of the fields that holds something; a table of both styles holds nulls for the other."""
    return next((value[name] for name in names if value.get(name) is not None), None)


def messages_of(value: Any, name: str) -> tuple[Message, ...]:
    """A list of messages, or of {"human", "assistant"} rounds. Raises Unusable for anything else."""
    if not isinstance(value, list | tuple) or not value:
        raise Unusable(f"field {name!r}: expected a list of messages; got {shown(value)}")
    if all(isinstance(item, dict) and "human" in item for item in value):
        rounds = [(item["human"], item.get("assistant")) for item in value]
        return history_of(rounds[:-1], name) + _round(*rounds[-1], name)
    return tuple(message_of(item, name) for item in value)


def history_of(value: Any, name: str) -> tuple[Message, ...]:
    """Earlier rounds as [question, answer] pairs."""
    if not isinstance(value, list | tuple) or not all(isinstance(r, list | tuple) and len(r) == 2 for r in value):
        raise Unusable(f"field {name!r}: expected a list of [question, answer]; got {shown(value)}")
    return tuple(m for question, answer in value for m in _round(question, answer, name))


def _round(question: Any, answer: Any, name: str) -> tuple[Message, ...]:
    asked: Message = {"role": "user", "content": text_of(question, name)}
    return (asked,) if answer is None else (asked, {"role": "assistant", "content": text_of(answer, name)})


def is_conversation(value: Any) -> bool:
    """Whether it is a list of messages, rather than a text or content in parts."""
    return isinstance(value, list | tuple) and any(
        isinstance(item, dict) and ("role" in item or "from" in item or "human" in item) for item in value
    )


def spoken(text: str, name: str) -> tuple[Message, ...]:
    """Turns of hh-rlhf's transcripts; an empty last one is left out. Raises Unusable if it has none."""
    first, *rest = _TURN.split(text)
    if first.strip() or not rest:
        raise Unusable(f"field {name!r}: no prompt field, and the text has no turns 'Human:' and 'Assistant:'")
    return _turns(rest)


def _turns(parts: list[str]) -> tuple[Message, ...]:
    turns = [{"role": _SPOKEN[who], "content": text.strip()} for who, text in zip(parts[::2], parts[1::2], strict=True)]
    return tuple(turns[:-1] if turns and not turns[-1]["content"] else turns)


def prompt_of(value: Any, name: str) -> tuple[Message, ...]:
    """A prompt: text, a transcript that waits for its answer, messages, or an object with messages in it."""
    if isinstance(value, dict):
        value = value.get("messages", value.get("full_text", value))
    if isinstance(value, list | tuple) and not (value and all(isinstance(v, dict) and "type" in v for v in value)):
        return messages_of(value, name)
    text = text_of(value, name)
    if text.lstrip().startswith("Human:") and text.rstrip().endswith("Assistant:"):
        return spoken(text, name)
    if "<extra_id_1>" in text:
        first, *rest = _EXTRA.split(text)
        return _turns(["User", first, *rest])
    return ({"role": "user", "content": text},)


def reply_of(value: Any, name: str) -> tuple[Message, ...]:
    """A response: text, one message, or several messages; text in one of the usual fields of an object."""
    if isinstance(value, dict):
        if "role" in value or "from" in value:
            return (message_of(value, name),)
        found = _first(value, *ANSWER_FIELDS)
        if isinstance(found, str):
            return ({"role": "assistant", "content": found},)
        raise Unusable(f"field {name!r}: expected a response; got {shown(value)}")
    if is_conversation(value):
        return messages_of(value, name)
    if value is None:
        raise Unusable(f"field {name!r} is null")
    if isinstance(value, list | tuple) and not all(isinstance(part, dict) for part in value):
        raise Unusable(f"field {name!r}: expected one response; got {shown(value)}")
    return ({"role": "assistant", "content": text_of(value, name)},)


def response_of(value: Any, name: str) -> str:
    """The text of a response of one message of the assistant."""
    replies = reply_of(value, name)
    return answer_of(replies[-1:] if len(replies) == 1 else replies, name)


def answer_of(replies: tuple[Message, ...], name: str) -> str:
    """The text of the one message of the assistant that these are."""
    if replies and replies[-1]["role"] != "assistant":
        raise Unusable(f"field {name!r} ends with a message of the {replies[-1]['role']}, not with an answer")
    if len(replies) != 1:
        raise Unusable(f"field {name!r}: expected exactly one assistant message; got {len(replies)}")
    return replies[0]["content"]


def with_system(prompt: tuple[Message, ...], row: Row) -> tuple[Message, ...]:
    """The prompt behind the row's system prompt, if the row has one and the prompt has none."""
    for name in ("system", "system_prompt"):
        text = row.get(name)
        if isinstance(text, str) and text.strip() and not (prompt and prompt[0]["role"] == "system"):
            return ({"role": "system", "content": text}, *prompt)
    return prompt


def number_of(value: Any, name: str) -> float:
    """A finite number, which may be written as text. Raises Unusable for anything else."""
    try:
        found = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        found = None
    if found is None or not abs(found) < float("inf"):
        raise Unusable(f"field {name!r}: expected a number; got {shown(value)}")
    return found
