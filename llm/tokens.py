"""Tokens of a comparison, without blurring the boundary between prompt and response.

A prompt is tokenized through the chat template (plain text if the model has none) and a response on
its own, so no token spans the two and prompt ids are a prefix of the whole. A complete response ends
with exactly one EOS, which counts in its length and its log-prob; a truncated one has none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from derivations.commands import InputError
from llm.checkpoints import first_line
from llm.data import Skipped
from llm.packing import Example
from llm.shapes import Comparison, Message, Unusable

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
    """Prompt ids up to the point where the response begins."""
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        return tuple(tokenizer(text, add_special_tokens=False).input_ids)
    ids = tokenizer("\n".join(m["content"] for m in messages)).input_ids
    return tuple(ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids)


def encode_response(text: str, tokenizer: Any, *, room: int) -> tuple[tuple[int, ...], bool]:
    """Response ids of at most `room` tokens, and whether it is complete (ends with its EOS).

    An EOS that the text spells out at its end is that EOS. Raises Unusable for one with text behind it.
    """
    eos = tokenizer.eos_token_id
    ids = list(tokenizer(text, add_special_tokens=False).input_ids)
    end = ids.index(eos) if eos in ids else len(ids)
    if tokenizer.decode([i for i in ids[end:] if i != eos]).strip():
        raise Unusable("a response goes on behind its end-of-sequence token")
    if not end:
        raise Unusable("empty response")
    ids = [*ids[:end], eos]
    return tuple(ids[:room]), len(ids) <= room


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
    kept: list[Group] = []
    skipped: Skipped = []
    for comparison in comparisons:
        if pairs_only and len(comparison.responses) != 2:
            raise InputError(
                f"{comparison.where}: a ranking of {len(comparison.responses)} responses, but the objective takes "
                "pairs; name a -pl objective"
            )
        try:
            kept.append(_encode(comparison, tokenizer, max_length, top))
        except Unusable as reason:
            skipped.append((comparison.where, str(reason)))
    if not kept:
        first = f"; first: {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise InputError(f"no usable comparison among {len(comparisons)}{first}")
    return kept, skipped


def _encode(comparison: Comparison, tokenizer: Any, max_length: int, top: int | None) -> Group:
    longest = max(map(len, _texts(comparison)))
    if longest > MAX_CHARACTERS:
        raise Unusable(f"a text of {longest:,} characters; at most {MAX_CHARACTERS:,} are tokenized")
    if any("\ud800" <= c <= "\udfff" for text in _texts(comparison) for c in text):
        raise Unusable("a lone surrogate, which is no character")
    if not all(text.strip() for text in comparison.responses):
        raise Unusable("empty response")
    if top is not None and top >= len(comparison.responses):
        raise Unusable(f"a ranking of {len(comparison.responses)} has no top {top}")
    prompt = _encode_prompt(comparison, tokenizer)
    if len(prompt) > max_length // 2:  # a response cut to a few tokens is noise, and length-normalized noise is loud
        raise Unusable(f"the prompt has {len(prompt)} tokens and leaves no room: at most half of {max_length} is its")
    room = max_length - len(prompt)
    examples = tuple(Example(prompt, *encode_response(t, tokenizer, room=room)) for t in comparison.responses)
    if len({e.response for e in examples}) < len(examples):
        cut = "" if all(e.complete for e in examples) else " after truncation"
        names = "chosen and rejected" if len(examples) == 2 else "two responses"
        raise Unusable(f"{names} are the same{cut}")
    return Group(examples, comparison.where)


def _texts(comparison: Comparison) -> list[str]:
    return [m["content"] for m in comparison.prompt] + list(comparison.responses)


def _encode_prompt(comparison: Comparison, tokenizer: Any) -> tuple[int, ...]:
    try:
        prompt = encode_prompt(comparison.prompt, tokenizer)
    except Exception as error:  # a template is a program: most refuse role orders, some just fail
        raise Unusable(f"the model's chat template refuses the prompt: {first_line(error)}") from error
    if not prompt:
        raise Unusable("empty prompt")
    return prompt
