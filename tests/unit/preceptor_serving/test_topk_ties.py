"""Top-k where rows are cut inside ties, as near temperature 0: nearly all values are -inf."""

from __future__ import annotations

import pytest
import torch

from preceptor_serving.models.topk import SEARCH_BYTES, topk_lowest_id

WIDTH, K = 50_021, 8


def test_of_the_tied_the_lowest_ids_are_taken_in_every_row_of_several_searches():
    values = torch.full((3 * (SEARCH_BYTES // (8 * 8 * K * 32)), WIDTH), -torch.inf)
    for row in range(len(values)):
        values[row, 49_000 - 7 * row : 49_003 - 7 * row] = torch.tensor([-2.0, 0.0, -2.0])
    got, ids = topk_lowest_id(values, K)
    for row, found in enumerate(ids.tolist()):
        best = 49_001 - 7 * row
        assert found == [best, best - 1, best + 1, 0, 1, 2, 3, 4]
    assert torch.equal(got, values.gather(1, ids))


def test_a_row_with_values_that_are_no_numbers_spoils_no_other():
    values_nv = torch.zeros(2, 512)
    values_nv[0, :2], values_nv[0, 2:4], values_nv[1, 7] = torch.nan, 5.0, 9.0
    assert topk_lowest_id(values_nv, 3)[1].tolist() == [[0, 1, 2], [7, 0, 1]]


def test_both_zeros_are_one_value():
    values_nv = torch.full((1, 600), -1.0)
    values_nv[0, [3, 500]], values_nv[0, [70, 599]] = 0.0, -0.0
    assert topk_lowest_id(values_nv, 4)[1].tolist() == [[3, 70, 500, 599]]


@pytest.mark.parametrize("width", [192, 600, 40])
def test_ties_are_those_of_what_is_read_not_of_what_stands_there(width):
    """1 and 2 become one value: the lower id of the two wins, in the row that is read so and in no other."""
    values_nv = torch.zeros(2, width)
    values_nv[:, 5], values_nv[:, 30] = 1.0, 2.0
    coarse = torch.tensor([1.0, torch.inf])

    def reading(values_nm, rows):
        return values_nm.minimum(coarse[rows, None])

    values, ids = topk_lowest_id(values_nv, 3, reading)
    assert ids.tolist() == [[5, 30, 0], [30, 5, 0]]
    assert values.tolist() == [[1.0, 1.0, 0.0], [2.0, 1.0, 0.0]]


def test_no_rows_have_no_best():
    values, ids = topk_lowest_id(torch.zeros(0, 9), 2)
    assert (values.shape, ids.shape) == ((0, 2), (0, 2))
