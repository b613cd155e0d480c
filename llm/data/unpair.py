"""Single responses, each good or bad, of any source: unpaired data as they are, and the two sides of every pair."""

from collections.abc import Iterator

from llm.data.files import Source
from llm.data.row_formats import Comparison
from llm.data.spool import Spool


def unpaired(source: Source) -> Source:
    """The source with comparisons of one response, whose score is 1 for a good one and 0 for a bad one. A ranking is
    skipped: which of its responses are good, it does not say."""
    skipped = Spool(source.skipped)

    def responses() -> Iterator[Comparison]:
        for judged in source.judged:
            yield Comparison(judged.prompt, (judged.response,), judged.where, scores=(judged.score,))
        for comparison in source.comparisons:
            if len(comparison.responses) > 2:
                skipped.append((comparison.where, "a ranking does not say which responses are good and which are bad"))
                continue
            for text, score, side in zip(comparison.responses, (1.0, 0.0), ("chosen", "rejected"), strict=True):
                yield Comparison(comparison.prompt, (text,), f"{comparison.where}, {side}", scores=(score,))

    return Source(source.name, source.shape, Spool(responses()), skipped, tools=source.tools)
