"""`inspect-data`: one pass over the data, a sample of it as tokens, the report as text, JSON or a page, clean data."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.text import Text

from derivations.cli.errors import InputError
from derivations.cli.files import to_json, write_text
from llm.data.chat import control_tokens
from llm.data.clean import write_clean
from llm.data.files import Reading, by_reason
from llm.data.measure import histogram, measure
from llm.data.page import page
from llm.data.report import Report
from llm.data.row_formats import Row
from llm.data.tally import TURNS, Pairing, Tally, prompt_hash
from llm.data.tokens import Group
from llm.scoring.models import load_tokenizer, longest_of
from llm.scoring.packing import Example
from llm.settings.inspect import InspectConfig

BARS = 40  # width of the longest bar
MOST_LISTED = 100_000  # skipped rows that are counted by reason one by one


def inspect_data(config: InspectConfig, console: Console | None = None) -> None:
    """Print the report, and write what the settings ask for. Raises InputError on bad input."""
    tokenizer = load_tokenizer(config.model)
    held_out = prompts_of(config) if config.eval_data is not None else set()
    markers = tuple(dict.fromkeys([*markers_of(tokenizer), *TURNS]))
    scan = Scan(config, Tally(markers=markers, held_out=held_out))
    scan.run()
    report = scan.report()
    group = None
    if scan.tally.sample:
        lengths, groups, refused = measure(
            scan.tally, tokenizer, limit=longest_of(config.model), max_length=config.max_length
        )
        report.lengths = lengths
        report.reasons += [(f"in the sample, once tokenized: {r}", n, where) for r, n, where in by_reason(refused)]
        if config.example >= len(groups):
            raise InputError(
                f"--example {config.example}, but there are {len(groups)} usable comparisons in the sample"
            )
        group = groups[config.example]
        report.example = example_of(group, tokenizer)
    elif not report.unpaired:
        _, _, where = report.reasons[0]
        raise InputError(f"{config.data}: no usable comparison; first: {where}: {scan.skipped[0][1]}")
    if config.html is not None:
        write_text(config.html, page(report))
    written = write_clean(config, scan.tally, held_out) if config.write is not None else ""
    if config.format == "json":
        print(to_json(report.as_json() | ({"written": written} if written else {}), indent=2))
        return
    console = console or Console(highlight=False)
    _print(console, report)
    if group is not None:
        _show(console, group, report.example, tokenizer)
    for line in (written, f"page: {config.html}" if config.html else ""):
        if line:
            console.print(Text(line), soft_wrap=True)


def markers_of(tokenizer: Any) -> list[str]:
    """Texts that the tokenizer parses as control tokens."""
    pattern = control_tokens(tokenizer)
    return [t for t in {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()} if t and pattern.fullmatch(t)]


def prompts_of(config: InspectConfig) -> set[int]:
    """Hashes of the prompts of the evaluation data."""
    reading = Reading(str(config.eval_data), lambda where, reason: None, config.shape, config.map)
    return {prompt_hash(item.prompt) for item in reading}


@dataclass
class Scan:
    """The pass over the data."""

    config: InspectConfig
    tally: Tally
    pairing: Pairing = field(default_factory=Pairing)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    more: int = 0  # skipped beyond those listed
    split: str | None = None

    def run(self) -> None:
        self.reading = Reading(self.config.data, self._skip, self.config.shape, self.config.map, self._watch)
        for comparison in self.pairing.pair(self.reading):
            self.tally.add(comparison, self.split)

    def _skip(self, where: str, reason: str) -> None:
        if len(self.skipped) < MOST_LISTED:
            self.skipped.append((where, reason))
        else:
            self.more += 1

    def _watch(self, row: Row) -> None:
        found = row.get("split")
        self.split = found if isinstance(found, str) else None

    def report(self) -> Report:
        """The report, as far as no tokenizer is needed."""
        reasons = by_reason(self.skipped)
        if self.more:
            reasons.append(("more rows, whose reasons were not kept", self.more, ""))
        return Report(
            name=self.config.data,
            formats=dict(Counter(self.reading.formats).most_common()),
            rows=self.reading.rows,
            tally=self.tally,
            skipped=len(self.skipped) + self.more,
            reasons=reasons,
            tools=self.reading.tools,
            good=self.pairing.good,
            bad=self.pairing.bad,
            paired=self.pairing.pairs,
            eval_name=self.config.eval_data,
        )


def example_of(group: Group, tokenizer: Any) -> dict[str, Any]:
    """One comparison as the model sees it: the prompt as the template writes it, and the ids on both sides of the
    boundary."""
    prompt = list(group.examples[0].prompt)
    places = [
        {"ids": list(e.response), "text": tokenizer.decode(list(e.response)), "complete": e.complete}
        for e in group.examples
    ]
    return {"where": group.where, "prompt_ids": prompt, "prompt_text": tokenizer.decode(prompt), "responses": places}


def _print(console: Console, report: Report) -> None:
    def say(line: str) -> None:
        console.print(Text(line), soft_wrap=True)

    tally, lengths = report.tally, report.lengths
    formats = ", ".join(f"{name} ({n} rows)" for name, n in report.formats.items())
    say(f"format: {report.format}" if len(report.formats) == 1 else f"formats: {formats}")
    sizes = f", of up to {tally.largest} responses" if tally.largest > 2 else ""
    ties = f", {tally.tied} with ties" if tally.tied else ""
    say(f"rows: {report.rows}; comparisons: {tally.comparisons} usable{sizes}{ties}; {report.skipped} rows skipped")
    for reason, count, first in report.reasons:
        say(f"  skipped {count}: {reason}{f' (first: {first})' if first else ''}")
    for what, finding, _ in report.findings():
        say(f"{what}: {finding.count}{f' (first: {finding.first})' if finding.count else ''}")
    if tally.repeated_prompts:
        say(f"prompts: {len(tally.prompts)} different ones; `train` keeps the comparisons of one prompt on one side")
    if lengths is not None:
        share, known = lengths.longer_chosen, tally.longer_chosen + tally.shorter_chosen
        characters = 100 * tally.longer_chosen / max(1, known)
        say(
            f"the longer response is preferred in {100 * share.mean:.0f} % of pairs [{100 * share.low:.0f}, "
            f"{100 * share.high:.0f}] by tokens, {characters:.0f} % of {known} by characters"
        )
        of = "" if lengths.sampled == tally.comparisons else f" (of a sample of {lengths.sampled})"
        how = "chosen" if lengths.chosen else "given"
        say(
            f"--max-length {lengths.max_length} ({how}): {100 * lengths.whole:.1f} % of comparisons fit whole, "
            f"{100 * lengths.cut:.1f} % of responses are cut{of}; the same once cut: {lengths.same_after_cut}"
        )
        _histogram(console, "prompt tokens", lengths.prompts)
        _histogram(console, "response tokens", lengths.responses)
    say("\nWhat to do:")
    for line in report.advice():
        say(f"- {line}")


def _histogram(console: Console, title: str, values: Sequence[int]) -> None:
    console.print(f"\n{title}: mean {sum(values) / len(values):.1f}, longest {max(values)}")
    rows = histogram(values)
    most = max(count for _, _, count in rows)
    for low, high, count in rows:
        console.print(f"  {low:5}-{high:<5} {'█' * -(-BARS * count // most)} {count}")


def _show(console: Console, group: Group, example: dict[str, Any], tokenizer: Any) -> None:
    console.print(Text(f"\n{group.where}: "), Text("prompt (not trained on)", "dim"), "and", end=" ")
    console.print(Text("response tokens (trained on)", "bold green"), Text("| separates tokens, ‖ is the boundary"))
    console.print(Text(f"the template writes: {example['prompt_text']!r}"))
    for place, one in enumerate(group.examples, start=1):
        console.print(f"\nplace {place}, {len(one.response)} response tokens, {_ending(one)}:")
        console.print(token_text(one, tokenizer))
        console.print(Text(f"ids at the boundary: ... {_ids(one.prompt[-6:])} ‖ {_ids(one.response[:6])} ...", "dim"))


def _ids(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids))


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
