"""Formats of services and of collections whose rows are built like no others: Vertex AI, Open Assistant's trees."""

from typing import Any

from llm.data.row_formats.messages import ROLES, field, number_of, text_of
from llm.data.row_formats.rankings import items_of, order_by
from llm.data.row_formats.rows import Comparison, Message, Row, Unusable, shown


def read_vertex(row: Row, where: str) -> Comparison:
    """Vertex AI: `contents` of {role, parts}, `completions` of {score, completion}, the highest score is best."""
    contents = field(row, "contents")
    if not isinstance(contents, list | tuple) or not contents:
        raise Unusable(f"field 'contents': expected a list of turns; got {shown(contents)}")
    prompt = tuple(_turn(content, "contents") for content in contents)
    system = row.get("systemInstruction") or row.get("system_instruction")
    if system:
        prompt = ({"role": "system", "content": _parts(system, "systemInstruction")}, *prompt)
    found = items_of(row, "completions")
    texts = [_parts(field(item, "completion"), "completions") for item in found]
    return order_by(prompt, texts, [-number_of(field(item, "score"), "score") for item in found], where, scored=True)


def _turn(content: Any, name: str) -> Message:
    role = content.get("role", "user") if isinstance(content, dict) else None
    if not isinstance(role, str) or role not in ROLES:
        raise Unusable(f"field {name!r}: expected a turn with a role and parts; got {shown(content)}")
    return {"role": ROLES[role], "content": _parts(content, name)}


def _parts(content: Any, name: str) -> str:
    return text_of(content.get("parts") if isinstance(content, dict) else content, name)


def is_tree(row: Row) -> bool:
    """Whether a row is a tree of Open Assistant: a prompt with replies."""
    return isinstance(row.get("prompt"), dict) and "replies" in row["prompt"]


def read_tree(row: Row, where: str) -> Comparison:
    """A tree of Open Assistant: the ranked replies to its first prompt; rank 0 is best. What follows them is unused."""
    root = field(row, "prompt")
    replies = root.get("replies") if isinstance(root, dict) else None
    ranked = [r for r in replies or () if isinstance(r, dict) and r.get("rank") is not None and not r.get("deleted")]
    if len(ranked) < 2:
        raise Unusable("a tree with fewer than two ranked replies to its first prompt")
    prompt: Message = {"role": "user", "content": text_of(field(root, "text"), "prompt")}
    texts = [text_of(field(reply, "text"), "replies") for reply in ranked]
    return order_by((prompt,), texts, [number_of(reply["rank"], "rank") for reply in ranked], where)
