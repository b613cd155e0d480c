"""The doctor's report as one page: no other file, no script, two pictures as SVG, readable at 390 pixels."""

import re
from collections import Counter
from collections.abc import Sequence
from html import escape

from llm.data.measure import Lengths
from llm.data.report import Report

CHOSEN, LINE, OTHER = "#0072B2", "#D55E00", "#999999"  # Okabe and Ito, told apart without colour by what they are
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 340, 210, 34, 34, 12  # of a picture, in its own units
BARS = 24
STYLE = """
:root{color-scheme:light}*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;color:#1a1a1a;background:#fff;margin:0 auto;max-width:60rem;padding:1rem}
h1{font-size:1.5rem;line-height:1.25;overflow-wrap:anywhere}h2{font-size:1.15rem;margin:1.6rem 0 .5rem}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .5rem .3rem 0;vertical-align:top;
border-bottom:1px solid #ddd}td:last-child{overflow-wrap:anywhere}
td.n,th.n{text-align:right;white-space:nowrap;padding-right:.8rem}
.pictures{display:grid;gap:1.2rem;grid-template-columns:repeat(auto-fit,minmax(min(20rem,100%),1fr))}
figure{margin:0}figcaption{font-size:.9rem;color:#444}svg{width:100%;height:auto;display:block}
svg text{font:10px system-ui,sans-serif;fill:#333}ul{padding-left:1.2rem}li{margin:.35rem 0;overflow-wrap:anywhere}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f5f5f5;padding:.6rem;font-size:.8rem;margin:.4rem 0}
.o{white-space:nowrap}.b{color:#D55E00;font-weight:700}.r{color:#005a8c}
"""


def page(report: Report) -> str:
    """The page."""
    tally = report.tally
    body = [
        f"<h1>{escape(report.name)}</h1>",
        f"<p>Format <b>{escape(', '.join(report.formats))}</b>. {report.rows:,} rows, {tally.comparisons:,} usable "
        f"comparisons, {report.skipped:,} rows skipped.</p>",
        "<h2>What to do</h2><ul>",
        *(f"<li>{_options(_rows_only(report, line))}</li>" for line in report.advice()),
        "</ul>",
        "<h2>Findings</h2>",
        _table(
            ("finding", "rows", "first"),
            [(w, f.count, _rows_only(report, _at(f.first, f.detail))) for w, f, _ in report.findings()],
        ),
    ]
    if report.reasons:
        body += [
            "<h2>Rows skipped, by reason</h2>",
            _table(
                ("reason", "rows", "first"), [(why, n, _rows_only(report, first)) for why, n, first in report.reasons]
            ),
        ]
    if report.lengths is not None:
        body += ["<h2>Lengths</h2>", *_lengths(report, report.lengths), *_example(report)]
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.name)}: preference data</title><style>{STYLE}</style></head><body>"
        + "\n".join(body)
        + "</body></html>\n"
    )


def _rows_only(report: Report, text: str) -> str:
    """A text without the name of the file, which heads the page, before its rows."""
    return text.replace(f"{report.name} ", "")


def _options(text: str) -> str:
    """Markup of a text in which no line breaks inside the name of an option."""
    return re.sub(r"--[a-z][a-z-]*", r'<span class="o">\g<0></span>', escape(text))


def _at(first: str, detail: str) -> str:
    return f"{first}: {detail}" if first and detail else first


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    numbered = [' class="n"' if name == "rows" else "" for name in head]
    lines = [
        "<tr>"
        + "".join(
            f"<td{c}>{escape(f'{v:,}' if isinstance(v, int) else str(v))}</td>"
            for c, v in zip(numbered, row, strict=True)
        )
        + "</tr>"
        for row in rows
    ]
    titles = "".join(f"<th{c}>{name}</th>" for c, name in zip(numbered, head, strict=True))
    return f"<table><tr>{titles}</tr>{''.join(lines)}</table>"


def _cell(value: object) -> str:
    return escape(f"{value:,}" if isinstance(value, int) else str(value))


def _lengths(report: Report, lengths: Lengths) -> list[str]:
    share = lengths.longer_chosen
    of = "all comparisons" if lengths.sampled == report.tally.comparisons else f"a sample of {lengths.sampled:,}"
    first = bars(lengths.needs, mark=lengths.max_length, label="tokens of prompt and longest response")
    second = bars(lengths.difference or [0], mark=0, label="tokens of the preferred response minus the other's")
    return [
        '<div class="pictures">',
        f"<figure>{first}<figcaption>Tokens a comparison needs ({of}). The line is "
        f"{_options('--max-length')} {lengths.max_length}: "
        f"{100 * lengths.whole:.1f} % fit whole, {100 * lengths.cut:.1f} % of responses are cut.</figcaption></figure>",
        f"<figure>{second}<figcaption>Right of the line the longer response is preferred: "
        f"{100 * share.mean:.0f} % of pairs, 95 % interval {100 * share.low:.0f} to {100 * share.high:.0f}."
        "</figcaption></figure>",
        "</div>",
        f"<p>{escape(report.length_laws(lengths))}</p>",
    ]


def bars(values: Sequence[int], *, mark: int, label: str) -> str:
    """A histogram as SVG, with a vertical line at a value; the outermost percents are gathered in the end bars."""
    ordered = sorted(values)
    highest = max(ordered[int(0.99 * (len(ordered) - 1))], mark)
    lowest = min(ordered[int(0.01 * (len(ordered) - 1))], mark)
    width = max(1, -(-(highest - lowest + 1) // BARS))
    start = (lowest - mark) // width * width + mark  # the mark stands between two bars
    counts = Counter((min(max(v, lowest), highest) - start) // width for v in values)
    rows = [(start + n * width, start + (n + 1) * width - 1, counts[n]) for n in range((highest - start) // width + 1)]
    most, end = max(counts.values()), rows[-1][1] + 1
    across, up = WIDTH - LEFT - 10, HEIGHT - BOTTOM - TOP

    def x(value: float) -> float:
        return LEFT + across * (value - start) / (end - start)

    floor, line = HEIGHT - BOTTOM, x(mark)
    parts = []
    for low, high, count in rows:
        tall, wide = up * count / most, max(1.0, x(high + 1) - x(low) - 1)
        fill = CHOSEN if mark > 0 or low >= mark else OTHER
        parts.append(
            f'<rect x="{x(low) + 0.5:.1f}" y="{floor - tall:.1f}" width="{wide:.1f}" height="{tall:.1f}" '
            f'fill="{fill}"/>'
        )
    parts.append(
        f'<line x1="{line:.1f}" x2="{line:.1f}" y1="{TOP}" y2="{floor}" stroke="{LINE}" stroke-width="2" '
        'stroke-dasharray="5 3"/>'
    )
    parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{floor}" y2="{floor}" stroke="#333"/>')
    apart = (end - start) / 6  # of what is written below the axis
    marked = {mark} if min(mark - start, end - 1 - mark) > apart else set()
    for value in sorted({start, *marked, end - 1}):
        anchor = "end" if value == end - 1 else "middle"
        parts.append(f'<text x="{x(value):.1f}" y="{floor + 13}" text-anchor="{anchor}">{value}</text>')
    parts.append(f'<text x="{LEFT - 4}" y="{TOP + 8}" text-anchor="end">{most}</text>')
    parts.append(f'<text x="{LEFT - 4}" y="{floor}" text-anchor="end">0</text>')
    parts.append(f'<text x="{LEFT + across / 2}" y="{HEIGHT - 6}" text-anchor="middle">{label}</text>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def _example(report: Report) -> list[str]:
    found = report.example
    mark = '<span class="b">‖</span>'
    lines = [
        "<h2>One comparison as the model sees it</h2>"
        f"<p>{escape(_rows_only(report, found['where']))}: the prompt as the template writes it, "
        f'{mark} the boundary, <span class="r">the response</span> that is trained on.</p>'
    ]
    for place, response in enumerate(found["responses"], start=1):
        before, behind = (" ".join(map(str, ids)) for ids in (found["prompt_ids"][-8:], response["ids"][:8]))
        end = "ends its turn" if response["complete"] else "is cut"
        text = f'{escape(found["prompt_text"])}{mark}<span class="r">{escape(response["text"])}</span>'
        lines.append(
            f"<pre>{text}</pre><p>Response {place} has {len(response['ids'])} tokens and {end}. Ids at the boundary: "
            f"… {before} {mark} {behind} …</p>"
        )
    return lines
