"""Packed log-probs and gradients equal float64, one sequence at a time, for every architecture and any packing."""

import copy

import pytest
import torch
import transformers

from derivations.cli.errors import InputError
from llm.scoring import attention
from llm.scoring.attention import attention_inputs
from llm.scoring.head import head_logps, weight_gradient_in_place
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


# ---- the head


def head_problem(*, bias, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden, weight = torch.randn(11, 16, generator=generator), torch.randn(50, 16, generator=generator)
    extra = torch.randn(50, generator=generator) if bias else None
    targets = torch.randint(50, (11,), generator=generator)
    tensors = [x.to(dtype).requires_grad_() for x in (hidden, weight, extra) if x is not None]
    return tensors, targets


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("chunk", "block"), [(1, 8192), (4, 20), (11, 20), (11, 50), (99, 8192)])
def test_the_head_s_gradients_are_those_of_finite_differences(bias, chunk, block, monkeypatch):
    monkeypatch.setattr("llm.scoring.head.BLOCK", block)  # of a vocabulary of 50
    tensors, targets = head_problem(bias=bias, dtype=torch.float64)

    def f(hidden, weight, extra=None):
        return head_logps(hidden, weight, targets, bias=extra, chunk_tokens=chunk)

    exact = torch.nn.functional.linear(*tensors).log_softmax(-1)[torch.arange(11), targets]
    torch.testing.assert_close(f(*tensors), exact, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(f, tensors)


@pytest.mark.parametrize("chunk", [1, 5, 256])
def test_logits_are_never_held_for_more_than_one_chunk(chunk, tiny_model, monkeypatch):
    import llm.scoring.head as module

    seen, original = [], module._logits

    def spy(hidden, weight, bias, block):
        seen.append(len(hidden))
        return original(hidden, weight, bias, block)

    monkeypatch.setattr(module, "_logits", spy)
    model = tiny_model()
    sequence_logps(model, MIXED, chunk_tokens=chunk).sum().backward()
    assert max(seen) <= chunk
    assert sum(seen) == 2 * sum(len(e.response) for e in MIXED)  # response positions only, forward and again backward


def test_on_a_cpu_no_logits_are_held_for_more_than_a_block_of_the_vocabulary(monkeypatch):
    import llm.scoring.head as module

    seen, original = [], module._logits

    def spy(*arguments):
        seen.append(original(*arguments))
        return seen[-1]

    monkeypatch.setattr(module, "BLOCK", 20)
    monkeypatch.setattr(module, "_logits", spy)
    tensors, targets = head_problem(bias=True)
    head_logps(*tensors[:2], targets, bias=tensors[2], chunk_tokens=11).sum().backward()
    assert [x.shape[1] for x in seen] == [20, 20, 10] * 2


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_gradient_added_in_place_is_the_gradient(tied, dtype, tiny_model):
    def gradients(allowed):
        model = tiny_model(tied=tied)
        for _ in range(2):  # the second pass adds to what the first left
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
                loss = sequence_logps(model, MIXED, chunk_tokens=7).sum()
            with weight_gradient_in_place(allowed):
                loss.backward()
        return [p.grad for p in model.parameters()]

    for got, expected in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item())


def test_in_place_no_second_gradient_of_the_head_is_made(tiny_model):
    model = tiny_model(tied=False)
    weight = model.lm_head.weight
    arrived = []
    weight.register_hook(lambda gradient: arrived.append(gradient is not None))  # what goes through autograd
    sequence_logps(model, MIXED).sum().backward()
    kept, whole = weight.grad.data_ptr(), weight.grad.clone()
    with weight_gradient_in_place(True):
        sequence_logps(model, MIXED).sum().backward()
    assert sum(arrived) == 1
    assert weight.grad.data_ptr() == kept
    torch.testing.assert_close(weight.grad, 2 * whole)


def test_a_frozen_head_gets_no_gradient(tiny_model):
    model = tiny_model(tied=False)
    model.lm_head.weight.requires_grad_(False)
    with weight_gradient_in_place(True):
        sequence_logps(model, MIXED).sum().backward()
    assert model.lm_head.weight.grad is None
    assert model.model.layers[0].mlp.up_proj.weight.grad.norm() > 0


def test_under_bf16_autocast_no_logit_is_rounded(tiny_model, monkeypatch):
    import llm.scoring.logprobs as module

    seen = []

    def spy(hidden, weight, targets, **options):
        seen.append((hidden, targets, head_logps(hidden, weight, targets, **options)))
        return seen[-1][-1]

    monkeypatch.setattr(module, "head_logps", spy)
    model = tiny_model()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert sequence_logps(model, MIXED).dtype == torch.float32
        ((hidden, targets, values),) = seen
        rounded = model.lm_head(hidden).double().log_softmax(-1)  # what a head under autocast would give
    exact = (hidden.double() @ model.lm_head.weight.double().T).log_softmax(-1)
    at = (torch.arange(len(targets)), targets)
    assert (values - exact[at]).abs().max() < PER_TOKEN
    assert (rounded[at] - exact[at]).abs().max() > 50 * PER_TOKEN


def test_under_bf16_autocast_the_head_passes_gradients_on_to_a_percent():
    tensors, targets = head_problem(bias=False)
    head_logps(*tensors, targets, chunk_tokens=4).sum().backward()
    exact = [x.grad.clone() for x in tensors]
    for x in tensors:
        x.grad = None
    with torch.autocast("cpu", torch.bfloat16):
        values = head_logps(*tensors, targets, chunk_tokens=4)
    values.sum().backward()
    for x, g in zip(tensors, exact, strict=True):
        assert x.grad.dtype == torch.float32
        error = (x.grad - g).norm() / g.norm()
        assert 0 < error < 1e-2  # bf16 keeps 8 bits; 0 would mean that nothing ran narrowed
