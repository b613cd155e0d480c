"""Sampling draws from the distribution that is scored, whatever the batch and the model's folder say."""

import numpy as np
import pytest
import torch
from scipy import stats

from llm.sampling.reference_pool import reference_pool
from llm.sampling.sampler import InverseCDF, Transformers, cut, narrowed, sample, uniforms
from llm.scoring.packing import Example

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
    assert cut((1,), ids, {EOS}) == Example((1,), kept, complete)


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
    for seed in (1, (0, 0), (0, 1)):
        assert sample(model, tiny_tokenizer, [(1, 2), (3,)], **settings, seed=seed) != first


def test_a_row_does_not_depend_on_the_order_or_the_company_of_the_others(tiny_model, tiny_tokenizer):
    """Equal shapes: six rows each time, as wide as the longest prompt, which is always there."""
    longest, a, b, c, d = (4, 4, 4, 4, 4, 4), (1, 2, 3), (9,), (7, 8), (5, 6, 5)
    alone = [
        dict(zip(order, np.reshape(np.array(drawn, dtype=object), (3, 2)).tolist(), strict=True))
        for order in ((longest, a, b), (b, longest, a), (c, a, longest), (a, longest, d))
        for drawn in [sample(tiny_model(), tiny_tokenizer, order, k=2, max_new_tokens=8, seed=3)]
    ]
    for other in alone[1:]:
        for prompt in alone[0].keys() & other.keys():
            assert other[prompt] == alone[0][prompt]
    assert alone[0][a][0].response != alone[0][a][1].response


def test_a_prompt_that_occurs_twice_goes_on_with_new_numbers(tiny_model, tiny_tokenizer):
    once = uniforms([(1, 2), (3,)], k=4, n=5, seed=0)
    twice = uniforms([(1, 2), (3,), (1, 2)], k=2, n=5, seed=0)
    np.testing.assert_array_equal(twice[[0, 1, 4, 5]], once[:4])
    assert len(np.unique(once)) == once.size
    drawn = sample(tiny_model(), tiny_tokenizer, [(1, 2), (1, 2)], k=1, max_new_tokens=8, seed=0)
    assert drawn[0].response != drawn[1].response


def chi_square_p(counts, probabilities):
    """p-value of counts [n] against exact probabilities; tokens expected fewer than 5 times are one class."""
    expected = counts.sum() * probabilities
    rare = expected < 5
    observed, expected = (np.append(x[~rare], x[rare].sum()) for x in (counts, expected))
    return stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue


def test_samples_follow_the_distribution_that_is_scored(tiny_model, tiny_tokenizer):
    """Two prompts of different length in one padded batch, two tokens deep; frequencies against float64.

    The seed is fixed; right samples would fail with one seed in 250 (four tests at 0.001). A temperature of 0.9
    is far outside.
    """
    model, k = tiny_model(spread=0.3), 4000
    prompts = [(3, 1, 4, 1, 5, 9, 2, 6), (8, 7, 2)]
    drawn = sample(model, tiny_tokenizer, prompts, k=k, max_new_tokens=2, seed=0)
    double = model.double()
    firsts = []
    for n, prompt in enumerate(prompts):
        own = [e.response for e in drawn[n * k : (n + 1) * k]]
        first = exact(double, prompt)
        assert chi_square_p(frequencies(r[0] for r in own), first) > 1e-3
        assert chi_square_p(frequencies(r[0] for r in own), first**1.1 / (first**1.1).sum()) < 1e-6  # it has power
        commonest = int(np.argmax(np.where(np.arange(258) == EOS, 0, first)))
        following = [r[1] for r in own if r[0] == commonest]
        assert len(following) > 100
        assert chi_square_p(frequencies(following), exact(double, (*prompt, commonest))) > 1e-3
        firsts.append(first)
    assert np.abs(firsts[0] - firsts[1]).max() > 0.05  # a prompt seen wrongly would be noticed


def exact(double, prompt):
    """Probabilities of the next token, float64 [258]."""
    with torch.no_grad():
        return double(input_ids=torch.tensor([prompt])).logits[0, -1].softmax(-1).numpy()


def frequencies(tokens):
    return np.bincount(list(tokens), minlength=258).astype(float)


def test_tokens_too_rare_for_float32_sums_are_drawn_and_impossible_ones_are_not():
    """40000 tokens of probability 1e-9 behind a sure one: in float32 sums they would vanish behind 1."""
    n = 40_000
    scores = torch.full((3, n + 2), np.log(1e-9))
    scores[:, 0], scores[:, 1] = 0.0, -torch.inf
    total = 1 + n * 1e-9
    uniform = torch.tensor([[0.0], [1 / total + 20_000.5e-9 / total], [1 - 2**-53]], dtype=torch.float64)
    token = InverseCDF(uniform, 4)(torch.zeros(3, 4, dtype=torch.long), scores).argmax(-1).tolist()
    assert token[0] == 0
    assert token[1] == pytest.approx(20_002, abs=100)  # float32 probabilities, summed in float64
    assert token[2] == n + 1


def test_a_narrow_copy_follows_the_policy_and_leaves_it_alone(tiny_model, tiny_tokenizer):
    model = tiny_model()
    sampler = Transformers(model, tiny_tokenizer, dtype="bf16")
    settings = {"k": 8, "max_new_tokens": 6, "seed": 0}
    first = sampler.draw([(1, 2, 3)], **settings)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(tiny_model(seed=1).get_input_embeddings().weight)
    second = sampler.draw([(1, 2, 3)], **settings)
    assert first != second
    with torch.no_grad():
        fresh = Transformers(model, tiny_tokenizer, dtype="bf16").draw([(1, 2, 3)], **settings)
    assert second == fresh


def test_a_narrow_copy_rotates_by_the_same_angles(tiny_model):
    """Frequencies in bf16 are wrong by up to 0.2 %, angles at position 8000 by radians."""
    model = tiny_model()
    narrow = narrowed(model)
    assert all(p.dtype == torch.bfloat16 for p in narrow.parameters())
    rotary, own = model.base_model.rotary_emb, narrow.base_model.rotary_emb
    assert own.inv_freq.dtype == torch.float32
    assert torch.equal(own.inv_freq, rotary.inv_freq)
    assert own.inv_freq.data_ptr() != rotary.inv_freq.data_ptr()
    positions, like = (
        torch.arange(8192)[None],
        torch.zeros(1),
    )  # of a float32 tensor: angles are rounded at the end only
    for a, b in zip(own(like, positions), rotary(like, positions), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    exact = (positions[0, :, None].double() * rotary.inv_freq.double()).cos()
    torch.testing.assert_close(own(like, positions)[0][0, :, : exact.shape[1]].double(), exact, atol=1e-3, rtol=0)


def test_cached_samples_are_kept_apart_by_template_and_by_engine(tiny_model, tiny_tokenizer, own_cache, tmp_path):
    model = tiny_model()
    drawn = []

    class Counting(Transformers):
        def draw(self, prompts, **options):
            drawn.append(self.name)
            return super().draw(prompts, **options)

    def pool(template, dtype):
        sampler = Counting(model, tiny_tokenizer, dtype=dtype)
        options = {"k": 2, "max_new_tokens": 4, "seed": 0, "quiet": True, "template": template}
        return reference_pool(model, tiny_tokenizer, ["rain"], sampler=sampler, **options)

    first = pool("On {topic}:", "float32")
    assert pool("On {topic}:", "float32") == first
    assert len(drawn) == 1
    pool("About {topic}:", "float32")
    pool("On {topic}:", "bf16")
    assert drawn == ["transformers float32", "transformers float32", "transformers bf16, rotary float32"]
    assert len(list((tmp_path / "cache" / "maxent-rlhf" / "samples").glob("*.json"))) == 3


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
