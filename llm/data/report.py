"""The doctor's report: every finding as data, and in words what it means and what to do."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from llm.data.measure import Lengths
from llm.data.tally import Finding, Tally

SMALL = 100  # comparisons, below which shares are said to rest on few
BIASED = 0.6  # share of pairs whose longer response is preferred, from which it is called a bias
STEP = 0.01  # nats per token, of the example of the length laws
DPO_BETA = 0.1  # reward units per nat


@dataclass
class Report:
    """What was found in a file. reasons: (reason, rows, first place). lengths is None where nothing can be compared."""

    name: str
    formats: dict[str, int]
    rows: int
    tally: Tally
    skipped: int
    reasons: list[tuple[str, int, str]]
    tools: int = 0
    good: int = 0
    bad: int = 0
    paired: int = 0
    eval_name: str | None = None
    lengths: Lengths | None = None
    example: dict[str, Any] = field(default_factory=dict)

    @property
    def format(self) -> str:
        return max(self.formats, key=self.formats.__getitem__)

    @property
    def unpaired(self) -> int:
        return self.good + self.bad

    def findings(self) -> list[tuple[str, Finding, str]]:
        """(what, how often and where first, what to do) of every fault that comparisons can have."""
        tally = self.tally
        against = f"in the evaluation data {self.eval_name}" if self.eval_name else "in another split of the file"
        return [
            ("duplicates", tally.duplicates, "they count twice; --write leaves the later ones out"),
            (
                "contradictory pairs",
                tally.contradictory,
                "one prompt and two responses, preferred both ways; --write leaves both out",
            ),
            ("equal scores", tally.equal_scores, "a pair without a preference; --write leaves it out"),
            (
                "swapped scores",
                tally.swapped_scores,
                "the rejected response has the higher score; see which of the two is right before training",
            ),
            ("leaks", tally.leaks, f"a prompt that is also {against}; --write leaves it out"),
            (
                "markers in contents",
                tally.marked,
                "text of a turn or of a control token, which a model may take for one; escape it or drop the rows",
            ),
        ]

    def advice(self) -> list[str]:
        """What to do, in words, the most important first."""
        return [*self._advice()] or ["Nothing was found that would have to be mended before training."]

    def _advice(self) -> Iterator[str]:
        n = self.tally.comparisons
        if self.unpaired:
            ratio = f"{self.good} good and {self.bad} bad responses"
            yield (
                f"The data are unpaired ({ratio}): `train --objective kto` takes them as they are. For other "
                f"objectives {self.paired} pairs can be made of prompts that have both kinds; --write PAIRS.jsonl "
                "writes them."
            )
        if self.skipped:
            share = 100 * self.skipped / max(1, self.rows)
            yield (
                f"{self.skipped} of {self.rows} rows ({share:.1f} %) cannot be used; the reasons are listed with the "
                "first row of each."
            )
        for what, finding, mend in self.findings():
            if finding.count:
                first = f"{finding.first}{f': {finding.detail}' if finding.detail else ''}"
                yield f"{what[0].upper()}{what[1:]}: {finding.count} of {n} (first: {first}): {mend}."
        if self.lengths is not None:
            yield from self._length_advice(self.lengths)
        if self.tools:
            yield f"The tools of {self.tools} rows are left out: the model is not told of them."
        if 0 < n < SMALL:
            yield f"These are few comparisons ({n}): shares have wide intervals, and a run on them shows little."

    def _length_advice(self, lengths: Lengths) -> Iterator[str]:
        if lengths.same_after_cut:
            yield (
                f"{lengths.same_after_cut} of {lengths.alike} comparisons whose responses begin alike are the same "
                f"once they are cut to {lengths.max_length} tokens; they are skipped. A larger --max-length keeps them."
            )
        if lost := round((1 - lengths.kept) * lengths.sampled):
            yield (
                f"{lost} of {lengths.sampled} sampled comparisons are skipped at --max-length {lengths.max_length} or "
                "by the chat template; the reasons are listed."
            )
        if not lengths.chosen and lengths.whole < 0.95:
            yield (
                f"--max-length {lengths.max_length} keeps only {100 * lengths.whole:.0f} % of comparisons whole; leave "
                "it out to have it chosen from the data."
            )
        share = lengths.longer_chosen
        longer = share.mean >= 0.5
        extreme = share.low > BIASED if longer else share.high < 1 - BIASED
        if lengths.difference and extreme:
            word = "longer" if longer else "shorter"
            yield (
                f"Length bias: the {word} response is preferred in {100 * max(share.mean, 1 - share.mean):.0f} % of "
                f'pairs, so "{word} is better" can be learned without reading. {self.length_laws(lengths)}'
            )

    def length_laws(self, lengths: Lengths) -> str:
        """What a length difference does to the margins of DPO and SimPO, which is exact."""
        gain = DPO_BETA * STEP * lengths.mean_difference
        return (
            f"DPO's margin is a sum over tokens: raising every token's log-prob by {STEP} nats over the reference "
            f"changes it by {DPO_BETA} x {STEP} x {lengths.mean_difference:.1f} = {gain:+.4f} per pair on average. "
            "SimPO's is a mean per token: the same change leaves it where it is, so length pays only as far as longer "
            "answers are likelier per token."
        )

    def as_json(self) -> dict[str, Any]:
        """Every number of the report, for machines."""
        found: dict[str, Any] = {
            "file": self.name, "format": self.format, "formats": self.formats, "rows": self.rows,
            "comparisons": self.tally.comparisons, "responses_at_most": self.tally.largest, "tied": self.tally.tied,
            "skipped": self.skipped, "tools_left_out": self.tools, "distinct_prompts": len(self.tally.prompts),
            "reasons": [{"reason": r, "count": n, "first": where} for r, n, where in self.reasons],
            "findings": {
                what.replace(" ", "_"): {"count": f.count, "first": f.first or None, "detail": f.detail or None}
                for what, f, _ in self.findings()
            },
            "unpaired": {"good": self.good, "bad": self.bad, "pairs": self.paired} if self.unpaired else None,
            "advice": self.advice(),
        }  # fmt: skip
        tally, lengths = self.tally, self.lengths
        found["length_bias"] = {
            "pairs": tally.pairs, "longer_chosen_characters": tally.longer_chosen,
            "shorter_chosen_characters": tally.shorter_chosen,
        }  # fmt: skip
        if lengths is not None:
            share = lengths.longer_chosen
            found["length_bias"] |= {
                "longer_chosen_tokens": {"share": share.mean, "low": share.low, "high": share.high},
                "mean_difference_tokens": lengths.mean_difference,
                "laws": self.length_laws(lengths),
            }
            found["lengths"] = {
                "sampled": lengths.sampled, "max_length": lengths.max_length, "chosen": lengths.chosen,
                "model_limit": lengths.limit, "whole": lengths.whole, "kept": lengths.kept, "cut": lengths.cut,
                "same_after_truncation": lengths.same_after_cut, "begin_alike": lengths.alike,
                "prompt_tokens": summary(lengths.prompts), "response_tokens": summary(lengths.responses),
            }  # fmt: skip
            found["example"] = self.example
        return found


def summary(values: list[int]) -> dict[str, float]:
    """Mean, median, 95 % quantile and maximum."""
    if not values:
        return {}
    ordered = sorted(values)
    at = {"median": 0.5, "q95": 0.95}
    found: dict[str, float] = {name: ordered[min(len(values) - 1, int(q * len(values)))] for name, q in at.items()}
    return {"mean": sum(values) / len(values), **found, "longest": ordered[-1]}
