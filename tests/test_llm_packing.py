"""Packing: every token once, rows no longer than allowed, and a mask that lets a response see its prompt and itself."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm.attention import block_mask
from llm.packing import Example, lengths, packs, place_rows, prompt_groups

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


def test_the_block_mask_of_flex_attention_is_the_same_mask():
    examples = [Example((1, 2, 3), r, False) for r in ((4,), (5, 6), (7, 8, 9))] + [Example((2,), (3,) * 9, False)]
    (pack,) = packs(examples, batch_tokens=64, row_tokens=64)
    made = block_mask(pack, torch.device("cpu"))
    rows, width = pack.ids.shape
    grid = torch.meshgrid(torch.arange(rows), torch.arange(width), torch.arange(width), indexing="ij")
    assert torch.equal(made.mask_mod(grid[0], torch.tensor(0), grid[1], grid[2]), pack.mask()[:, 0])


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
