"""Packed log-probs and gradients equal float64, one sequence at a time, for every architecture and any packing."""

import copy

import pytest
import torch
import transformers

from derivations.cli.errors import InputError
from llm.scoring import attention
from llm.scoring.attention import attention_inputs
from llm.scoring.logprobs import logps_and_features, require_room, sequence_logps
from llm.scoring.packing import Example, lengths, packs

EOS, PAD = 256, 257
SPLITS = [(4096, 1024, 256), (60, 40, 7), (1, 1, 1), (128, 1024, 1)]  # batch, row, chunk
PER_TOKEN = 5e-5  # float32 log-softmax over 258 logits of a few units, behind two float32 layers

SIZES = {"vocab_size": 258, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"intermediate_size": 64, "max_position_embeddings": 64, "initializer_range": 0.15}
GROUPED = SIZES | {"num_key_value_heads": 2}
GPT2 = {"vocab_size": 258, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.15}
ARCHITECTURES = {
    "llama": ("Llama", GROUPED | {"tie_word_embeddings": False}),
    "llama-tied": ("Llama", GROUPED | {"tie_word_embeddings": True}),
    "qwen2": ("Qwen2", GROUPED | {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", GROUPED | {"tie_word_embeddings": False, "head_dim": 8}),
    "gpt-neox": ("GPTNeoX", SIZES | {"tie_word_embeddings": False}),
    "gpt2": ("GPT2", GPT2),
}


def make(name, **larger):
    kind, sizes = ARCHITECTURES[name]
    sizes = sizes | {size: n for size, n in larger.items() if size in sizes}
    config = getattr(transformers, f"{kind}Config")(**sizes)
    classes = {"GPT2": "GPT2LMHeadModel"}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = getattr(transformers, classes.get(kind, f"{kind}ForCausalLM"))(config).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.set_attn_implementation(attention.NAME)
    return model


def examples_of(shapes, seed=0):
    """Random prompts of the given lengths, each with responses of the given lengths, over all ids."""
    generator = torch.Generator().manual_seed(seed)

    def draw(n):
        return tuple(torch.randint(258, (n,), generator=generator).tolist())

    return [Example(p, draw(size), False) for p, sizes in ((draw(n), sizes) for n, sizes in shapes) for size in sizes]


MIXED = [
    # pairs, a single, a ranking, a long prompt with short responses, prompts of one token, one-token responses, and
    # 64 tokens, the position limit
    *examples_of([(5, (3, 12)), (1, (7, 1)), (9, (1,)), (4, (4, 11, 2, 6)), (30, (2, 3, 34)), (1, (63,))]),
    Example((7, 0, 9), (0, 0, 5, 0), False),  # token id 0 is a token
    Example((EOS, 3), (4, EOS, PAD, 8, EOS), True),  # so are EOS and padding inside a response
]
WEIGHTS = torch.linspace(-1, 2, len(MIXED))  # so that swapped rows are noticed


def assert_same_logps(got, exact, examples):
    assert got.dtype == torch.float32
    error = (got.detach().double() - exact.detach()).abs() / lengths(examples).double()
    assert error.max() < PER_TOKEN


def assert_same_gradients(model, double):
    names = [name for name, _ in model.named_parameters()]
    assert len(names) > 10
    for (name, p), q in zip(model.named_parameters(), double.parameters(), strict=True):
        if q.grad.norm() < 1e-6:  # a key's bias moves all scores of a query alike: its exact gradient is 0
            assert p.grad.norm() < 1e-3, name
        else:
            assert (p.grad.double() - q.grad).norm() / q.grad.norm() < 1e-4, name  # float32 sums of about 200 positions


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_log_probs_and_gradients_are_those_of_one_sequence_at_a_time_in_float64(name, split, naive_logps):
    model = make(name)
    double = copy.deepcopy(model).double()
    batch, row, chunk = split
    got = sequence_logps(model, MIXED, batch_tokens=batch, row_tokens=row, chunk_tokens=chunk)
    exact = naive_logps(double, MIXED)
    assert_same_logps(got, exact, MIXED)
    assert exact.std() > 10  # not a comparison of equal numbers
    (got @ WEIGHTS).backward()
    (exact @ WEIGHTS.double()).backward()
    assert_same_gradients(model, double)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_one_masked_call_for_all_rows_gives_the_same(name, naive_logps):
    """What runs on a GPU: the explicit mask instead of one call a sequence."""
    model = make(name)
    double = copy.deepcopy(model).double()
    exact = naive_logps(double, MIXED)
    model.set_attn_implementation("sdpa")
    got = sequence_logps(model, MIXED, batch_tokens=200)
    assert_same_logps(got, exact, MIXED)
    (got @ WEIGHTS).backward()
    (exact @ WEIGHTS.double()).backward()
    assert_same_gradients(model, double)
    pack = next(packs(MIXED, batch_tokens=200, row_tokens=1024))
    assert "layout" not in attention_inputs(pack, "sdpa", torch.device("cpu"))


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
        joined = naive_logps(model, [Example(MIXED[0].prompt + MIXED[0].response, MIXED[1].response, False)])
    wrong = {
        "one position late": [t[len(e.prompt) + 1 :].sum() for t, e in zip(per_token, MIXED, strict=True)],
        "prompt included": [t[1:].sum() for t in per_token],
        "last token left out": [t[len(e.prompt) : -1].sum() for t, e in zip(per_token, MIXED, strict=True)],
        "id 0 taken for padding": skipping(0, per_token),
        "EOS taken for padding": skipping(EOS, per_token),
        "a response sees its sibling": [exact[0], joined[0], *exact[2:]],
    }
    for name, values in wrong.items():
        assert (torch.stack(values) - exact).abs().max() > 0.1, name  # the tests above see 64 * PER_TOKEN = 0.003


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


def test_sequences_that_the_model_has_no_place_for_are_refused():
    require_room(transformers.LlamaConfig(max_position_embeddings=64), 64)
    with pytest.raises(InputError, match="65 tokens, but the model has positions 64"):
        sequence_logps(make("llama"), [Example((1,) * 30, (2,) * 35, False)])
    sliding = transformers.MistralConfig(sliding_window=32, max_position_embeddings=64)
    require_room(sliding, 32)
    with pytest.raises(InputError, match="a sliding window of 32"):
        require_room(sliding, 33)
