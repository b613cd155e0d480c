"""The length that sequences are cut to: chosen from the data unless it is given."""

import math
from collections.abc import Sequence

import numpy as np

KEPT = 0.95  # of the comparisons fit whole
STEP = 64  # tokens to which a chosen length is rounded up


def choose_length(needs: Sequence[int], *, limit: int | None, kept: float = KEPT) -> int:
    """The shortest multiple of 64 into which a share of the comparisons fits whole, prompt and longest response
    together.

    Args:
        needs: tokens of each comparison's prompt and longest response.
        limit: the longest sequence of the model, which the length does not pass.
        kept: the share.
    """
    at = max(0, math.ceil(kept * len(needs)) - 1)
    needed = -(-max(2, int(np.partition(np.asarray(needs), at)[at])) // STEP) * STEP
    return needed if limit is None else min(needed, limit)


def said_length(length: int, needs: Sequence[int], *, limit: int | None) -> str:
    """The choice in words: what fits, and what bounds it."""
    whole = sum(need <= length for need in needs)
    bound = f", which is all the model has room for (95 % need {choose_length(needs, limit=None)})"
    why = bound if limit is not None and choose_length(needs, limit=None) > limit else ""
    return f"--max-length {length} chosen from the data: {100 * whole / len(needs):.0f} % of comparisons fit whole{why}"
