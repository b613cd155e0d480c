"""What `inspect-data` prints: the shape found, counts, length histogram, and one comparison token by token."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from derivations.cli.errors import InputError
from llm.data.chat import control_text_warning
from llm.data.files import Skipped, read_source, require_usable
from llm.data.tokens import Group, encode
from llm.scoring.models import load_tokenizer
from llm.scoring.packing import Example
from llm.settings.inspect import InspectConfig

BARS = 40  # width of the longest bar
BINS = 8


def inspect_data(config: InspectConfig, console: Console | None = None) -> None:
    """Print the report. Raises InputError on bad input."""
    source = read_source(config.data, shape=config.shape)
    require_usable(source)
    tokenizer = load_tokenizer(config.model)
    groups, skipped = encode(source.comparisons, tokenizer, max_length=config.max_length, pairs_only=False)
    if config.example >= len(groups):
        raise InputError(f"--example {config.example}, but there are {len(groups)} usable comparisons")
    console = console or Console(highlight=False)
    _counts(console, source.shape, groups, source.skipped + skipped)
    if warning := control_text_warning(source.name, source.comparisons, tokenizer):
        console.print(Text(warning))
    _histogram(console, "prompt tokens", [len(g.examples[0].prompt) for g in groups])
    _histogram(console, "response tokens", [len(e.response) for g in groups for e in g.examples])
    _show(console, groups[config.example], tokenizer)


def _counts(console: Console, shape: str, groups: Sequence[Group], skipped: Skipped) -> None:
    sizes = sorted({len(g.examples) for g in groups})
    cut = sum(not e.complete for g in groups for e in g.examples)
    console.print(f"shape: {shape}")
    console.print(f"comparisons: {len(groups)} usable (of {', '.join(map(str, sizes))} responses), {len(skipped)} not")
    console.print(f"responses truncated: {cut}")
    for where, reason in skipped[:5]:
        console.print(Text(f"skipped {where}: {reason}"))
    if len(skipped) > 5:
        console.print(f"skipped {len(skipped) - 5} more")


def histogram(values: Sequence[int], bins: int = BINS) -> list[tuple[int, int, int]]:
    """(lowest, highest, count) of at most `bins` classes of equal width over the values."""
    low, high = min(values), max(values)
    width = max(1, -(-(high - low + 1) // bins))
    edges = range(low, high + 1, width)
    return [(edge, edge + width - 1, sum(edge <= v < edge + width for v in values)) for edge in edges]


def _histogram(console: Console, title: str, values: Sequence[int]) -> None:
    console.print(f"\n{title}: mean {sum(values) / len(values):.1f}, longest {max(values)}")
    rows = histogram(values)
    most = max(count for _, _, count in rows)
    for low, high, count in rows:
        console.print(f"  {low:5}-{high:<5} {'█' * -(-BARS * count // most)} {count}")


def _show(console: Console, group: Group, tokenizer: Any) -> None:
    console.print(Text(f"\n{group.where}: "), Text("prompt (not trained on)", "dim"), "and", end=" ")
    console.print(Text("response tokens (trained on)", "bold green"), Text("| separates tokens, ‖ is the boundary"))
    for place, example in enumerate(group.examples, start=1):
        console.print(f"\nplace {place}, {len(example.response)} response tokens, {_ending(example)}:")
        console.print(token_text(example, tokenizer))


def _ending(example: Example) -> str:
    return "complete (ends with EOS)" if example.complete else "truncated (no EOS)"


def token_text(example: Example, tokenizer: Any) -> Text:
    """Prompt tokens dim, then the boundary, then the trained response tokens in green; | between tokens."""
    text = Text()
    for n, ids in enumerate((example.prompt, example.response)):
        text.append("‖" if n else "", "bold red")
        words = [tokenizer.decode([i]).replace("\n", "⏎") for i in ids]
        for i, word in enumerate(words):
            text.append("|" if i else "", "dim")
            text.append(word, "bold green" if n else "dim")
    return text
