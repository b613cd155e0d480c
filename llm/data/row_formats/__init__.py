"""The common formats of preference data: one row of a file in, one comparison (or one judged response) out.

rows        what a row becomes, and why one cannot be used
messages    texts, chat messages, content in parts, transcripts
pairs       a chosen and a rejected response
verdicts    two responses and which of them is better
rankings    several responses with scores, ranks or an order
unpaired    one response and how good it is
table       every format with the fields that tell it; a row's format is found by them
mapping     `--map theirs=ours`, and the message for a file of no known format
"""

from llm.data.row_formats.rows import Comparison, Judged, Message, Row, Unusable, shown
from llm.data.row_formats.table import FORMATS, NAMES, Format, detect, parse

__all__ = [
    "FORMATS",
    "NAMES",
    "Comparison",
    "Format",
    "Judged",
    "Message",
    "Row",
    "Unusable",
    "detect",
    "parse",
    "shown",
]
