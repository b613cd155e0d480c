"""Trained ids are those the chat template renders, whichever token ends its turns; sampling stops where they end."""

import copy

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from derivations.cli.errors import InputError
from llm.data.chat import stop_ids
from llm.data.row_formats import Comparison
from llm.data.tokens import Turn, encode, encode_prompt
from llm.sampling.sampler import sample
from llm.scoring.models import load_tokenizer
from tests.llm.test_llm_data import SYSTEM, USER
from tests.llm.test_llm_models import EOS

MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)
PHI = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
THINKS_FIRST = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<assistant><think>\n{% endif %}"
)
STRIPS_THINKING = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content.split('</think>')[-1] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
END = 258


@pytest.fixture
def phi(tiny_tokenizer):
    """Turns end with <|end|>, which is not the tokenizer's EOS; behind it come a newline and that EOS."""
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|end|>", "<|user|>", "<|assistant|>"]})
    tokenizer.chat_template = PHI
    assert tokenizer.convert_tokens_to_ids("<|end|>") == END
    return tokenizer


@pytest.fixture
def mistral():
    """As SentencePiece does it: a blank belongs to the word behind it, and a text gets one at its head."""
    words = ["▁", "▁The", "The", "▁oak", ".", "▁[", "INST", "]", "/", "▁Which", "?", "T", "h", "e", "[", "▁yes"]
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {word: i for i, word in enumerate(words, start=3)}
    core = Tokenizer(models.Unigram([(word, -1.0 - (len(word) == 1)) for word in vocabulary], unk_id=0))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")  # noqa: S106
    tokenizer.chat_template = MISTRAL
    return tokenizer


def rendered(messages, answer, tokenizer):
    """Ids of the whole conversation as transformers renders and tokenizes it."""
    messages = [*messages, {"role": "assistant", "content": answer}]
    return tuple(tokenizer.apply_chat_template(messages, return_dict=False))


QUESTION = ({"role": "user", "content": "Which?"},)


def test_a_turn_that_ends_with_another_token_than_eos_is_trained_with_that_token(phi):
    turn = Turn(QUESTION, phi)
    ids, complete = turn.respond("The oak.", room=50)
    assert complete
    assert turn.prompt + ids == rendered(QUESTION, "The oak.", phi)[:-2]  # without the newline and the EOS behind it
    assert phi.decode(ids) == "The oak.<|end|>"
    assert ids[-1] == END
    assert EOS not in ids


def test_a_blank_before_the_answer_is_trained_as_the_template_writes_it(mistral):
    turn = Turn(QUESTION, mistral)
    ids, complete = turn.respond("The oak.", room=50)
    assert complete
    assert turn.prompt + ids == rendered(QUESTION, "The oak.", mistral)
    assert mistral.convert_ids_to_tokens(ids) == ["▁The", "▁oak", ".", "</s>"]
    assert (turn.prompt + ids).count(mistral.bos_token_id) == 1
    assert turn.respond("  The oak.\n", room=50)[0] == ids  # this template trims


def test_what_the_template_writes_between_prompt_and_answer_is_trained(tiny_tokenizer):
    """Qwen3 writes an empty block of thinking there, which its prompt does not hold."""
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}<think></think>\n{% endif %}{{ m.content }}"
        "<eos>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    turn = Turn(QUESTION, tokenizer)
    ids, _ = turn.respond("The oak.", room=50)
    assert turn.prompt + ids == rendered(QUESTION, "The oak.", tokenizer)[:-1]
    assert tokenizer.decode(ids) == "<think></think>\nThe oak.<eos>"


def test_a_blank_before_the_answer_is_trained_where_it_is_a_token_of_its_own(tiny_tokenizer):
    """Bytes as tokens; the answer on its own would begin with T."""
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = MISTRAL.replace("{{ bos_token }}", "")
    turn = Turn(QUESTION, tokenizer)
    ids, _ = turn.respond("The oak.", room=50)
    assert turn.prompt + ids == rendered(QUESTION, "The oak.", tokenizer)
    assert tokenizer.decode(ids) == " The oak.<eos>"


@pytest.mark.parametrize("text", ["Oak.<|end|>", "Oak.<eos>", "Oak.<|end|>\n<eos>", "Oak.<|end|><|end|>"])
def test_an_end_that_a_response_spells_out_is_its_end_whichever_of_the_two(text, phi):
    assert Turn(QUESTION, phi).respond(text, room=50) == Turn(QUESTION, phi).respond("Oak.", room=50)


def test_a_truncated_response_has_neither_end(phi):
    whole, _ = Turn(QUESTION, phi).respond("The oak.", room=50)
    for room in range(1, len(whole) + 2):
        ids, complete = Turn(QUESTION, phi).respond("The oak.", room=room)
        assert ids == whole[:room]
        assert complete == (room >= len(whole)) == (END in ids)


TEXTS = [
    "Grass.",
    " Grass",
    "  two blanks",
    "\n\nlines",
    "a\n b\n",
    "\tx",
    "1234 words, and\r\nmore",
    "\u00e9\U0001f600",
    "x " * 40,
]


@pytest.mark.parametrize("which", ["bundled", "tiny"])
@pytest.mark.parametrize("messages", [(USER,), (SYSTEM, USER), (USER, {"role": "assistant", "content": "Hm."}, USER)])
def test_ids_of_the_bundled_and_of_the_tiny_model_are_what_they_were(which, messages, tiny_tokenizer):
    """Prompt and response apart, and EOS: its templates end turns with EOS or with none, so nothing may change."""
    tokenizer = load_tokenizer("bundled") if which == "bundled" else tiny_tokenizer
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    turn = Turn(messages, tokenizer)
    assert turn.prompt == tuple(tokenizer(text, add_special_tokens=False).input_ids)
    for answer in TEXTS:
        ids = (*tokenizer(answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id)
        assert turn.respond(answer, room=999) == (ids, True)


def test_ids_of_one_bundled_comparison_by_their_numbers():
    turn = Turn(({"role": "user", "content": "Hi"},), load_tokenizer("bundled"))
    assert turn.prompt[-13:] == (8182, 2, 198, 1, 4093, 198, 26843, 2, 198, 1, 520, 9531, 198)
    assert turn.respond("Yes.", room=9) == ((10539, 30, 2), True)


@pytest.mark.parametrize("template", [THINKS_FIRST, STRIPS_THINKING, "{{ messages[0].content }}"])
def test_a_template_that_does_not_keep_prompt_and_answer_is_reported(template, tiny_tokenizer):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = template
    pair = Comparison(QUESTION, ("<think>hm</think>The oak.", "<think>well</think>Grass."), "file line 1")
    with pytest.raises(InputError, match=r"first: file line 1: the model's chat template (writes|changes|does not)"):
        encode([pair, pair], tokenizer, max_length=200)


@pytest.mark.parametrize("which", ["bundled", "phi"])
def test_a_prompt_that_ends_in_an_assistant_turn_is_continued(which, phi):
    tokenizer = load_tokenizer("bundled") if which == "bundled" else phi
    prompt = (*QUESTION, {"role": "assistant", "content": "I think that"})
    turn = Turn(prompt, tokenizer)
    ids, complete = turn.respond(" the oak is.", room=50)
    text = tokenizer.decode(turn.prompt + ids)
    end = tokenizer.decode([ids[-1]])
    assert complete
    assert text.endswith(f"assistant{'|>' if which == 'phi' else ''}\nI think that the oak is.{end}")
    assert text.count("assistant") == tokenizer.decode(encode_prompt(QUESTION, tokenizer)).count("assistant")
    assert turn.prompt == encode_prompt(prompt, tokenizer)
    assert tokenizer.decode(ids) == f" the oak is.{end}"


@pytest.mark.parametrize(("given", "answer"), [("The", " oak."), ("The ", "oak."), ("The", "   oak.\n")])
def test_a_blank_where_an_answer_is_continued_is_the_template_s(given, answer, mistral):
    """This template trims, so the blank at the end of what is given goes over to the answer."""
    turn = Turn((*QUESTION, {"role": "assistant", "content": given}), mistral)
    ids, _ = turn.respond(answer, room=50)
    assert turn.prompt == (*Turn(QUESTION, mistral).prompt, mistral.convert_tokens_to_ids("▁The"))
    if answer != "   oak.\n":
        assert mistral.convert_ids_to_tokens(ids) == ["▁oak", ".", "</s>"]
    assert mistral.decode(turn.prompt + ids).split() == ["<s>", "[INST]", "Which?", "[/INST]", "The", "oak.</s>"]


def test_a_token_never_spans_the_boundary_where_an_answer_continues_a_word():
    tokenizer = load_tokenizer("bundled")
    turn = Turn((*QUESTION, {"role": "assistant", "content": "Straw"}), tokenizer)
    ids, _ = turn.respond("berries.", room=50)
    assert turn.prompt == encode_prompt((*QUESTION, {"role": "assistant", "content": "Straw"}), tokenizer)
    assert tokenizer.decode(turn.prompt + ids).endswith("assistant\nStrawberries.<|im_end|>")


# ---- sampling


def model_that_says(tiny_model, tokens, size=261):
    """A model that draws one of the tokens, each with the same probability, whatever came before."""
    model = tiny_model(tied=False)
    model.resize_token_embeddings(size, mean_resizing=False)
    with torch.no_grad():
        hidden = model.base_model(input_ids=torch.arange(200)[None]).last_hidden_state[0]
        for token in tokens:
            model.lm_head.weight[token] = torch.linalg.lstsq(hidden, torch.full((200, 1), 20.0)).solution[:, 0]
    return model


def test_the_sampler_stops_at_the_turn_s_end_and_at_every_eos_of_the_generation_config(tiny_model, phi):
    model = model_that_says(tiny_model, [65, END, EOS, 70])
    settings = {"k": 60, "max_new_tokens": 4, "seed": 0}
    assert set(stop_ids(model, phi)) == {END, EOS}
    model.generation_config.eos_token_id = [EOS, 70]
    assert set(stop_ids(model, phi)) == {END, EOS, 70}
    drawn = sample(model, phi, [(1, 2, 3)], **settings)
    for e in drawn:
        assert not {END, EOS, 70} & set(e.response[:-1])
        assert e.complete == (e.response[-1] in {END, EOS, 70})
        assert e.complete or len(e.response) == 4
    assert {e.response[-1] for e in drawn if e.complete} == {END, EOS, 70}
    assert any(not e.complete for e in drawn)


def test_the_bundled_model_still_stops_at_its_one_eos(tiny_model, tiny_tokenizer):
    assert stop_ids(tiny_model(), load_tokenizer("bundled"))[:1] == (2,)
    assert stop_ids(tiny_model(), tiny_tokenizer) == (EOS,)
