"""Sampling draws from the distribution that is scored, whatever the batch and the model's folder say."""

import pytest
import torch

from llm.packing import Example
from llm.sampling import _cut, sample

EOS, PAD = 256, 257


@pytest.mark.parametrize(
    ("ids", "kept", "complete"),
    [
        ((5, 6, EOS, PAD, PAD), (5, 6, EOS), True),
        ((EOS, 5, EOS), (EOS,), True),
        ((5, 6, EOS), (5, 6, EOS), True),
        ((5, EOS, EOS, EOS), (5, EOS), True),  # padded with EOS
        ((5, PAD, 6), (5, PAD, 6), False),  # a sampled padding token is a token
    ],
)
def test_a_response_ends_with_its_first_eos_kept_once(ids, kept, complete):
    assert _cut((1,), ids, EOS) == Example((1,), kept, complete)


def model_that_ends(tiny_model):
    """A model that says EOS with a probability of about one half, so responses have all lengths."""
    model = tiny_model(tied=False)
    with torch.no_grad():
        hidden = model.base_model(input_ids=torch.arange(200)[None]).last_hidden_state[0]
        model.lm_head.weight[EOS] = torch.linalg.lstsq(hidden, torch.full((200, 1), 8.0)).solution[:, 0]
    return model


def test_samples_are_cut_counted_and_ordered_by_prompt(tiny_model, tiny_tokenizer):
    prompts = [(1, 2, 3, 4, 5, 6), (9,), (7, 8)]
    drawn = sample(model_that_ends(tiny_model), tiny_tokenizer, prompts, k=20, max_new_tokens=6, seed=1)
    assert [e.prompt for e in drawn] == [p for p in prompts for _ in range(20)]
    for e in drawn:
        assert EOS not in e.response[:-1]
        assert e.complete == (e.response[-1] == EOS)
        assert len(e.response) == 6 or e.complete
    assert {e.complete for e in drawn} == {True, False}
    assert len({len(e.response) for e in drawn}) >= 3


def test_the_same_seed_gives_the_same_samples_and_the_global_generator_is_left_alone(tiny_model, tiny_tokenizer):
    model = tiny_model()
    settings = {"k": 3, "max_new_tokens": 5}
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first = sample(model, tiny_tokenizer, [(1, 2), (3,)], **settings, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(8)
    assert sample(model, tiny_tokenizer, [(1, 2), (3,)], **settings, seed=0) == first
    assert sample(model, tiny_tokenizer, [(1, 2), (3,)], **settings, seed=1) != first


def frequencies(drawn):
    counts = torch.zeros(258, dtype=torch.float64)
    for e in drawn:
        counts[e.response[0]] += 1
    return counts


def test_samples_follow_the_distribution_that_is_scored(tiny_model, tiny_tokenizer):
    """Two prompts of different length in one padded batch; frequencies against exact probabilities."""
    model, k = tiny_model(spread=0.3), 3000
    prompts = [(3, 1, 4, 1, 5, 9, 2, 6), (8,)]
    drawn = sample(model, tiny_tokenizer, prompts, k=k, max_new_tokens=1, seed=0)
    double = model.double()
    probabilities = []
    for n, prompt in enumerate(prompts):
        with torch.no_grad():
            p = double(input_ids=torch.tensor([prompt])).logits[0, -1].softmax(-1)
        error = (frequencies(drawn[n * k : (n + 1) * k]) - k * p).abs()
        assert (error < 5 * (k * p * (1 - p)).sqrt() + 5).all()  # five deviations, and five counts for rare tokens
        mean = torch.tensor([p[e.response[0]].log() for e in drawn[n * k : (n + 1) * k]]).mean()
        entropy = -(p * p.log()).sum()
        deviation = ((p * p.log().square()).sum() - entropy.square()).sqrt()
        assert (mean + entropy).abs() < 5 * deviation / k**0.5  # a temperature of 0.9 moves it by twice that
        assert p.max() > 0.05
        probabilities.append(p)
    assert (probabilities[0] - probabilities[1]).abs().max() > 0.05  # a prompt seen wrongly would be noticed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0.2),
        ("top_k", 3),
        ("top_p", 0.5),
        ("repetition_penalty", 1.5),
        ("min_p", 0.3),
        ("typical_p", 0.5),
        ("suppress_tokens", [5]),
    ],
)
def test_what_the_model_s_folder_says_about_generation_does_not_change_the_distribution(
    name, value, tiny_model, tiny_tokenizer
):
    """Instruct models ship a generation_config.json, some with a repetition penalty; scores know nothing of it."""
    settings = {"k": 100, "max_new_tokens": 4, "seed": 0}
    plain = sample(tiny_model(spread=0.3), tiny_tokenizer, [(3, 1, 4, 1, 5)], **settings)
    model = tiny_model(spread=0.3)
    setattr(model.generation_config, name, value)
    assert sample(model, tiny_tokenizer, [(3, 1, 4, 1, 5)], **settings) == plain
