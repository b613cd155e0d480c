"""A language model small enough for thousands of runs: random Llama weights, bytes as tokens."""

from pathlib import Path
from typing import Any

CHAT_TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tiny_tokenizer() -> Any:
    """One token a byte, then <eos> (256) and <pad> (257); every text can be encoded."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", pad_token="<pad>")  # noqa: S106
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def tiny_model(*, tied: bool = True, seed: int = 0, spread: float = 0.15) -> Any:
    """Weights from a seed, large enough that no two tokens look alike. tied: the head is the input embedding."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from llm.scoring import attention

    torch.set_num_threads(1)  # matrices this small lose more to threads than they gain
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=spread,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=256,
        pad_token_id=257,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
    model.set_attn_implementation(attention.NAME)
    return model


def save_tiny(folder: Path) -> Path:
    """The tiny model as a folder that `from_pretrained` loads. Returns it."""
    from llm.scoring.export import save_model

    save_model(tiny_model(), tiny_tokenizer(), folder)
    return folder
