"""Tokens of a comparison, without blurring the boundary between prompt and response.

Prompt and response are rendered by the chat template (plain text if the model has none); a response is what the
template writes behind the prompt, up to and with the token that ends the turn. No token spans the boundary, and prompt
ids are a prefix of the whole. A complete response ends with exactly one such token, which counts in its length and
its log-prob; a truncated one has none. What a template writes behind the end of the turn is not trained on.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from derivations.cli.errors import InputError
from llm.data.chat import Ending, answered, any_of, control_tokens, ending, render, render_prompt, without_ends
from llm.data.files import Skipped
from llm.data.row_formats import Comparison, Message, Unusable
from llm.scoring.packing import Example

MAX_CHARACTERS = 1_000_000  # of one text: hundreds of thousands of tokens, and seconds in a tokenizer


@dataclass(frozen=True)
class Group:
    """One comparison as tokens: the responses to one prompt, best first."""

    examples: tuple[Example, ...]
    where: str

    def __len__(self) -> int:
        """Tokens, the prompt counted once."""
        return len(self.examples[0].prompt) + sum(len(e.response) for e in self.examples)


def encode_prompt(messages: Sequence[Message], tokenizer: Any) -> tuple[int, ...]:
    """Prompt ids up to the point where the response begins. Raises Unusable if the chat template refuses it."""
    if tokenizer.chat_template:
        return _ids(render_prompt(messages, tokenizer), tokenizer)
    ids = tokenizer("\n".join(m["content"] for m in messages)).input_ids
    return tuple(ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids)


class Turn:
    """The turn in which the assistant answers one prompt.

    control: pattern of its control tokens, if it is known already. Raises Unusable if the chat template refuses the
    messages or writes no answer behind them.
    """

    def __init__(self, messages: Sequence[Message], tokenizer: Any, *, control: re.Pattern[str] | None = None) -> None:
        self.messages, self.tokenizer = messages, tokenizer
        self.start: str | None = None  # text of the prompt as the template writes it
        self.ending = Ending("", "", tokenizer.eos_token_id)
        if tokenizer.chat_template:
            self.start = render_prompt(messages, tokenizer)
            self.ending = ending(messages, tokenizer, control or control_tokens(tokenizer))
        self.prompt = encode_prompt(messages, tokenizer) if self.start is None else _ids(self.start, tokenizer)
        self.ends = {tokenizer.eos_token_id, self.ending.token}

    def respond(self, text: str, *, room: int) -> tuple[tuple[int, ...], bool]:
        """Ids of a response, at most `room`, and whether it is complete (its last id ends the turn).

        An end that the text spells out at its end is that end. Raises Unusable for one with text behind it, and for a
        response that the template does not write as it is, behind the prompt as it is.
        """
        text = without_ends(text, any_of([self.tokenizer.decode([i]) for i in self.ends]))
        if not text.strip():
            raise Unusable("empty response")
        ids = list(_ids(text, self.tokenizer) if self.start is None else self._written(text, self.start))
        if not self.ending.terminator:
            ids.append(self.ending.token)
        if ids[-1] != self.ending.token or self.ends & set(ids[:-1]):
            raise Unusable("the model's chat template does not end the response with one end of its turn")
        return tuple(ids[:room]), len(ids) <= room

    def _written(self, text: str, start: str) -> tuple[int, ...]:
        """Ids of what the template writes behind the prompt, to the end of the turn."""
        whole = render(answered(self.messages, text), self.tokenizer, what="answered prompt")
        if not whole.startswith(start) or not whole.endswith(self.ending.text):
            raise Unusable(
                "the model's chat template writes the prompt in another way once an answer follows it (it adds or "
                "strips thinking, for example), so what to train on is not defined; mend chat_template.jinja"
            )
        body = whole[len(start) : len(whole) - len(self.ending.text)]
        if "".join(text.split()) not in "".join(body.split()):
            raise Unusable("the model's chat template changes the response or leaves out a part of it")
        return _ids_behind(start, self.prompt, body + self.ending.terminator, self.tokenizer)


def _ids(text: str, tokenizer: Any) -> tuple[int, ...]:
    """Ids of a text that holds its own control tokens."""
    return tuple(tokenizer(text, add_special_tokens=False).input_ids)


def _ids_behind(start: str, prompt: tuple[int, ...], rest: str, tokenizer: Any) -> tuple[int, ...]:
    """Ids of the rest of a text whose start has the ids `prompt`.

    Those of the whole text where they begin with the prompt's. Where a token would span the boundary, the rest has ids
    of its own, behind a newline if that stays apart: at the head of a text some tokenizers put a blank.
    """
    for known, ids in ((start, prompt), ("\n", _ids("\n", tokenizer))):
        whole = _ids(known + rest, tokenizer)
        if whole[: len(ids)] == ids:
            return whole[len(ids) :]
    return _ids(rest, tokenizer)


def encode(
    comparisons: Sequence[Comparison],
    tokenizer: Any,
    *,
    max_length: int,
    pairs_only: bool = True,
    top: int | None = None,
) -> tuple[list[Group], Skipped]:
    """Tokenized comparisons, and (where, reason) of every one left out. Raises InputError if none remains.

    pairs_only: refuse rankings of more than two responses. top: places of a ranking the objective uses.
    """
    control = control_tokens(tokenizer)
    kept: list[Group] = []
    skipped: Skipped = []
    for comparison in comparisons:
        if pairs_only and len(comparison.responses) != 2:
            raise InputError(
                f"{comparison.where}: a ranking of {len(comparison.responses)} responses, but the objective takes "
                "pairs; name a -pl objective"
            )
        try:
            kept.append(_encode(comparison, tokenizer, control, max_length, top))
        except Unusable as reason:
            skipped.append((comparison.where, str(reason)))
    if not kept:
        first = f"; first: {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise InputError(f"no usable comparison among {len(comparisons)}{first}")
    return kept, skipped


def _encode(
    comparison: Comparison, tokenizer: Any, control: re.Pattern[str], max_length: int, top: int | None
) -> Group:
    longest = max(map(len, _texts(comparison)))
    if longest > MAX_CHARACTERS:
        raise Unusable(f"a text of {longest:,} characters; at most {MAX_CHARACTERS:,} are tokenized")
    if any("\ud800" <= c <= "\udfff" for text in _texts(comparison) for c in text):
        raise Unusable("a lone surrogate, which is no character")
    if not all(text.strip() for text in comparison.responses):
        raise Unusable("empty response")
    if top is not None and top >= len(comparison.responses):
        raise Unusable(f"a ranking of {len(comparison.responses)} has no top {top}")
    turn = Turn(comparison.prompt, tokenizer, control=control)
    prompt = turn.prompt
    if not prompt:
        raise Unusable("empty prompt")
    if len(prompt) > max_length // 2:  # a response cut to a few tokens is noise, and length-normalized noise is loud
        raise Unusable(f"the prompt has {len(prompt)} tokens and leaves no room: at most half of {max_length} is its")
    room = max_length - len(prompt)
    examples = tuple(Example(prompt, *turn.respond(text, room=room)) for text in comparison.responses)
    if len({e.response for e in examples}) < len(examples):
        cut = "" if all(e.complete for e in examples) else " after truncation"
        names = "chosen and rejected" if len(examples) == 2 else "two responses"
        raise Unusable(f"{names} are the same{cut}")
    return Group(examples, comparison.where)


def _texts(comparison: Comparison) -> list[str]:
    return [m["content"] for m in comparison.prompt] + list(comparison.responses)
