"""What the tokens of a sample say: lengths, the length that keeps 95 %, what is cut, and the bias towards length."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from derivations.evidence.intervals import Interval, proportion
from llm.data.files import Skipped
from llm.data.lengths import choose_length
from llm.data.tally import Tally
from llm.data.tokens import Group, Whole, fit, tokenize


@dataclass(frozen=True)
class Lengths:
    """Of the sampled comparisons.

    max_length: as given or chosen. chosen: it was chosen. limit: the model's. needs: tokens of each comparison.
    kept: share of comparisons that are used; whole: share that fit uncut; cut: share of the responses used that are
    cut. prompts, responses: tokens, each in [sample]. difference: tokens of the better response minus the worse.
    same_after_cut: comparisons of which both responses are the same once cut, among `alike` that begin alike.
    """

    sampled: int
    max_length: int
    chosen: bool
    limit: int | None
    needs: list[int]
    kept: float
    whole: float
    cut: float
    prompts: list[int]
    responses: list[int]
    difference: list[int]
    same_after_cut: int
    alike: int

    @property
    def longer_chosen(self) -> Interval:
        """Share of pairs of unequal lengths whose better response is the longer one."""
        unequal = [d for d in self.difference if d]
        return proportion(sum(d > 0 for d in unequal), len(unequal))

    @property
    def mean_difference(self) -> float:
        return sum(self.difference) / max(1, len(self.difference))


def measure(
    tally: Tally, tokenizer: Any, *, limit: int | None, max_length: int | None
) -> tuple[Lengths, Sequence[Group], Skipped]:
    """Lengths of the sample, its comparisons as tokens, and those that the tokenizer or its template refuses."""
    wholes, refused = tokenize(tally.sample, tokenizer, most=limit)
    needs = [whole.need for whole in wholes]
    unkept = round(tally.oversized * len(tally.sample) / max(1, tally.comparisons - tally.oversized))
    length = max_length or choose_length([*needs, *[2**31] * unkept] or [2], limit=limit or max(needs, default=2))
    groups, unusable = fit(wholes, max_length=length, pairs_only=False)
    refused = [*refused, *unusable]
    used = [example for group in groups for example in group.examples]
    same, _ = tokenize(tally.candidates, tokenizer, most=length)
    lengths = Lengths(
        sampled=len(tally.sample),
        max_length=length,
        chosen=max_length is None,
        limit=limit,
        needs=needs,
        kept=1 - len(refused) / max(1, len(tally.sample)),
        whole=sum(need <= length for need in needs) / max(1, len(needs)),
        cut=sum(not example.complete for example in used) / max(1, len(used)),
        prompts=[len(whole.prompt) for whole in wholes],
        responses=[len(ids) for whole in wholes for ids, _ in whole.responses],
        difference=[d for whole in wholes for d in differences(whole)],
        same_after_cut=sum(_same(whole, length) for whole in same),
        alike=len(tally.candidates),
    )
    return lengths, groups, refused


def differences(whole: Whole) -> list[int]:
    """Tokens of the better response minus those of the worse one, of every two responses."""
    sizes = [len(ids) for ids, _ in whole.responses]
    return [sizes[i] - sizes[j] for i, j in whole.comparison.decided()]


def _same(whole: Whole, length: int) -> bool:
    room = max(1, length - len(whole.prompt))
    return len({ids[:room] for ids, _ in whole.responses}) < len(whole.responses)


def histogram(values: Sequence[int], bins: int = 8) -> list[tuple[int, int, int]]:
    """(lowest, highest, count) of at most `bins` classes of equal width over the values."""
    low, high = min(values), max(values)
    width = max(1, -(-(high - low + 1) // bins))
    edges = range(low, high + 1, width)
    return [(edge, edge + width - 1, sum(edge <= v < edge + width for v in values)) for edge in edges]
