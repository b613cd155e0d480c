"""Batches of token ids for the benchmark: from a preference file, or with the lengths of human dialogue.

`dialogue` draws lengths so that batches look like those of hh-rlhf at 4 pairs and 512 tokens, where
padded batches were measured to hold 1.9 times their tokens and 14 % of their places to be supervised:
prompts lognormal with median 110 (at most 448), responses lognormal with median 33. A test holds the
two figures. The ids are pieces of this project's README: time and
memory do not depend on them, but random ids make states so odd that float32 itself is off by 1e-5.
"""

import random
from pathlib import Path
from typing import Any

from benchmarks.device import model_place
from llm.data.files import read_source
from llm.data.tokens import encode
from llm.scoring.models import load_tokenizer

README = Path(__file__).parents[1] / "README.md"


def make_batches(settings: Any, *, seed: int) -> list[list[dict[str, list[int]]]]:
    """batches + 1 batches of pairs {"prompt", "chosen", "rejected"} of ids."""
    rng = random.Random(seed)  # noqa: S311
    wanted = (settings.batches + 1) * settings.pairs
    if settings.data == "file":
        pairs = _from_file(settings, rng)
    else:
        stream = load_tokenizer(model_place(settings.model))(README.read_text(encoding="utf-8")).input_ids
        pairs = [_dialogue(settings, stream, rng) for _ in range(wanted)]
    while len(pairs) < wanted:
        pairs += pairs
    return [pairs[i : i + settings.pairs] for i in range(0, wanted, settings.pairs)]


def _from_file(settings: Any, rng: random.Random) -> list[dict[str, list[int]]]:
    source = read_source(settings.file)
    groups, _ = encode(source.comparisons, load_tokenizer(model_place(settings.model)), max_length=settings.max_length)
    rng.shuffle(groups)
    return [
        dict(zip(("prompt", "chosen", "rejected"), (list(e[0].prompt), *(list(x.response) for x in e)), strict=True))
        for e in (g.examples for g in groups)
    ]


def _dialogue(settings: Any, stream: list[int], rng: random.Random) -> dict[str, list[int]]:
    prompt = min(settings.max_length * 7 // 8, max(8, round(rng.lognormvariate(4.7, 0.8))))
    room = settings.max_length - prompt
    sizes = {"prompt": prompt}
    sizes |= {side: min(room, max(2, round(rng.lognormvariate(3.5, 1.0)))) for side in ("chosen", "rejected")}
    starts = {name: rng.randrange(len(stream) - size) for name, size in sizes.items()}
    return {name: stream[start : start + sizes[name]] for name, start in starts.items()}
