"""Log-probs equal brute force, whatever the batch; sampling draws from the distribution that is scored."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from derivations.commands import InputError
from llm.logprobs import Example, length_batches, lengths, logps_and_features, sequence_logps
from llm.models import load_model
from llm.sampling import _cut, sample

EOS, PAD = 256, 257
SPLITS = [(4096, 256), (60, 7), (1, 1), (128, 1)]
PER_TOKEN = 5e-5  # float32 log-softmax over 258 logits of a few units, behind two float32 layers


def examples_of(shapes, seed=0):
    """Random prompts and responses of (prompt, response) lengths, over all ids, special ones included."""
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randint(258, (a + b,), generator=generator).tolist() for a, b in shapes]
    return [Example(tuple(ids[:a]), tuple(ids[a:]), False) for ids, (a, _) in zip(draw, shapes, strict=True)]


MIXED = [
    *examples_of([(5, 3), (1, 7), (9, 1), (1, 1), (20, 30), (3, 12), (4, 4), (11, 2)]),
    Example((7, 0, 9), (0, 0, 5, 0), False),  # token id 0 is a token
    Example((EOS, 3), (4, EOS, PAD, 8, EOS), True),  # so are EOS and padding inside a response
]


def assert_same_logps(got, exact, examples):
    assert got.dtype == torch.float32
    error = (got.detach().double() - exact.detach()).abs() / lengths(examples).double()
    assert error.max() < PER_TOKEN


@pytest.mark.parametrize(("batch_tokens", "chunk_tokens"), SPLITS)
@pytest.mark.parametrize("tied", [True, False])
def test_log_probs_and_gradients_are_those_of_one_sequence_at_a_time_in_float64(
    tied, batch_tokens, chunk_tokens, tiny_model, naive_logps
):
    model = tiny_model(tied=tied)
    double = copy.deepcopy(model).double()
    weights = torch.linspace(-1, 2, len(MIXED))  # so that swapped rows are noticed
    got = sequence_logps(model, MIXED, batch_tokens=batch_tokens, chunk_tokens=chunk_tokens)
    exact = naive_logps(double, MIXED)
    assert_same_logps(got, exact, MIXED)
    assert exact.std() > 10  # not a comparison of equal numbers
    (got @ weights).backward()
    (exact @ weights.double()).backward()
    names = [name for name, _ in model.named_parameters()]
    assert ("lm_head.weight" in names) is not tied
    for (name, p), q in zip(model.named_parameters(), double.parameters(), strict=True):
        error = (p.grad.double() - q.grad).norm() / q.grad.norm()
        assert error < 1e-4, name  # float32 sums of about 100 positions


@pytest.mark.parametrize("index", range(len(MIXED)))
def test_a_batch_of_one_is_the_same_number(index, tiny_model, naive_logps):
    model = tiny_model()
    alone = sequence_logps(model, MIXED[index : index + 1])
    assert alone.shape == (1,)
    assert_same_logps(alone, naive_logps(model.double(), MIXED[index : index + 1]), MIXED[index : index + 1])


def test_the_order_of_the_examples_is_kept(tiny_model):
    model = tiny_model()
    with torch.no_grad():
        forward = sequence_logps(model, MIXED, batch_tokens=40)
        backward = sequence_logps(model, MIXED[::-1], batch_tokens=40)
    torch.testing.assert_close(forward, backward.flip(0), rtol=0, atol=1e-4)  # other batches, other roundings


def test_the_usual_mistakes_would_be_seen(tiny_model, naive_logps):
    """Each way of getting it wrong moves some log-prob by more than the tolerance of the tests above."""
    model = tiny_model().double()
    with torch.no_grad():
        exact = naive_logps(model, MIXED)
        per_token = [naive_logps_per_token(model, e) for e in MIXED]
    wrong = {
        "one position late": [t[len(e.prompt) + 1 :].sum() for t, e in zip(per_token, MIXED, strict=True)],
        "prompt included": [t[1:].sum() for t in per_token],
        "last token left out": [t[len(e.prompt) : -1].sum() for t, e in zip(per_token, MIXED, strict=True)],
        "id 0 taken for padding": skipping(0, per_token),
        "EOS taken for padding": skipping(EOS, per_token),
    }
    for name, values in wrong.items():
        assert (torch.stack(values) - exact).abs().max() > 1, name


def skipping(token, per_token):
    return [t[len(e.prompt) :][torch.tensor(e.response) != token].sum() for t, e in zip(per_token, MIXED, strict=True)]


def naive_logps_per_token(model, e):
    """log-prob of every token given those before it; the first has none (0)."""
    ids = torch.tensor(e.prompt + e.response)
    table = model(input_ids=ids[None]).logits[0].log_softmax(-1)
    return torch.cat([torch.zeros(1, dtype=table.dtype), table[torch.arange(len(ids) - 1), ids[1:]]])


def test_log_probs_of_all_one_token_responses_are_a_distribution(tiny_model):
    examples = [Example((3, 1, 4), (token,), False) for token in range(258)]
    with torch.no_grad():
        total = sequence_logps(tiny_model(), examples).double().exp().sum().item()
    assert total == pytest.approx(1, abs=1e-5)  # 258 float32 probabilities


def test_features_are_the_mean_state_at_the_response_s_own_positions(tiny_model):
    model = tiny_model()
    with torch.no_grad():
        logps, features = logps_and_features(model, MIXED, batch_tokens=60)
        assert torch.equal(logps, sequence_logps(model, MIXED, batch_tokens=60))
        double = model.double()
        for e, got in zip(MIXED, features, strict=True):
            states = double.base_model(input_ids=torch.tensor([e.prompt + e.response])).last_hidden_state[0]
            exact = states[len(e.prompt) :].mean(0)
            assert (got.double() - exact).abs().max() < 1e-5  # states are of size 1
            assert (got.double() - states[len(e.prompt) - 1 : -1].mean(0)).abs().max() > 1e-2  # one early is seen


@pytest.mark.parametrize("chunk_tokens", [1, 5, 256])
def test_logits_are_never_held_for_more_than_one_chunk(chunk_tokens, tiny_model):
    model = tiny_model()
    seen = []
    model.get_output_embeddings().register_forward_hook(lambda module, given, out: seen.append(out.shape[0]))
    sequence_logps(model, MIXED, chunk_tokens=chunk_tokens).sum().backward()
    supervised = sum(len(e.response) for e in MIXED)
    assert max(seen) <= chunk_tokens
    assert sum(seen) == 2 * supervised  # response positions only, once forward and once again backward


def test_under_bf16_autocast_the_head_stays_in_float32(tiny_model):
    model = tiny_model()
    text = MIXED[4].prompt + MIXED[4].response
    right, wrong = [], []
    for size in range(2, 40):  # one-token responses, so that roundings cannot cancel
        ids = torch.tensor(text[:size])
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            got = sequence_logps(model, [Example(text[: size - 1], text[size - 1 : size], False)])
            state = model.base_model(input_ids=ids[None]).last_hidden_state[0, -2]
            rounded = model.lm_head(state)
        assert got.dtype == torch.float32
        assert rounded.dtype == torch.bfloat16  # what a head under autocast would give
        with torch.no_grad():
            logits = model.lm_head.weight.double() @ state.double()
        exact = logits.log_softmax(-1)[ids[-1]]
        right.append((got - exact).abs().item())
        wrong.append((rounded.double().log_softmax(-1)[ids[-1]] - exact).abs().item())
    assert max(right) < PER_TOKEN
    assert max(wrong) > 50 * PER_TOKEN


@given(st.lists(st.integers(2, 50), min_size=1, max_size=30), st.integers(1, 200))
def test_batches_hold_every_sequence_once_and_no_more_padded_tokens_than_allowed(sizes, batch_tokens):
    batches = list(length_batches(sizes, batch_tokens))
    assert sorted(i for batch in batches for i in batch) == list(range(len(sizes)))
    for batch in batches:
        assert len(batch) == 1 or max(sizes[i] for i in batch) * len(batch) <= batch_tokens


@pytest.mark.parametrize(("prompt", "response"), [((), (1,)), ((1,), ())])
def test_an_example_without_prompt_or_response_is_refused(prompt, response):
    with pytest.raises(ValueError, match="at least one token"):
        Example(prompt, response, False)


def test_lengths_count_response_tokens_with_eos():
    assert lengths([Example((1, 2), (3, 4, EOS), True), Example((1,), (5,), False)]).tolist() == [3, 1]


# ---- sampling


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


# ---- loading


def save(folder, model, tokenizer):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_folder_is_loaded_in_float32_whatever_it_was_saved_in(tiny_model, tiny_tokenizer, tmp_path):
    model, tokenizer = load_model(save(tmp_path, tiny_model().bfloat16(), tiny_tokenizer))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not model.training
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (EOS, PAD)


def test_a_model_without_end_of_sequence_is_refused_and_one_without_padding_is_not(
    tiny_model, tiny_tokenizer, tmp_path
):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.pad_token = None
    assert load_model(save(tmp_path / "a", tiny_model(), tokenizer))[1].pad_token_id == EOS
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="no end-of-sequence token"):
        load_model(save(tmp_path / "b", tiny_model(), tokenizer))


def test_a_model_that_scales_its_logits_is_refused(tiny_tokenizer, tmp_path):
    from transformers import GraniteConfig, GraniteForCausalLM

    sizes = {"vocab_size": 258, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 2, "initializer_range": 0.3}
    with torch.random.fork_rng():
        models = [GraniteForCausalLM(GraniteConfig(**sizes, logits_scaling=scale)) for scale in (1.0, 8.0)]
    load_model(save(tmp_path / "plain", models[0], tiny_tokenizer))
    with pytest.raises(InputError, match="'granite' change logits after the head"):
        load_model(save(tmp_path / "scaled", models[1], tiny_tokenizer))


def test_dropout_is_off_so_the_same_text_has_one_log_prob_while_training(tiny_tokenizer, tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng():
        source = GPT2LMHeadModel(GPT2Config(vocab_size=258, n_positions=64, n_embd=32, n_layer=2, n_head=2))
    model, _ = load_model(save(tmp_path, source, tiny_tokenizer))
    model.train()
    with torch.no_grad():
        first, second = (sequence_logps(model, MIXED) for _ in range(2))
        model.eval()
        assert torch.equal(first, second)
        assert torch.equal(first, sequence_logps(model, MIXED))


# ---- the bundled model


def test_the_bundled_model_knows_english_and_its_prompts_end_where_the_assistant_begins():
    from llm.data import encode_prompt, encode_response

    model, tokenizer = load_model("bundled")
    prompt = encode_prompt([{"role": "user", "content": "Write one sentence about rain."}], tokenizer)
    assert tokenizer.decode(prompt).endswith("<|im_start|>assistant\n")
    sentence = "The rain fell softly on the old roof while we slept through the night."
    scrambled = "night the roof softly we while through on old. rain slept The fell the"
    examples = [Example(prompt, *encode_response(text, tokenizer, room=99)) for text in (sentence, scrambled)]
    assert all(e.complete for e in examples)
    with torch.no_grad():
        english, noise = (sequence_logps(model, examples) / lengths(examples)).tolist()
    assert english > noise + 1.5  # nats a token
    assert -4 < english < -0.5
