"""The static sampler draws the very tokens of the other one, from steps that read nothing back."""

import pytest
import torch

from llm.sampling.sampler import Transformers
from llm.sampling.static_sampler import KEPT, LOOK_EVERY, Decoder, Static
from llm.scoring.packing import Example
from llm.settings.online import OnlineConfig
from tests.helpers.llm_runs import read_rows, run_online
from tests.llm.test_llm_logprobs import ARCHITECTURES, make
from tests.llm.test_llm_sampling import EOS, PAD, model_that_ends

PROMPTS = [(1, 2, 3, 4, 5, 6), (9,), (7, 8), (5,) * 29, (1, 2, 3, 4, 5, 6)]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def assert_same_draws(model, tokenizer, prompts, **options):
    drawn = [kind(model.to(DEVICE), tokenizer).draw(prompts, **options) for kind in (Static, Transformers)]
    assert drawn[0] == drawn[1]
    return drawn[0]


@pytest.mark.parametrize("seed", [0, 1, (2, 3)])
def test_the_same_tokens_are_drawn_from_the_same_seed(seed, tiny_model, tiny_tokenizer):
    drawn = assert_same_draws(tiny_model(), tiny_tokenizer, PROMPTS, k=3, max_new_tokens=20, seed=seed)
    assert len({e.response for e in drawn}) == 15


@pytest.mark.parametrize("new", [1, 5, 40])
def test_responses_that_end_are_cut_where_the_other_s_are(new, tiny_model, tiny_tokenizer):
    drawn = assert_same_draws(model_that_ends(tiny_model), tiny_tokenizer, PROMPTS, k=9, max_new_tokens=new, seed=1)
    assert {e.complete for e in drawn} >= {True}
    assert max(len(e.response) for e in drawn if e.complete) <= new


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_draws_the_same(name, tiny_tokenizer):
    assert_same_draws(make(name), tiny_tokenizer, [(1, 2, 3), (4,) * 20], k=2, max_new_tokens=10, seed=0)


def test_a_prompt_of_one_token_alone_is_drawn_from(tiny_model, tiny_tokenizer):
    assert_same_draws(tiny_model(), tiny_tokenizer, [(3,)], k=2, max_new_tokens=6, seed=0)


def test_later_batches_of_a_shape_use_its_tensors_again_and_the_weights_as_they_are_then(tiny_model, tiny_tokenizer):
    model = tiny_model().to(DEVICE)
    sampler, options = Static(model, tiny_tokenizer), {"k": 2, "max_new_tokens": 9, "seed": 0}
    first = sampler.draw([(1, 2), (3,)], **options)
    (decoder,) = sampler._decoders.values()
    assert sampler.draw([(8,) * 20, (3, 4)], **options) == Transformers(model, tiny_tokenizer).draw(
        [(8,) * 20, (3, 4)], **options
    )
    assert list(sampler._decoders.values()) == [decoder]
    assert sampler.draw([(1, 2), (3,)], **options) == first
    with torch.no_grad():
        for p in model.parameters():
            p += 0.05 * torch.sin(torch.arange(p.numel(), device=p.device)).reshape(p.shape)
    second = sampler.draw([(1, 2), (3,)], **options)
    assert second == Transformers(model, tiny_tokenizer).draw([(1, 2), (3,)], **options) != first


def test_no_more_shapes_are_kept_than_allowed(tiny_model, tiny_tokenizer):
    sampler = Static(tiny_model().to(DEVICE), tiny_tokenizer)
    for new in range(1, KEPT + 3):
        sampler.draw([(1,)], k=1, max_new_tokens=new, seed=0)
    assert [shape[2] for shape in sampler._decoders] == list(range(3, KEPT + 3))


def test_a_narrow_copy_is_drawn_from_under_bf16(tiny_model, tiny_tokenizer):
    """Its rounding depends on shapes, so tokens may differ from the other sampler's; it follows the policy too."""
    model = tiny_model().to(DEVICE)
    sampler, options = Static(model, tiny_tokenizer, dtype="bf16"), {"k": 8, "max_new_tokens": 6, "seed": 0}
    assert sampler.name == "static bf16"
    first = sampler.draw([(1, 2, 3)], **options)
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(tiny_model(seed=1).get_input_embeddings().weight)
    second = sampler.draw([(1, 2, 3)], **options)
    assert first != second == Static(model, tiny_tokenizer, dtype="bf16").draw([(1, 2, 3)], **options)


def test_drawing_stops_when_all_rows_have_ended_and_asks_every_few_tokens_only(tiny_model, tiny_tokenizer, monkeypatch):
    model = model_that_ends(tiny_model)
    with torch.no_grad():
        model.lm_head.weight[EOS] *= 4  # at once
    steps, asked, original = [], [], torch.Tensor.__bool__

    def decode(self, real=Decoder.decode):
        if not steps:
            asked.clear()  # of the prompts
        steps.append(1)
        real(self)

    monkeypatch.setattr(Decoder, "decode", decode)
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda self: (asked.append(1), original(self))[1])
    drawn = Static(model, tiny_tokenizer).draw([(1, 2)], k=4, max_new_tokens=50, seed=0)
    assert drawn == [Example((1, 2), (EOS,), True)] * 4
    assert len(steps) == LOOK_EVERY
    assert len(asked) == 1


def test_a_step_reads_nothing_back(tiny_model):
    """On shapes without numbers, where reading a number would be counted."""
    from benchmarks.llm_kernels import META, Counter

    model = tiny_model().to(META)
    decoder = Decoder(model, 4, 32, 8, pad=PAD, eos=(EOS,))
    decoder.decode()  # the cache is laid out
    with torch.no_grad(), Counter() as count:
        decoder.decode()
    assert count.synchronizations == 0
    assert count.kernels > 20


def test_online_draws_with_it_if_asked(tiny_folder, tmp_path, shared_cache):
    assert OnlineConfig(regularizer="none").sampler == "transformers"
    rows = [read_rows(run_online(tiny_folder, tmp_path / s, sampler=s)) for s in ("transformers", "static")]
    for row in (*rows[0], *rows[1]):
        row.pop("seconds", None)
    assert rows[0] == rows[1]
