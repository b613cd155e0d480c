"""`inspect-data --write`: the usable comparisons in one format, without what the findings say should go."""

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from derivations.cli.errors import InputError, reason
from derivations.cli.files import to_json
from llm.data.files import Reading
from llm.data.row_formats import Comparison
from llm.data.tally import MOST_KEPT, Pairing, Tally, pair_keys, prompt_hash
from llm.settings.inspect import InspectConfig


def write_clean(config: InspectConfig, tally: Tally, held_out: Collection[int]) -> str:
    """Write the comparisons in a second pass; what was written, in words. Raises InputError if that cannot be done."""
    path = Path(str(config.write))
    reading = Reading(config.data, lambda where, why: None, config.shape, config.map)
    left_out: Counter[str] = Counter()
    seen: set[int] = set()
    written = 0
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            for comparison in Pairing().pair(reading):
                why = fault(comparison, tally, held_out, seen)
                if why:
                    left_out[why] += 1
                    continue
                file.write(to_json(as_row(comparison, rankings=tally.largest > 2)) + "\n")
                written += 1
        temporary.replace(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        temporary.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {reason(error)}") from error
    without = ", ".join(f"{n} {why}" for why, n in left_out.most_common())
    shape = "rankings" if tally.largest > 2 else "pairs"
    return f"wrote {written} comparisons (format {shape}) to {path}" + (f"; left out: {without}" if without else "")


def fault(comparison: Comparison, tally: Tally, held_out: Collection[int], seen: set[int]) -> str | None:
    """Why a comparison is left out, if it is."""
    prompt = prompt_hash(comparison.prompt)
    keys = pair_keys(prompt, comparison)
    if prompt in held_out:
        return "leaks"
    if any(either in tally.contradicted for _, _, either in keys):
        return "contradictory"
    if all(key in seen for key, _, _ in keys):
        return "duplicates"
    if len(seen) < MOST_KEPT:
        seen.update(key for key, _, _ in keys)
    if len(comparison.scores) == 2 and comparison.scores[0] == comparison.scores[1]:
        return "with equal scores"
    return None


def as_row(comparison: Comparison, *, rankings: bool) -> dict[str, Any]:
    """A comparison as a row of the format `pairs`, or `rankings` with scores that keep ties."""
    prompt = list(comparison.prompt)
    if not rankings:
        sides = zip(("chosen", "rejected"), comparison.responses, strict=True)
        return {"prompt": prompt} | {name: [{"role": "assistant", "content": text}] for name, text in sides}
    places = comparison.places or range(len(comparison.responses))
    return {"prompt": prompt, "responses": list(comparison.responses), "scores": [-place for place in places]}
