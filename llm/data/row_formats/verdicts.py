"""Formats with two responses and a verdict which of them is better."""

from collections.abc import Callable
from typing import Any

from llm.data.row_formats.messages import field, number_of, prompt_of, response_of
from llm.data.row_formats.pairs import compare, prompt_in
from llm.data.row_formats.rows import Comparison, Row, Unusable, shown

TIED = "the two responses are tied"


def by_sign(value: Any, name: str) -> int:
    """HelpSteer: negative for the first response, positive for the second."""
    strength = number_of(value, name)
    if strength == 0:
        raise Unusable(TIED)
    return int(strength > 0)


def by_index(value: Any, name: str) -> int:
    """PKU-SafeRLHF: 0 or 1, the better one."""
    if value not in (0, 1):
        raise Unusable(f"field {name!r}: expected 0 or 1; got {shown(value)}")
    return int(value)


def by_first(value: Any, name: str) -> int:
    """SHP: 1 if the first is preferred."""
    return 1 - by_index(value, name)


def by_winner(value: Any, name: str) -> int:
    """Chatbot Arena: model_a or model_b, or a tie."""
    if isinstance(value, str) and value.startswith(("tie", "both")):
        raise Unusable(TIED)
    word = value.strip().lower() if isinstance(value, str) else ""
    if word not in ("model_a", "model_b", "response_a", "response_b", "a", "b"):
        raise Unusable(f"field {name!r}: expected model_a, model_b or tie; got {shown(value)}")
    return int(word.endswith("b"))


def read_verdict(
    row: Row, where: str, *, prompt: str, sides: tuple[str, str], verdict: str, better: Callable[[Any, str], int]
) -> Comparison:
    """A prompt, two responses, and a verdict that `better` turns into the index of the better one."""
    chosen = sides[better(field(row, verdict), verdict)]
    rejected = sides[1] if chosen == sides[0] else sides[0]
    return compare(prompt_in(row, prompt), (row, chosen), (row, rejected), where, {"system": row.get("system")})


def read_arena(row: Row, where: str) -> Comparison:
    """Two whole conversations with one question, and the winner."""
    names = ("conversation_a", "conversation_b")
    chosen = names[by_winner(field(row, "winner"), "winner")]
    rejected = names[1] if chosen == names[0] else names[0]
    return compare((), (row, chosen), (row, rejected), where, {})


def read_webgpt(row: Row, where: str) -> Comparison:
    """WebGPT: a question, two answers, and a score of each."""
    scores = [number_of(field(row, f"score_{i}"), f"score_{i}") for i in (0, 1)]
    if scores[0] == scores[1]:
        raise Unusable(TIED)
    best = int(scores[1] > scores[0])
    answers = [response_of(field(row, f"answer_{i}"), f"answer_{i}") for i in (0, 1)]
    prompt = prompt_of(field(row, "question"), "question")
    order = (best, 1 - best)
    return Comparison(prompt, tuple(answers[i] for i in order), where, scores=tuple(scores[i] for i in order))


def read_summaries(row: Row, where: str) -> Comparison:
    """OpenAI's summaries: a post, two summaries, and the index of the better one."""
    info, found = field(row, "info"), field(row, "summaries")
    post = info.get("post") or info.get("article") if isinstance(info, dict) else None
    if not isinstance(post, str) or not isinstance(found, list | tuple) or len(found) != 2:
        raise Unusable("fields 'info' and 'summaries': expected a post and two summaries")
    best = by_index(field(row, "choice"), "choice")
    texts = [response_of(summary, "summaries") for summary in found]
    if texts[0] == texts[1]:
        raise Unusable("the two summaries are the same")
    return Comparison(({"role": "user", "content": post},), (texts[best], texts[1 - best]), where)
