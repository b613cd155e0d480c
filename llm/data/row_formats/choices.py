"""Formats with two responses and a word that names the better one, or votes for each."""

import json
from typing import Any

from llm.data.row_formats.messages import field, text_of
from llm.data.row_formats.pairs import compare, prompt_field, prompt_in
from llm.data.row_formats.rows import Comparison, Message, Row, Unusable, shown
from llm.data.row_formats.verdicts import TIED

STEMS = ("response", "answer", "completion", "output", "model_output", "generation", "summary")
ENDS = (("_a", "_b"), ("_A", "_B"), ("_1", "_2"), ("1", "2"), ("_0", "_1"))
CHOICES = ("preference", "preferred", "choice", "better", "winner", "preferred_response", "better_response", "label")
TIES = ("tie", "both", "neither", "none", "equal", "same", "draw")


def sides_named(row: Row) -> tuple[str, str] | None:
    """Names of two fields `response_a` and `response_b` or the like, if the row has them."""
    names = ((stem + first, stem + second) for stem in STEMS for first, second in ENDS)
    return next((pair for pair in names if all(row.get(name) is not None for name in pair)), None)


def chosen_by(row: Row) -> str | None:
    """Name of the field that names the better side, if the row has one."""
    return next((n for n in CHOICES if isinstance(row.get(n), str) or _alpaca_farm(row, n)), None)


def _alpaca_farm(row: Row, name: str) -> bool:
    """AlpacaFarm counts from 1; where others write a number, 1 may as well be the second."""
    return name == "preference" and "output_1" in row and row.get(name) in (1, 2)


def is_choice(row: Row) -> bool:
    """Whether a row has two sides, a word that names one, and a prompt."""
    return sides_named(row) is not None and chosen_by(row) is not None and prompt_field(row) is not None


def read_choice(row: Row, where: str) -> Comparison:
    """A prompt, two responses, and which is better: by the name of its field, or the letter or number at its end."""
    sides, name = sides_named(row) or ("response_a", "response_b"), chosen_by(row) or CHOICES[0]
    better = named_side(field(row, name), sides, name)
    other = sides[1] if better == sides[0] else sides[0]
    asked = prompt_field({k: v for k, v in row.items() if k not in sides}) or "prompt"
    return compare(prompt_in(row, asked), (row, better), (row, other), where, {"system": row.get("system")})


def named_side(value: Any, sides: tuple[str, str], name: str) -> str:
    """The side that a value names. Raises Unusable for a tie and for what names neither."""
    word = str(value).strip().lower().replace(" ", "_")
    if word.startswith(TIES):
        raise Unusable(TIED)
    for side in sides:
        end = side[-1].lower()
        if word in (side.lower(), end, f"model_{end}", f"response_{end}", f"assistant_{end}", f"[[{end}]]"):
            return side
    raise Unusable(f"field {name!r}: expected {sides[0]} or {sides[1]}; got {shown(value)}")


def read_votes(row: Row, where: str) -> Comparison:
    """LMSYS's tables: texts of all turns as JSON lists, and winner_model_a, winner_model_b or winner_tie is 1."""
    votes = [str(row.get(f"winner_{name}")).lower() in ("1", "1.0", "true") for name in ("model_a", "model_b", "tie")]
    if sum(votes) != 1:
        raise Unusable("fields 'winner_model_a', 'winner_model_b', 'winner_tie': expected a 1 in one of them")
    if votes[2]:
        raise Unusable(TIED)
    asked = _texts(field(row, "prompt"), "prompt")
    read = {name: _turns(asked, _texts(field(row, name), name), name) for name in ("response_a", "response_b")}
    best, other = ("response_a", "response_b") if votes[0] else ("response_b", "response_a")
    return compare((), (read, best), (read, other), where, {})


def _texts(value: Any, name: str) -> list[Any]:
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):  # a text that begins with a bracket
            return [value]
    return list(value) if isinstance(value, list | tuple) else [value]


def _turns(asked: list[Any], answers: list[Any], name: str) -> list[Message]:
    if len(asked) != len(answers) or not asked:
        raise Unusable(f"fields 'prompt' and {name!r}: expected as many answers as questions")
    turns: list[Message] = []
    for question, answer in zip(asked, answers, strict=True):
        turns.append({"role": "user", "content": text_of(question, "prompt")})
        turns.append({"role": "assistant", "content": text_of(answer, name)})
    return turns
