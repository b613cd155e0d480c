"""Packing: every token once, rows no longer than allowed, and a mask that lets a response see its prompt and itself."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm.scoring.attention import block_mask
from llm.scoring.packing import Example, fill_rows, lengths, packs, place_rows, prompt_groups

EOS = 256


@given(st.lists(st.integers(2, 50), min_size=1, max_size=30), st.integers(1, 200))
def test_rows_hold_every_group_once_and_packs_stay_within_their_tokens(sizes, batch_tokens):
    found = list(place_rows(sizes, batch_tokens))
    assert sorted(i for rows in found for row in rows for i in row) == list(range(len(sizes)))
    for rows in found:
        width = max(sum(sizes[i] for i in row) for row in rows)
        assert width == max(sizes[i] for row in rows for i in row)  # the longest group sets the width
        assert width * len(rows) <= batch_tokens or len(rows) == 1


def test_short_groups_share_a_row_instead_of_being_padded():
    (rows,) = place_rows([100, 50, 50, 30, 30, 40], 4096)
    assert sorted(sum([100, 50, 50, 30, 30, 40][i] for i in row) for row in rows) == [100, 100, 100]


example = st.builds(
    lambda p, r: Example((p,) * p, tuple(r), False),
    st.integers(1, 4),
    st.lists(st.integers(0, 9), min_size=1, max_size=6),
)


@given(st.lists(example, min_size=1, max_size=8), st.integers(1, 60), st.integers(1, 30))
def test_a_pack_says_of_every_response_token_what_it_is_and_where_it_is_predicted(examples, batch_tokens, row_tokens):
    seen = []
    for pack in packs(examples, batch_tokens=batch_tokens, row_tokens=row_tokens):
        ids, positions = pack.ids.flatten(), pack.positions.flatten()
        parts = zip(pack.examples, pack.target.split(pack.sizes), pack.predictor.split(pack.sizes),
                    pack.own.split(pack.sizes), strict=True)  # fmt: skip
        for i, target, predictor, own in parts:
            e = examples[i]
            assert tuple(target.tolist()) == e.response
            assert torch.equal(ids[own], target)
            assert positions[own].tolist() == list(range(len(e.prompt), len(e)))
            assert positions[predictor].tolist() == list(range(len(e.prompt) - 1, len(e) - 1))
            assert ids[predictor].tolist() == [e.prompt[-1], *e.response[:-1]]
            seen.append(i)
    assert sorted(seen) == list(range(len(examples)))


@given(st.lists(example, min_size=1, max_size=6), st.integers(1, 60))
def test_what_a_token_sees_is_its_own_sequence_up_to_itself_in_order(examples, batch_tokens):
    for pack in packs(examples, batch_tokens=batch_tokens, row_tokens=1024):
        mask, width = pack.mask()[:, 0], pack.ids.shape[1]
        for i, own in zip(pack.examples, pack.own.split(pack.sizes), strict=True):
            e = examples[i]
            for n, place in enumerate(own.tolist()):
                row, column = divmod(place, width)
                sees = mask[row, column]
                assert pack.ids[row][sees].tolist() == list((e.prompt + e.response)[: len(e.prompt) + n + 1])
        assert mask.any(-1).all()  # no query, padding included, has nothing to look at (a softmax over nothing is NaN)


def rows_of_pairs(seed, pairs, longest):
    """Pairs of random lengths, as ids that do not matter."""
    rng = random.Random(seed)  # noqa: S311
    found = []
    for n in range(pairs):
        prompt = (n,) * rng.randint(1, longest)
        found += [Example(prompt, (1,) * rng.randint(1, longest), False) for _ in range(rng.randint(1, 3))]
    return found


@pytest.mark.parametrize(("pairs", "longest"), [(1, 5), (4, 300), (12, 90), (30, 20)])
def test_the_block_mask_of_flex_attention_is_the_same_mask(pairs, longest):
    (pack,) = packs(rows_of_pairs(pairs, pairs, longest), batch_tokens=2560, row_tokens=1024, one_row=True)
    made, (rows, width) = block_mask(pack), pack.ids.shape
    assert (rows, width) == (1, 2560)
    exact = pack.mask()[:, 0]
    grid = torch.meshgrid(torch.arange(rows), torch.arange(width), torch.arange(width), indexing="ij")
    assert torch.equal(made.mask_mod(grid[0], torch.tensor(0), grid[1], grid[2]), exact)

    def blocks(count, indices):
        kept = torch.zeros(width // 128, width // 128, dtype=torch.bool)
        for query, n in enumerate(count[0, 0].tolist()):
            kept[query, indices[0, 0, query, :n].long()] = True
        return kept

    partial, whole = (
        blocks(made.kv_num_blocks, made.kv_indices),
        blocks(made.full_kv_num_blocks, made.full_kv_indices),
    )
    places = exact[0].reshape(width // 128, 128, width // 128, 128)
    assert not (partial & whole).any()
    assert ((partial | whole) | ~places.any(3).any(1)).all()  # no block that is seen is passed over
    assert (places.all(3).all(1) | ~whole).all()  # a block that is not masked place by place is seen in every place
    assert whole.any() == (longest == 300)


def test_most_blocks_of_a_row_of_dialogues_are_passed_over():
    (pack,) = packs(rows_of_pairs(0, 64, 120), batch_tokens=16_384, row_tokens=1024, one_row=True)
    assert block_mask(pack).sparsity() > 90  # percent; a causal mask alone leaves 50


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(50, 200))
def test_one_row_holds_as_much_as_fits(sizes, width):
    found = fill_rows(sizes, width)
    assert sorted(i for row in found for i in row) == list(range(len(sizes)))
    filled = [sum(sizes[i] for i in row) for row in found]
    assert max(filled) <= width
    assert sum(2 * n <= width for n in filled) <= 1  # two that are half empty would be one


def test_responses_to_one_prompt_share_it_until_the_row_is_full():
    examples = [Example((1,) * 10, (n,) * 20, False) for n in range(5)]
    assert prompt_groups(examples, row_tokens=1000) == [[0, 1, 2, 3, 4]]
    assert prompt_groups(examples, row_tokens=50) == [[0, 1], [2, 3], [4]]
    assert prompt_groups(examples, row_tokens=1) == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize(("prompt", "response"), [((), (1,)), ((1,), ())])
def test_an_example_without_prompt_or_response_is_refused(prompt, response):
    with pytest.raises(ValueError, match="at least one token"):
        Example(prompt, response, False)


def test_lengths_count_response_tokens_with_eos():
    assert lengths([Example((1, 2), (3, 4, EOS), True), Example((1,), (5,), False)]).tolist() == [3, 1]


def test_widths_are_few_so_that_kernels_repeat():
    for n in range(1, 70):
        (pack,) = packs([Example((1,) * n, (2, 3), True)], batch_tokens=4096, row_tokens=1024)
        assert pack.ids.shape[1] % 16 == 0
        assert n + 2 <= pack.ids.shape[1] < n + 2 + 16
