"""What a model's chat template writes: a prompt, an answer behind it, and the token that ends the answer's turn.

That token need not be the tokenizer's EOS (Phi-3 ends turns with <|end|>, Gemma with <end_of_turn>), and between
prompt and answer there may be more than the answer (Mistral's blank). So answers are rendered, never put together.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from derivations.cli.errors import InputError
from llm.data.row_formats import Comparison, Message, Unusable
from llm.engine.checkpoints import first_line

PROBE = "ANSWER"  # stands for an answer, to see what is written behind it


def render(messages: Sequence[Message], tokenizer: Any, *, what: str = "prompt", **options: Any) -> str:
    """Text of the messages. Raises Unusable with the template's words if it refuses them."""
    try:
        return str(tokenizer.apply_chat_template(list(messages), tokenize=False, **options))
    except Exception as error:  # a template is a program: most refuse role orders, some just fail
        raise Unusable(f"the model's chat template refuses the {what}: {first_line(error)}") from error


def render_prompt(messages: Sequence[Message], tokenizer: Any) -> str:
    """Text up to where the response begins. A last message of the assistant is left open, and the response goes on
    from it: it is no turn of its own."""
    if messages and messages[-1]["role"] == "assistant":
        return render(messages, tokenizer, continue_final_message=True)
    return render(messages, tokenizer, add_generation_prompt=True)


def answered(messages: Sequence[Message], answer: str) -> list[Message]:
    """The conversation with its answer in place."""
    if messages and messages[-1]["role"] == "assistant":
        return [*messages[:-1], {"role": "assistant", "content": messages[-1]["content"] + answer}]
    return [*messages, {"role": "assistant", "content": answer}]


@dataclass(frozen=True)
class Ending:
    """What the template writes behind an answer.

    text: all of it. terminator: its part up to and with the token that ends the turn; empty if none does. token: id
    of that token, or the tokenizer's EOS.
    """

    text: str
    terminator: str
    token: int


def ending(messages: Sequence[Message], tokenizer: Any, control: re.Pattern[str]) -> Ending:
    """How the template ends an answer to the messages. Raises Unusable if it writes no answer at all.

    control: see `control_tokens`.
    """
    whole = render(answered(messages, PROBE), tokenizer, what="answered prompt")
    _, found, text = whole.rpartition(PROBE)
    if not found:
        raise Unusable("the model's chat template does not write the response")
    end = control.search(text)
    if end is None:
        return Ending(text, "", tokenizer.eos_token_id)
    return Ending(text, text[: end.end()], tokenizer.convert_tokens_to_ids(end[0]))


def control_tokens(tokenizer: Any) -> re.Pattern[str]:
    """Pattern of the texts that are parsed as control tokens wherever they stand: special tokens, and added tokens
    that the template writes."""
    template = str(tokenizer.chat_template or "")
    added = {
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.special or (token.content in template and not token.content.isspace())  # Gemma has added blanks
    }
    return any_of([*added, *tokenizer.all_special_tokens])


def stop_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Every token that ends a response: EOS of tokenizer and generation config, and the template's end of turn.

    Raises InputError if the template refuses a question and its answer.
    """
    named = getattr(model.generation_config, "eos_token_id", None)
    ids = [tokenizer.eos_token_id, *(named if isinstance(named, list | tuple) else [named])]
    if tokenizer.chat_template:
        try:
            ids.append(ending([{"role": "user", "content": "?"}], tokenizer, control_tokens(tokenizer)).token)
        except Unusable as reason:
            raise InputError(f"no end of a response is known: {reason}") from reason
    return tuple(dict.fromkeys(int(i) for i in ids if i is not None))


def without_ends(text: str, ends: re.Pattern[str]) -> str:
    """A response up to an end that it spells out itself. Raises Unusable if it goes on behind it."""
    first = ends.search(text)
    if first is None:
        return text
    if ends.sub("", text[first.start() :]).strip():
        raise Unusable("a response goes on behind its end-of-sequence token")
    return text[: first.start()]


def control_text_warning(name: str, comparisons: Sequence[Comparison], tokenizer: Any) -> str | None:
    """One line on the comparisons that spell out control tokens, which no tokenizer tells from real ones, if any do.

    name: of the file or data set. An end at the end of a response does not count.
    """
    control = control_tokens(tokenizer)
    at_the_end = re.compile(rf"(?:{control.pattern})\s*\Z")
    rows = []
    for comparison in comparisons:
        texts = [m["content"] for m in comparison.prompt] + [at_the_end.sub("", r) for r in comparison.responses]
        if found := next(filter(None, map(control.search, texts)), None):
            rows.append((comparison.where, found[0]))
    if not rows:
        return None
    where, token = rows[0]
    return (
        f"warning: {name}: {len(rows)} of {len(comparisons)} comparisons hold the text of a control token, which is "
        f"parsed as that token (first: {where}, {token!r}); escape it in the data if it is meant as text"
    )


def any_of(texts: Sequence[str]) -> re.Pattern[str]:
    """Pattern of any of the texts, the longest that fits."""
    longest_first = sorted(filter(None, set(texts)), key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
