"""A few of the planted mistakes in the test suite; all of them are `make mutation`."""

import pytest
from planted_mistakes import PLANTED, ROOT, caught_by, sign_flips

# One of each file, with the claims that a reader would expect to fail (which keeps the run short).
EXPECTED = {
    "length normalization left out": "implicit-reward-length-normalized",
    "ties of theta instead of theta squared": "margin-rao-kupper",
    "label smoothing that flips only the reward difference": "label-smoothing",
    "k3 as loss": "kl-estimate-by-role",
}


@pytest.mark.parametrize("mistake", [m for m in PLANTED if m.words in EXPECTED], ids=lambda m: m.words)
def test_a_planted_mistake_is_caught_by_the_claim_about_it(mistake, tmp_path):
    claim = EXPECTED[mistake.words]
    assert claim in caught_by(mistake, tmp_path, only=claim)


def test_there_are_twenty_planted_mistakes_and_each_is_in_the_code():
    assert len({mistake.words for mistake in PLANTED}) == 20
    for mistake in PLANTED:
        assert mistake.right in (ROOT / "derivations" / f"{mistake.file}.py").read_text(), mistake.words


def test_a_flipped_sign_changes_one_character_of_a_formula():
    flips = list(sign_flips("objectives"))
    assert len(flips) > 15
    for flip in flips:
        assert sum(a != b for a, b in zip(flip.right, flip.wrong, strict=True)) == 1
