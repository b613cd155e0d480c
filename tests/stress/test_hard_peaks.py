"""`check`, `run` and `train --plan` stay under the memory that docs/how-to/hard-use.md states."""

from pathlib import Path

import pytest

from tests.stress.peaks import PEAKS, peak

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "hard-use.md"
PART = {"derivations check": ("--only", "maxent-*")}  # the whole takes a minute; `make hard` measures it


@pytest.mark.parametrize("stated", PEAKS, ids=lambda stated: stated.name)
def test_a_command_stays_under_the_memory_that_the_docs_state(stated, tmp_path):
    measured = peak((*stated.command, *PART.get(stated.name, ())), tmp_path)
    assert stated.most / 4 < measured < stated.most
    assert f"`{stated.name}` {stated.most} MiB" in PAGE.read_text()


def test_memory_that_is_taken_is_seen_and_that_of_this_process_is_not(tmp_path):
    here = bytearray(300 * 2**20)
    here[:: 2**12] = b"\1" * len(here[:: 2**12])
    small, large = (
        peak(("-c", f"b = bytearray({n} * 2**20); b[::4096] = b'1' * len(b[::4096])"), tmp_path) for n in (1, 100)
    )
    assert small < 50
    assert 100 < large < 150
    with pytest.raises(RuntimeError, match="status 3"):
        peak(("-c", "raise SystemExit(3)"), tmp_path)
