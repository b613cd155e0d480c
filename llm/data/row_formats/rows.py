"""What a row becomes: a comparison, or a single response with a judgement; and why a row cannot be used."""

import re
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}
Row = dict[str, Any]

MAX_CHARACTERS = 1_000_000  # of one text: hundreds of thousands of tokens, and seconds in a tokenizer
MOST_RESPONSES = 500  # to one prompt: each is compared with each
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Comparison:
    """One prompt with its responses as text, best first.

    where: the row's place in its file, for messages. places: rank of each response, equal for ties; empty if there
    are none. scores: of each response, higher is better, where the row has them.
    """

    prompt: tuple[Message, ...]
    responses: tuple[str, ...]
    where: str
    places: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()

    @property
    def tied(self) -> bool:
        """Whether some two responses have the same place."""
        return len(set(self.places)) < len(self.places)

    def decided(self) -> list[tuple[int, int]]:
        """Indices (better, worse) of every two responses of which one is better."""
        places = self.places or tuple(range(len(self.responses)))
        n = len(places)
        return [(i, j) for i in range(n) for j in range(i + 1, n) if places[i] < places[j]]

    def without_texts(self) -> "Comparison":
        """What has to be known of it beside its tokens."""
        return replace(self, prompt=(), responses=("",) * len(self.responses))


@dataclass(frozen=True)
class Judged:
    """One prompt with one response and its judgement.

    score: higher is better. verdict: the judgement is good (1) or bad (0), as KTO takes it, not a rating.
    """

    prompt: tuple[Message, ...]
    response: str
    where: str
    score: float
    verdict: bool


class Unusable(Exception):
    """This row cannot be trained on; the message says why. It is listed, counted and skipped."""


def shown(value: Any) -> str:
    """A value in an error message: short, however long or deep it is."""
    return reprlib.repr(value)[:60]


def require_texts(prompt: Iterable[Message], responses: Iterable[str]) -> None:
    """Refuse (Unusable) texts that cannot be tokenized or trained on, whatever the tokenizer."""
    responses = list(responses)
    if len(responses) > MOST_RESPONSES:
        raise Unusable(f"{len(responses):,} responses to one prompt; at most {MOST_RESPONSES} are compared")
    if not all(text.strip() for text in responses):
        raise Unusable("empty response")
    for text in [*(m["content"] for m in prompt), *responses]:
        if len(text) > MAX_CHARACTERS:
            raise Unusable(f"a text of {len(text):,} characters; at most {MAX_CHARACTERS:,} are tokenized")
        if not text.isascii() and _SURROGATE.search(text):
            raise Unusable("a lone surrogate, which is no character")


def kind_of(reason: str) -> str:
    """The reason without what differs from row to row (values, numbers), so that reasons can be counted."""
    return re.sub(r"\d[\d,.]*", "N", reason.split("; got ")[0])
