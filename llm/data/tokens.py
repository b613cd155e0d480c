"""Tokens of a comparison, without blurring the boundary between prompt and response.

Prompt and response are rendered by the chat template (plain text if the model has none); a response is what the
template writes behind the prompt, up to and with the token that ends the turn. No token spans the boundary, and prompt
ids are a prefix of the whole. A complete response ends with exactly one such token, which counts in its length and
its log-prob; a truncated one has none. What a template writes behind the end of the turn is not trained on.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from derivations.cli.errors import InputError
from llm.data.chat import Ending, answered, any_of, control_tokens, ending, render, render_prompt, without_ends
from llm.data.files import Skipped
from llm.data.row_formats import Comparison, Message, Unusable
from llm.data.row_formats.rows import require_texts
from llm.scoring.packing import Example

MAX_IDS = 2**31


@dataclass(frozen=True)
class Group:
    """One comparison as tokens: the responses to one prompt, best first; or one response, and whether it is good."""

    examples: tuple[Example, ...]
    where: str
    good: bool | None = None

    def __len__(self) -> int:
        """Tokens, the prompt counted once."""
        return len(self.examples[0].prompt) + sum(len(e.response) for e in self.examples)


def tokens_of(groups: Iterable[Group]) -> int:
    """Tokens of all the groups."""
    return sum(len(group) for group in groups)


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


@dataclass(frozen=True)
class Whole:
    """One comparison as tokens before it is cut to a length: the ids of each response, and whether they are all of it
    (they are kept up to a limit). The comparison itself is without its texts."""

    comparison: Comparison
    prompt: tuple[int, ...]
    responses: tuple[tuple[tuple[int, ...], bool], ...]

    @property
    def need(self) -> int:
        """Tokens of the prompt and the longest response; at least one more than was kept where it was cut."""
        return len(self.prompt) + max(len(ids) + (not complete) for ids, complete in self.responses)


def encode(
    comparisons: Iterable[Comparison],
    tokenizer: Any,
    *,
    max_length: int,
    pairs_only: bool = True,
    top: int | None = None,
) -> tuple[list[Group], Skipped]:
    """Tokenized comparisons, and (where, reason) of every one left out. Raises InputError if none remains.

    pairs_only: of rankings, every two responses of which one is better; those with ties become such pairs in any case.
    top: places of a ranking the objective uses.
    """
    wholes, skipped = tokenize(comparisons, tokenizer, most=max_length)
    kept, unusable = fit(wholes, max_length=max_length, pairs_only=pairs_only, top=top)
    skipped = [*skipped, *unusable]
    require_any(kept, skipped, len(wholes) + len(skipped) - len(unusable))
    return list(kept), skipped


def require_any(kept: Sequence[Group], skipped: Skipped, n: int) -> None:
    """Refuse (InputError) data of which nothing of n comparisons remains, with the first reason."""
    if not kept:
        first = f"; first: {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise InputError(f"no usable comparison among {n}{first}")


def tokenize(
    comparisons: Iterable[Comparison], tokenizer: Any, *, most: int | None, keep: Callable[[], Any] = list
) -> tuple[Sequence[Whole], Skipped]:
    """Ids of comparisons, each sequence up to `most` tokens, and (where, reason) of every one that has none.

    keep: makes what they are kept in.
    """
    control = control_tokens(tokenizer)
    found, skipped = keep(), keep()
    for comparison in comparisons:
        try:
            found.append(_whole(comparison, tokenizer, control, most))
        except Unusable as reason:
            skipped.append((comparison.where, str(reason)))
    return found, skipped


def _whole(comparison: Comparison, tokenizer: Any, control: re.Pattern[str], most: int | None) -> Whole:
    require_texts(comparison.prompt, comparison.responses)
    turn = Turn(comparison.prompt, tokenizer, control=control)
    if not turn.prompt:
        raise Unusable("empty prompt")
    room = MAX_IDS if most is None else max(1, most - len(turn.prompt))
    responses = tuple(turn.respond(text, room=room) for text in comparison.responses)
    return Whole(comparison.without_texts(), turn.prompt, responses)


def fit(
    wholes: Iterable[Whole],
    *,
    max_length: int,
    pairs_only: bool = True,
    top: int | None = None,
    keep: Callable[[], Any] = list,
) -> tuple[Sequence[Group], Skipped]:
    """Comparisons cut to a length, and (where, reason) of every one left out; the options are those of `encode`.

    keep: makes what they are kept in.
    """
    kept, skipped = keep(), keep()
    for whole in wholes:
        try:
            for group in _groups(whole, max_length, pairs_only, top):
                kept.append(group)
        except Unusable as reason:
            skipped.append((whole.comparison.where, str(reason)))
    return kept, skipped


def _groups(whole: Whole, max_length: int, pairs_only: bool, top: int | None) -> list[Group]:
    comparison, prompt = whole.comparison, whole.prompt
    # A response cut to a few tokens is noise, and length-normalized noise is loud.
    if whole.need > max_length and len(prompt) > max_length // 2:
        raise Unusable(
            f"the prompt has {len(prompt)} tokens and leaves no room: more than half of --max-length {max_length}, and "
            "the responses do not fit whole behind it"
        )
    room = max_length - len(prompt)
    examples = tuple(Example(prompt, ids[:room], whole_ids and len(ids) <= room) for ids, whole_ids in whole.responses)
    if not pairs_only and top is not None and top >= len(examples):
        raise Unusable(f"a ranking of {len(examples)} has no top {top}")
    same = len({e.response for e in examples}) < len(examples)
    if len(examples) > 2 and (pairs_only or comparison.tied or same):
        pairs = [(i, j) for i, j in comparison.decided() if examples[i].response != examples[j].response]
        if not pairs:
            raise Unusable("all responses are the same")
        if top is not None and top > 1:
            raise Unusable(f"a ranking with ties or equal responses gives pairs, which have no top {top}")
        return [Group((examples[i], examples[j]), f"{comparison.where} ({i + 1} against {j + 1})") for i, j in pairs]
    if same:
        cut = "" if all(e.complete for e in examples) else " after truncation"
        raise Unusable(f"chosen and rejected are the same{cut}")
    return [Group(examples, comparison.where, comparison.scores[0] > 0 if len(examples) == 1 else None)]
