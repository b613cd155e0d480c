"""What the proxy says of responses that its reference samples do not cover, before any training.

A policy leaves the reference's distribution, so accuracy there says little about what it will be paid for.
Held-out topics show the nearest step outside; then responses to another topic, responses with their tokens
shuffled, and random tokens: a proxy that likes them better than real responses will be exploited there.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from derivations.evidence.intervals import interval
from llm.online.proxy import agreements
from llm.scoring.packing import Example

Floats = NDArray[np.float64]
Rate = Callable[[Sequence[Example]], tuple[Floats, Floats]]  # examples, k to a topic -> proxy, gold [topics, k]


def report(
    pool: Sequence[Sequence[Example]], proxy: Floats, gold: Floats, *, rate: Rate, tokens: Sequence[int]
) -> dict[str, Any]:
    """By kind of response: {proxy, gold: mean less that of the reference's own samples of the topic, with a 95 %
    interval over topics; preferred: share of pairs with such a sample in which the proxy prefers the other one}.

    pool [topics][k]: reference samples of topics the proxy was not fitted on, proxy and gold [topics, k] what they
    get; `held-out` has the proxy's accuracy on them. rate: the same of other responses. tokens: ids that random
    responses are made of.
    """
    rng = np.random.default_rng(0)
    agree = np.concatenate(agreements(proxy, gold))
    found: dict[str, Any] = {"held-out": {"accuracy": float(agree.mean()) if len(agree) else None, "pairs": len(agree)}}
    for kind, responses in _strange(pool, rng, tokens).items():
        its_proxy, its_gold = rate(responses)
        found[kind] = {
            "proxy": asdict(interval(its_proxy.mean(1) - proxy.mean(1))),
            "gold": asdict(interval(its_gold.mean(1) - gold.mean(1))),
            "preferred": float((its_proxy[:, :, None] > proxy[:, None, :]).mean()),
        }
    return found


def _strange(
    pool: Sequence[Sequence[Example]], rng: np.random.Generator, tokens: Sequence[int]
) -> dict[str, list[Example]]:
    """Responses of the same number and the same lengths. A final EOS stays where it is."""
    prompts = [own[0].prompt for own in pool]
    others = [pool[i - 1] for i in range(len(pool))]
    bodies = [(e.prompt, e.response[:-1] if e.complete else e.response, e) for own in pool for e in own]
    return {
        "other topic": [
            Example(prompt, e.response, e.complete)
            for prompt, other in zip(prompts, others, strict=True)
            for e in other
        ],
        "shuffled": [_with_body(e, [body[i] for i in rng.permutation(len(body))]) for _, body, e in bodies],
        "random tokens": [_with_body(e, rng.choice(tokens, size=len(body)).tolist()) for _, body, e in bodies],
    }


def _with_body(example: Example, body: Sequence[int]) -> Example:
    end = example.response[-1:] if example.complete else ()
    return Example(example.prompt, (*body, *end), example.complete)
