"""Loading: float32 without dropout, and refusal of models whose packed log-probs would be wrong."""

import copy

import pytest
import torch

from derivations.commands import InputError
from llm.logprobs import sequence_logps
from llm.models import load_model
from llm.packing import Example, lengths

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


def test_the_bundled_model_knows_english_and_its_prompts_end_where_the_assistant_begins():
    from llm.tokens import encode_prompt, encode_response

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
