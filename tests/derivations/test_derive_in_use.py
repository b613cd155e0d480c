"""A derived formula where a named regularizer is expected: options of the bandit and of the language model."""

import json
import re

import numpy as np
import pytest

from derivations.cli.errors import InputError
from derivations.cli.files import to_json
from derivations.names import parse_regularizer
from llm.settings.online import OnlineConfig
from toybandit.experiment import run
from toybandit.settings import Settings


def test_a_formula_on_the_command_line_is_the_named_regularizer_it_spells():
    rng = np.random.default_rng(0)
    logp, ref_logp = -rng.uniform(1, 9, (2, 5, 4))
    for text, coefficient, named in (
        ("beta*p*log(p/q)", 0.3, "kl"),
        ("3/10*p*log(p)", None, "entropy=0.3"),
        ("beta/length*(p*log(p) - p)", 0.3, "length-normalized"),
    ):
        ours = parse_regularizer(text, coefficient)
        theirs = parse_regularizer(named, coefficient)
        given = {"length": np.array([1.0, 2.0, 3.0, 4.0]), "ref_logp": ref_logp}
        # 1e-14: a few roundings of float64 at values of order 1
        np.testing.assert_allclose(
            ours.implicit_reward(logp, **given), theirs.implicit_reward(logp, **given), rtol=1e-14, atol=1e-14
        )


@pytest.mark.parametrize(
    ("text", "coefficient", "message"),
    [
        ("beta*q*(p/q - 1)**2/2", 0.5, "it does not hold that the slope of phi at 0 is -oo"),
        ("beta*p*log(p/q)", None, "leaves beta open: pass --coefficient"),
        ("p*log(p/q)/2", 0.5, "takes no coefficient; leave --coefficient 0.5 out"),
        ("beta*p*log(p/q) + alpha*p*log(p)", 0.5, "leaves alpha and beta open; write numbers"),
        ("beta*p*log(p/q)", -1.0, "coefficient is -1.0"),
        ("beta*p*lgo(p/q)", 0.5, "did you mean 'log'?"),
    ],
)
def test_a_formula_that_cannot_be_used_is_refused_in_one_line(text, coefficient, message):
    with pytest.raises((InputError, ValueError), match=re.escape(message)) as refused:
        parse_regularizer(text, coefficient)
    assert "\n" not in str(refused.value)


def test_the_bandit_and_the_language_model_s_options_take_a_formula():
    small = {"coefficient": 0.5, "seeds": 3, "steps": 40, "dtype": "float64"}
    by_formula, by_name = (run(Settings(regularizer=text, **small)).summary for text in ("beta*p*log(p/q)", "kl"))
    for name, value in by_name.items():
        assert by_formula[name].mean == pytest.approx(value.mean, rel=1e-9, abs=1e-9)  # 40 steps of float64
    assert abs(by_name["proxy_gain"].mean) > 0.1
    config = OnlineConfig(regularizer="beta*p*log(p/q)", coefficient=0.05)
    saved = json.loads(to_json({"regularizer_resolved": config.make_regularizer()}))
    assert saved["regularizer_resolved"]["parameters"] == {"beta": 0.05}
