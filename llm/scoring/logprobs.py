"""Log-probs of responses given prompts: the hot path, one function for pairs, rankings and groups.

Responses are packed behind their shared prompt (`llm.scoring.packing`) and run through the transformers
model's own forward, with position ids and an explicit mask; only states that predict a response token
go through the head, in float32 chunks (`llm.scoring.head`). What counts is decided by lengths, never by
token ids.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from derivations.cli.errors import InputError
from llm.scoring.attention import attention_inputs
from llm.scoring.head import head_logps
from llm.scoring.packing import Example, Pack, packs, put_back
from llm.scoring.passes import pass_sizes

ROW_TOKENS = 1024  # tokens of a prompt and its responses before the prompt is copied


def sequence_logps(
    model: Any,
    examples: Sequence[Example],
    *,
    batch_tokens: int | None = None,
    row_tokens: int = ROW_TOKENS,
    chunk_tokens: int | None = None,
) -> Tensor:
    """log pi(response | prompt), summed over the response's tokens.

    Args:
        model: a causal transformers model that passes `llm.scoring.models.check_model`.
        examples: those with equal prompts share their prompt's forward pass.
        batch_tokens: most places of one forward pass (default: by the model's device, `llm.scoring.passes`).
        row_tokens: tokens of a prompt with its responses before the prompt is copied.
        chunk_tokens: positions projected at once (default: by the device).

    Returns:
        One value per example, float32 [n], nats, with gradient.

    Raises:
        InputError: a sequence is longer than the model can place.
    """
    return _by_pack(model, examples, batch_tokens, row_tokens, chunk_tokens, with_features=False)[0]


def logps_and_features(
    model: Any, examples: Sequence[Example], *, batch_tokens: int | None = None, row_tokens: int = ROW_TOKENS
) -> tuple[Tensor, Tensor]:
    """As `sequence_logps`, and the mean last hidden state over each response's positions: [n], [n, width]."""
    return _by_pack(model, examples, batch_tokens, row_tokens, None, with_features=True)


def _by_pack(
    model: Any,
    examples: Sequence[Example],
    batch_tokens: int | None,
    row_tokens: int,
    chunk_tokens: int | None,
    *,
    with_features: bool,
) -> tuple[Tensor, Tensor]:
    require_room(model.config, max(map(len, examples)))
    device = model.get_input_embeddings().weight.device
    usual = pass_sizes(device.type)
    head = model.get_output_embeddings()
    order: list[int] = []
    logps: list[Tensor] = []
    features: list[Tensor] = []
    for pack in packs(
        examples,
        batch_tokens=batch_tokens or usual.batch_tokens,
        row_tokens=row_tokens,
        one_row=model.config._attn_implementation == "flex_attention",
        device=device,
    ):
        states = _states(model, pack, device)
        tokens = head_logps(
            states[pack.predictor],
            head.weight,
            pack.target,
            bias=getattr(head, "bias", None),
            chunk_tokens=chunk_tokens or usual.chunk_tokens,
        )
        order += pack.examples
        logps.append(by_response(tokens, pack, "sum"))
        if with_features:
            features.append(by_response(states[pack.own].float(), pack, "mean"))
    back = put_back(order, device)
    return torch.cat(logps)[back], torch.cat(features)[back] if with_features else torch.empty(0)


def by_response(values: Tensor, pack: Pack, how: Literal["sum", "mean"]) -> Tensor:
    """Sum or mean over each response's tokens: [response tokens, ...] -> [responses, ...].

    On a CPU one call per response; elsewhere one for all, which sums in another order.
    """
    if values.device.type == "cpu":
        return torch.stack([getattr(own, how)(0) for own in values.split(pack.sizes)])
    return segments(values, pack.lengths, how)


def segments(values: Tensor, lengths: Tensor, how: Literal["sum", "mean"]) -> Tensor:
    """`by_response` in one call. unsafe: the lengths are not read back to be checked."""
    return torch.segment_reduce(values, how, lengths=lengths, unsafe=True)


def _states(model: Any, pack: Pack, device: torch.device) -> Tensor:
    """Last hidden states, flat: [rows * width, d]."""
    out = model.base_model(
        input_ids=pack.ids,
        position_ids=pack.positions,
        use_cache=False,
        **attention_inputs(pack, model.config._attn_implementation, device),
    )
    return out.last_hidden_state.flatten(0, 1)


def require_room(config: Any, longest: int, *, mend: str = "lower --max-length") -> None:
    """Refuse (InputError) sequences that the model has no positions for, or that its window would cut.

    An explicit mask replaces a model's sliding window, which changes nothing only while the window is
    no shorter than the sequence. mend: what the message tells the user to do.
    """
    for limit, what in _limits(config):
        if longest > limit:
            raise InputError(f"a sequence of {longest} tokens, but the model has {what} {limit}; {mend}")


def longest_sequence(config: Any) -> int | None:
    """Tokens of the longest sequence that `require_room` lets pass, if there is a limit."""
    return min((limit for limit, _ in _limits(config)), default=None)


def _limits(config: Any) -> list[tuple[int, str]]:
    places = getattr(config, "max_position_embeddings", None)
    window = getattr(config, "sliding_window", None)
    found = ((places, "positions"), (window, "a sliding window of"))
    return [(limit, what) for limit, what in found if limit is not None]
