"""The dependency graph of the claims as one SVG: a list of names with arcs, so that it reads on a phone too."""

import html

from derivations.proofs import CHAPTERS
from derivations.prover.claims import Result

ROW, GUTTER, WIDTH, FONT = 20, 110, 440, 13
# Verdict -> colour (distinct for colour-blind readers) and a mark that does without colour.
MARKS = {"proved": ("#0072b2", "●"), "iff": ("#009e73", "◆"), "refuted": ("#d55e00", "✕"), "failed": ("#cc0000", "!")}


def draw_graph(results: list[Result]) -> str:
    """SVG with a link to each claim; arcs on the left run from a claim down to those that rest on it."""
    height: dict[str, float] = {}
    labels: list[str] = []
    y = ROW
    for chapter, title in CHAPTERS.items():
        claims = [result for result in results if result.claim.chapter == chapter]
        if not claims:
            continue
        labels.append(f'<text x="{GUTTER}" y="{y}" font-weight="bold" fill="currentColor">{html.escape(title)}</text>')
        for result in claims:
            y += ROW
            height[result.claim.id] = y - FONT / 3
            colour, mark = MARKS[result.verdict]
            labels.append(
                f'<a href="{chapter}.html#{result.claim.id}"><text x="{GUTTER}" y="{y}" fill="currentColor">'
                f'<tspan fill="{colour}">{mark}</tspan> {result.claim.id}</text></a>'
            )
        y += int(1.5 * ROW)
    arcs = [
        _arc(height[name], height[result.claim.id], MARKS[result.verdict][0])
        for result in results
        for name in result.claim.depends_on
        if name in height
    ]
    legend = " ".join(f'<tspan fill="{colour}">{mark}</tspan> {verdict}' for verdict, (colour, mark) in MARKS.items())
    labels.append(f'<text x="{GUTTER}" y="{y}" fill="currentColor">{legend}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + ROW}" '
        f'style="width:100%;max-width:{WIDTH + 60}px" font-family="sans-serif" font-size="{FONT}" '
        'role="img" aria-label="dependency graph of the claims">' + "".join(arcs + labels) + "</svg>"
    )


def _arc(start: float, end: float, colour: str) -> str:
    """A curve in the gutter; long ones reach further out."""
    reach = GUTTER - 8 - min(GUTTER - 14, 10 + abs(end - start) / 9)
    x = GUTTER - 6
    return (
        f'<path d="M{x} {start:.0f} C{reach:.0f} {start:.0f} {reach:.0f} {end:.0f} {x} {end:.0f}" '
        f'fill="none" stroke="{colour}" stroke-opacity="0.55"/>'
    )
