"""Loading: float32 without dropout, and refusal of models whose packed log-probs would be wrong."""

import copy
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from derivations.cli.errors import InputError
from llm.scoring.logprobs import sequence_logps
from llm.scoring.models import load_model
from llm.scoring.packing import Example, lengths

EOS, PAD = 256, 257
MIXED = [Example((5, 3), (1, 7, 9), False), Example((8,), (4, 4, 11, 2, 200), False)]


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
    with pytest.raises(InputError, match=r"'granite' are not supported.*change logits after the head"):
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


@pytest.mark.parametrize("kind", ["attention", "layers"])
def test_rates_of_dropping_that_are_plain_numbers_are_off_too(kind, tiny_model, tiny_tokenizer, tmp_path):
    """In training mode, which recomputing layers needs, transformers applies them by function (in attention: GPU)."""
    if kind == "attention":
        source = tiny_model()
        source.config.attention_dropout = 0.5
    else:
        from transformers import OPTConfig, OPTForCausalLM

        sizes = {"vocab_size": 258, "hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 64, "num_hidden_layers": 4}
        sizes |= {"num_attention_heads": 2, "max_position_embeddings": 64, "init_std": 0.3, "dropout": 0.3}
        source = OPTForCausalLM(OPTConfig(**sizes, layerdrop=0.5))
    model, _ = load_model(save(tmp_path, source, tiny_tokenizer))
    model.set_attn_implementation("sdpa")  # one masked call for all rows, as on a GPU
    model.train()
    with torch.no_grad():
        first, second = (sequence_logps(model, MIXED) for _ in range(2))
        assert torch.equal(first, second)
        torch.testing.assert_close(sequence_logps(model.eval(), MIXED), first)


def test_a_model_that_caps_its_attention_scores_is_refused(tiny_tokenizer, tmp_path):
    """Fused attention ignores the cap, so the check must hold packed log-probs against the model's own attention."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    sizes = {"vocab_size": 258, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 2, "initializer_range": 0.5}
    sizes |= {"final_logit_softcapping": None, "query_pre_attn_scalar": 1}
    for cap, folder in ((None, tmp_path / "plain"), (0.5, tmp_path / "capped")):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Gemma2ForCausalLM(Gemma2Config(**sizes, attn_logit_softcapping=cap))
        save(folder, model, tiny_tokenizer)
    load_model(str(tmp_path / "plain"))
    with pytest.raises(InputError, match=r"'gemma2' are not supported.*attention scores"):
        load_model(str(tmp_path / "capped"))


def test_the_check_of_a_model_does_not_depend_on_the_attention_asked_for(tiny_model, tiny_tokenizer, tmp_path):
    model, _ = load_model(save(tmp_path, tiny_model(), tiny_tokenizer), implementation="flex_attention")
    assert model.config._attn_implementation == "flex_attention"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llm.scoring.models.sequence_logps", lambda model, examples: torch.zeros(len(examples)))
        with pytest.raises(InputError, match="are not supported"):
            load_model(str(tmp_path), implementation="flex_attention")


def test_the_bundled_model_is_converted_once_however_many_ask_at_once(own_cache, tmp_path, monkeypatch):
    import llm.scoring.models as module

    gguf, made = tmp_path / "a.gguf", []

    def convert(source, folder):
        made.append(folder)
        time.sleep(0.05)
        folder.mkdir()

    gguf.write_bytes(b"weights")
    monkeypatch.setattr(module, "bundled_gguf", lambda: gguf)
    monkeypatch.setattr(module, "_convert", convert)
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: module.bundled_folder(), range(4)))
    assert folders == set(made)
    assert len(made) == 1
    monkeypatch.setattr(module.transformers, "__version__", "9.9.9")  # another reader of GGUF may read it otherwise
    assert module.bundled_folder() not in folders
    assert len(made) == 2


def test_the_bundled_model_knows_english_and_its_prompts_end_where_the_assistant_begins():
    from llm.data.tokens import Turn

    model, tokenizer = load_model("bundled")
    turn = Turn([{"role": "user", "content": "Write one sentence about rain."}], tokenizer)
    prompt = turn.prompt
    assert tokenizer.decode(prompt).endswith("<|im_start|>assistant\n")
    sentence = "The rain fell softly on the old roof while we slept through the night."
    scrambled = "night the roof softly we while through on old. rain slept The fell the"
    examples = [Example(prompt, *turn.respond(text, room=99)) for text in (sentence, scrambled)]
    assert all(e.complete for e in examples)
    with torch.no_grad():
        english, noise = (sequence_logps(model, examples) / lengths(examples)).tolist()
    assert english > noise + 1.5  # nats a token
    assert -4 < english < -0.5


PROSE = """\
The ferry left the island a little after noon, with eleven people, two dogs and a crate of tomatoes on board.
Nobody had expected wind. By the time the harbour was out of sight the captain had already put on his yellow
coat, which those who knew him took as a warning, and the others as a joke. A woman from the city asked whether
it would rain; he said that rain was the least of it, and gave her the smaller dog to hold. For an hour nothing
happened. Then the engine coughed twice and stopped, and in the silence one could hear how loud the sea had been
all along. The mechanic, a quiet student of law who worked on the boat in summer, opened the hatch, looked down
for a while, and asked for a spoon. There was only a fork. With the fork, a length of wire and most of the crate
he did something that he later refused to explain, not even to the insurance. They reached the mainland at dusk,
smelling of soup, and agreed that the tomatoes had been excellent."""


def test_a_bf16_backbone_is_within_0_3_nats_of_float64_over_a_long_response(naive_logps):
    """RMS over responses of 87 tokens; measured for the design: 0.19 with a float32 head, 0.38 with rounded logits."""
    model, tokenizer = load_model("bundled")
    stream = tokenizer(PROSE).input_ids
    starts = range(0, len(stream) - 107, 20)
    assert len(starts) >= 6
    examples = [Example(tuple(stream[at : at + 20]), tuple(stream[at + 20 : at + 107]), False) for at in starts]
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            got = sequence_logps(model, examples)
        exact = naive_logps(model.double(), examples)
    error = (got.double() - exact).square().mean().sqrt().item()
    assert 0.01 < error < 0.3  # 0.01: something did run in bf16
    assert exact.std() > 5
