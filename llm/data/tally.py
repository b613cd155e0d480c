"""What one pass over the comparisons finds, in bounded memory and without a tokenizer: duplicates, contradictions,
scores that say otherwise, prompts on both sides of a split, markers inside contents, and which response is longer.

Comparisons are known by 64-bit hashes, so that a pass over millions keeps numbers, not texts.
"""

import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from llm.data.row_formats import Comparison, Judged, Message

SAMPLE = 1500  # comparisons that are tokenized; the 95 % quantile of so many is good to a percent
NEARLY_SAME = 1000  # comparisons whose responses begin alike, kept to see whether they are the same once cut
ALIKE = 64  # characters that two responses begin with alike
LONGEST = 100_000  # characters of a comparison that is kept
MOST_KEPT = 5_000_000  # hashes; what comes later is not compared with what came before
TURNS = (  # what other templates write at the turns of a conversation
    *("\n\nHuman:", "\n\nAssistant:", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<start_of_turn>", "[INST]"),
    *("[/INST]", "### Instruction:", "### Response:", "<|user|>", "<|assistant|>", "<extra_id_1>"),
)


@dataclass
class Finding:
    """How many rows have a fault, and where the first is. detail: of the first."""

    count: int = 0
    first: str = ""
    detail: str = ""

    def add(self, where: str, detail: str = "") -> None:
        if not self.count:
            self.first, self.detail = where, detail
        self.count += 1


@dataclass
class Tally:
    """The findings so far. markers: texts that are a turn's or a control token's; held_out: hashes of the prompts of
    the evaluation data."""

    markers: Sequence[str] = TURNS
    held_out: Collection[int] = ()
    comparisons: int = 0
    largest: int = 0  # responses of a comparison
    tied: int = 0  # comparisons with ties
    duplicates: Finding = field(default_factory=Finding)
    contradictory: Finding = field(default_factory=Finding)
    equal_scores: Finding = field(default_factory=Finding)
    swapped_scores: Finding = field(default_factory=Finding)
    leaks: Finding = field(default_factory=Finding)
    marked: Finding = field(default_factory=Finding)
    nearly_same: int = 0
    pairs: int = 0  # two responses of which one is better
    longer_chosen: int = 0
    shorter_chosen: int = 0
    scored: int = 0
    prompts: set[int] = field(default_factory=set)
    contradicted: set[int] = field(default_factory=set)
    sample: list[Comparison] = field(default_factory=list)
    candidates: list[Comparison] = field(default_factory=list)
    oversized: int = 0  # comparisons too long to be kept for the sample
    _seen: set[int] = field(default_factory=set)
    _rng: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 (a sample, no secret)
    _splits: dict[int, str] = field(default_factory=dict)

    def add(self, comparison: Comparison, split: str | None = None) -> None:
        """Count a comparison. split: what its row says it belongs to (train, validation), if it does."""
        self.comparisons += 1
        self.largest = max(self.largest, len(comparison.responses))
        self.tied += comparison.tied
        prompt = prompt_hash(comparison.prompt)
        self._find_leak(prompt, comparison.where, split)
        self._find_repetition(prompt, comparison)
        self._find_scores(comparison)
        self._find_marker(comparison)
        self._measure(comparison)
        self._keep(comparison)

    def _find_leak(self, prompt: int, where: str, split: str | None) -> None:
        if prompt in self.held_out:
            self.leaks.add(where, "its prompt is in the evaluation data")
        elif split is not None:
            known = self._splits.get(prompt, split)
            if len(self._splits) < MOST_KEPT:
                self._splits.setdefault(prompt, split)
            if known != split:
                self.leaks.add(where, f"its prompt is in split {known!r} and in {split!r}")
        if len(self.prompts) < MOST_KEPT:
            self.prompts.add(prompt)

    def _find_repetition(self, prompt: int, comparison: Comparison) -> None:
        keys = pair_keys(prompt, comparison)
        if all(key in self._seen for key, _, _ in keys):
            self.duplicates.add(comparison.where)
        elif swapped := [either for _, swap, either in keys if swap in self._seen]:
            self.contradictory.add(comparison.where, "an earlier row prefers the other response")
            self.contradicted.update(swapped)
        if len(self._seen) < MOST_KEPT:
            self._seen.update(key for key, _, _ in keys)

    def _find_scores(self, comparison: Comparison) -> None:
        if len(comparison.scores) != 2:
            return
        chosen, rejected = comparison.scores
        self.scored += 1
        if chosen == rejected:
            self.equal_scores.add(comparison.where, f"both {chosen:g}")
        elif chosen < rejected:
            self.swapped_scores.add(comparison.where, f"chosen {chosen:g}, rejected {rejected:g}")

    def _find_marker(self, comparison: Comparison) -> None:
        for text in (*(m["content"] for m in comparison.prompt), *comparison.responses):
            for marker in self.markers:
                if marker in text and not text.endswith(marker):
                    self.marked.add(comparison.where, repr(marker))
                    return

    def _measure(self, comparison: Comparison) -> None:
        for better, worse in comparison.decided():
            difference = len(comparison.responses[better]) - len(comparison.responses[worse])
            self.pairs += 1
            self.longer_chosen += difference > 0
            self.shorter_chosen += difference < 0

    def _keep(self, comparison: Comparison) -> None:
        size = sum(len(m["content"]) for m in comparison.prompt) + sum(map(len, comparison.responses))
        if size > LONGEST:
            self.oversized += 1
            return
        first, last = comparison.responses[0], comparison.responses[-1]
        if first[:ALIKE] == last[:ALIKE] and len(first) >= ALIKE:
            self.nearly_same += 1
            if len(self.candidates) < NEARLY_SAME:
                self.candidates.append(comparison)
        if len(self.sample) < SAMPLE:
            self.sample.append(comparison)
        elif (place := self._rng.randrange(self.comparisons)) < SAMPLE:
            self.sample[place] = comparison

    @property
    def repeated_prompts(self) -> int:
        """Comparisons whose prompt another one has had before."""
        return self.comparisons - len(self.prompts) if len(self.prompts) < MOST_KEPT else 0


def prompt_hash(prompt: Iterable[Message]) -> int:
    """What a prompt is known by."""
    return hash(tuple((m["role"], m["content"].strip()) for m in prompt))


def pair_keys(prompt: int, comparison: Comparison) -> list[tuple[int, int, int]]:
    """Of every two responses of which one is better: the key of the pair, of the same pair swapped, and of either."""
    texts = [hash(text.strip()) for text in comparison.responses]
    return [
        (hash((prompt, texts[i], texts[j])), hash((prompt, texts[j], texts[i])), hash((prompt, texts[i] ^ texts[j])))
        for i, j in comparison.decided()
    ]


MOST_WAITING = 2**27  # characters of unpaired responses kept until one of the other kind comes


@dataclass
class Pairing:
    """Good and bad responses to one prompt as pairs: each with the first of the other kind that is left."""

    good: int = 0
    bad: int = 0
    pairs: int = 0
    _waiting: dict[tuple[int, bool], list[Judged]] = field(default_factory=dict)
    _kept: int = 0

    def pair(self, items: Iterable[Comparison | Judged]) -> Iterator[Comparison]:
        """The comparisons among the items, and those that pairing gives."""
        for item in items:
            if isinstance(item, Comparison):
                yield item
                continue
            good, prompt = item.score > 0, prompt_hash(item.prompt)
            self.good += good
            self.bad += not good
            others = self._waiting.get((prompt, not good))
            if others and others[0].response != item.response:
                other = others.pop(0)
                self._kept -= _size(other)
                self.pairs += 1
                texts = (item.response, other.response) if good else (other.response, item.response)
                yield Comparison(item.prompt, texts, other.where)
            elif self._kept < MOST_WAITING:
                self._kept += _size(item)
                self._waiting.setdefault((prompt, good), []).append(item)


def _size(judged: Judged) -> int:
    """Characters of a response with its prompt, and a little for the rest."""
    return len(judged.response) + sum(len(m["content"]) for m in judged.prompt) + 500
