"""The split: disjoint, whole, decided by the seed, never more than a fifth, and no prompt on both sides."""

import pytest

from derivations.cli.errors import InputError
from llm.data.split import split_off


def test_the_split_is_disjoint_whole_and_decided_by_the_seed():
    pairs = list(range(100))
    train, held = map(list, split_off(pairs, eval_size=20, seed=0))
    assert (len(train), len(held)) == (80, 20)
    assert sorted(train + held) == pairs
    assert held != pairs[:20]
    assert [*map(list, split_off(pairs, eval_size=20, seed=0))] == [train, held]
    assert [*map(list, split_off(pairs, eval_size=20, seed=1))] != [train, held]
    assert pairs == list(range(100))


@pytest.mark.parametrize(("n", "asked", "held"), [(2, 24, 1), (6, 24, 1), (24, 24, 4), (25, 3, 3), (1000, 24, 24)])
def test_at_most_a_fifth_is_held_out_and_at_least_one(n, asked, held):
    train, evaluation = split_off([object() for _ in range(n)], eval_size=asked, seed=0)
    assert (len(train), len(evaluation)) == (n - held, held)


def test_comparisons_of_one_prompt_stay_on_one_side():
    items = [(prompt, n) for prompt in range(30) for n in range(1 + prompt % 3)]
    for seed in range(5):
        train, held = map(list, split_off(items, eval_size=8, seed=seed, prompt=lambda item: item[0]))
        assert sorted(train + held) == items
        assert 1 <= len(held) <= 8
        assert not {p for p, _ in train} & {p for p, _ in held}


def test_nothing_left_to_train_on_is_refused():
    with pytest.raises(InputError, match="1 usable comparison is too few"):
        split_off(range(1), eval_size=24, seed=0)
    assert [*map(len, split_off(range(10), eval_size=2, seed=0, prompt=lambda item: 0))] == [8, 2]
