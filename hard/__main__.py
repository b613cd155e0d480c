"""`python -m hard PART ...`"""

import sys
from pathlib import Path

from hard.fuzz import fuzz
from hard.llm_readers import llm_readers
from hard.other_readers import other_readers
from hard.table import show

n = int(sys.argv[1])
pick = sys.argv[2] if len(sys.argv) > 2 else ""
rows = []
for r in [*other_readers(), *llm_readers()]:
    if pick in r.name:
        rows.append(fuzz(r, examples=n, root=0))
        print(rows[-1].what, rows[-1].tried, rows[-1].note, rows[-1].lost, flush=True)
sys.exit(show(rows, Path("out/hard.json")))
