"""A few of the planted mistakes in the test suite, one of each kind; all of them are `make mutation`."""

import pytest
from planted_mistakes import ROOT, caught_by, sign_flips
from planted_table import KINDS, PLANTED

# One of each kind, with the claim or test that a reader would expect to fail (which keeps the run short).
CHOSEN = [mistakes[len(mistakes) // 2] for mistakes in KINDS.values()] + [PLANTED[10], KINDS["numeric branches"][-2]]


@pytest.mark.parametrize("mistake", CHOSEN, ids=lambda m: m.words)
def test_a_planted_mistake_is_caught_by_what_it_names(mistake, tmp_path):
    assert caught_by(mistake, tmp_path)


def test_there_are_sixty_planted_mistakes_of_eight_kinds_and_each_is_in_the_code():
    assert len({mistake.words for mistake in PLANTED}) == len(PLANTED) >= 60
    assert len(KINDS) == 8
    for mistake in PLANTED:
        assert mistake.right in (ROOT / "derivations" / f"{mistake.file}.py").read_text(), mistake.words
    by_check = [mistake for mistake in PLANTED if not mistake.by.startswith("tests/")]
    assert len(by_check) >= 0.8 * len(PLANTED)


def test_a_flipped_sign_changes_one_character_of_a_formula():
    flips = list(sign_flips("objectives"))
    assert len(flips) > 15
    for flip in flips:
        assert sum(a != b for a, b in zip(flip.right, flip.wrong, strict=True)) == 1
