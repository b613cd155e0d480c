"""Gold rewards: what is wanted of a response, as named functions that compose. Nothing here needs torch.

Sentiment alone is blind to gibberish and to leaving the topic, so the default gold is sentiment where the
topic is mentioned. Gold is logged and ranks comparisons; training sees only the proxy (`llm.online.proxy`).
"""

import importlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from derivations.cli.errors import InputError, suggest

SINGULARS = ((r"ies$", "y"), (r"ves$", "f"), (r"(?<=[ox])es$", ""), (r"(?<!s)s$", ""))

_ANALYZER = SentimentIntensityAnalyzer()


@dataclass(frozen=True)
class Written:
    """What a gold reward may look at. length: tokens, EOS included. logq_per_token: of the reference, nats."""

    text: str
    topic: str
    length: int
    logq_per_token: float


Gold = Callable[[Written], float]


def sentiment(text: str) -> float:
    """VADER's compound sentiment in [-1, 1] (Hutto and Gilbert 2014)."""
    return float(_ANALYZER.polarity_scores(text)["compound"])


def on_topic(text: str, topic: str) -> bool:
    """Whether the text mentions the topic as a word, in the singular or plural, ignoring case."""
    forms = {topic, *(re.sub(ending, singular, topic) for ending, singular in SINGULARS)}
    return re.search(rf"\b({'|'.join(map(re.escape, forms))})(s|es)?\b", text, re.IGNORECASE) is not None


def on_topic_sentiment(text: str, topic: str) -> float:
    """Sentiment in [-1, 1] where the topic is mentioned, else 0."""
    return sentiment(text) if on_topic(text, topic) else 0.0


GOLDS: dict[str, Gold] = {
    "sentiment": lambda w: sentiment(w.text),
    "on-topic": lambda w: float(on_topic(w.text, w.topic)),
    "on-topic-sentiment": lambda w: on_topic_sentiment(w.text, w.topic),
    "fluency": lambda w: w.logq_per_token,
    "length": lambda w: float(w.length),
}


def parse_gold(text: str) -> Gold:
    """A gold reward from its command-line form: a sum of products of names, numbers and module:function.

    A function takes (text, topic) and returns a number. A plus sign belongs to a number only after its exponent.
    Raises InputError, with the mend, for an unknown name or a function that cannot be imported; so does the
    reward itself, where a function returns no finite number.

    >>> parse_gold("on-topic+-0.01*length")(Written("Rivers run.", "rivers", 4, -2.0))
    0.96
    """
    products = [[_factor(part.strip()) for part in term.split("*")] for term in re.split(r"(?<!\de)\+", text)]
    return lambda written: math.fsum(math.prod(factor(written) for factor in product) for product in products)


def _factor(text: str) -> Gold:
    if text in GOLDS:
        return GOLDS[text]
    if ":" in text:
        return _imported(text)
    try:
        number = float(text)
    except ValueError:
        known = [*GOLDS, "module:function"]
        raise InputError(f"--gold: unknown reward {text!r}{suggest(text, known)}") from None
    if not math.isfinite(number):
        raise InputError(f"--gold: {text!r} is no finite number")
    return lambda _: number


def _imported(text: str) -> Gold:
    """The user's function behind a check of what it returns."""
    module, _, name = text.partition(":")
    try:
        function: Callable[[str, str], Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:  # ValueError: an empty module name
        raise InputError(f"--gold {text}: {error}; expected module:function, importable from here") from None
    if not callable(function):
        raise InputError(f"--gold: {text!r} cannot be called; expected a function of (text, topic)")

    def reward(written: Written) -> float:
        value = function(written.text, written.topic)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(f"--gold {text} returned {value!r} for {written.text!r:.60}; expected a finite number")
        return float(value)

    return reward
