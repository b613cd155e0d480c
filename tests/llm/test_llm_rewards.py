"""Gold rewards by rule, and their composition."""

import re
import subprocess
import sys

import pytest

from derivations.cli.errors import InputError
from llm.sampling.gold import Written, on_topic, on_topic_sentiment, parse_gold, sentiment
from llm.settings.online import OnlineConfig


def test_sentiment_is_gold_only_where_the_topic_is_mentioned():
    text = "Bees are wonderful, and I love them!"
    assert sentiment(text) > 0.5
    assert sentiment("Bees are horrible, and I hate them!") < -0.5
    assert on_topic_sentiment(text, "bees") == sentiment(text)
    assert on_topic_sentiment(text, "trains") == 0.0


@pytest.mark.parametrize(
    ("text", "topic", "expected"),
    [
        ("A RIVER runs.", "rivers", True),
        ("Rivers run.", "rivers", True),
        ("rain", "rain", True),
        ("Our potatoes boil.", "potatos", True),
        ("Training is hard.", "rain", False),  # inside another word
        ("The catalogue is long.", "cats", False),
        ("", "cats", False),
        ("It costs 3.5.", "3.5", True),
        ("It costs 395.", "3.5", False),  # the topic is text, not a pattern
    ],
)
def test_a_topic_is_mentioned_as_a_word_in_singular_or_plural(text, topic, expected):
    assert on_topic(text, topic) is expected


RIVERS = Written("Rivers are wonderful and I love them.", "rivers", length=9, logq_per_token=-1.5)
ELSEWHERE = Written("Bread is wonderful and I love it.", "rivers", length=8, logq_per_token=-2.5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sentiment", lambda w: sentiment(w.text)),
        ("on-topic", lambda w: float(on_topic(w.text, w.topic))),
        ("on-topic-sentiment", lambda w: on_topic_sentiment(w.text, w.topic)),
        ("sentiment*on-topic", lambda w: on_topic_sentiment(w.text, w.topic)),
        ("fluency", lambda w: w.logq_per_token),
        ("length", lambda w: w.length),
        ("2*fluency+-0.5*length", lambda w: 2 * w.logq_per_token - 0.5 * w.length),
        ("on-topic + 1e+2*length * fluency", lambda w: on_topic(w.text, w.topic) + 100 * w.length * w.logq_per_token),
        ("tests.helpers.llm_golds:about*on-topic", lambda w: len(w.topic) * on_topic(w.text, w.topic)),
    ],
)
def test_gold_is_the_sum_of_products_that_its_name_says(name, expected):
    gold = parse_gold(name)
    for written in (RIVERS, ELSEWHERE):
        assert gold(written) == pytest.approx(expected(written), rel=1e-12)
    assert gold(RIVERS) != gold(ELSEWHERE) or name == "sentiment"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sentimant", "unknown reward 'sentimant'; did you mean 'sentiment'"),
        ("", "unknown reward ''"),
        ("sentiment*", "unknown reward ''"),
        ("nan*sentiment", "'nan' is no finite number"),
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("tests.helpers.llm_golds:missing", "has no attribute 'missing'"),
        ("tests.helpers.llm_golds:letters:x", "has no attribute 'letters:x'"),
        ("math:pi", "'math:pi' cannot be called"),
    ],
)
def test_a_gold_that_cannot_be_is_refused_when_the_settings_are_made(name, message):
    with pytest.raises(InputError, match=re.escape(message)):
        OnlineConfig(regularizer="none", gold=name)


def test_a_function_that_returns_no_number_is_named():
    with pytest.raises(InputError, match="llm_golds:nothing returned None for 'Rivers are"):
        parse_gold("tests.helpers.llm_golds:nothing")(RIVERS)


def test_rewards_load_without_torch():
    code = "import sys, llm.sampling.gold, llm.settings.online; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
