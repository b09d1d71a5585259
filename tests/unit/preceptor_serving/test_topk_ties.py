"""Top-k where every row is cut inside a tie, as near temperature 0: nearly all values are -inf."""

from __future__ import annotations

import torch

from preceptor_serving.models.topk import TIE_BLOCK_BYTES, topk_lowest_id

WIDTH = 50_021


def test_of_the_tied_the_lowest_ids_are_taken_in_every_row_of_several_blocks():
    values = torch.full((2 * (TIE_BLOCK_BYTES // (4 * WIDTH)) + 3, WIDTH), -torch.inf)
    for row in range(len(values)):
        values[row, 49_000 - 7 * row : 49_003 - 7 * row] = torch.tensor([-2.0, 0.0, -2.0])
    got, ids = topk_lowest_id(values, 8)
    for row, found in enumerate(ids.tolist()):
        best = 49_001 - 7 * row
        assert found == [best, best - 1, best + 1, 0, 1, 2, 3, 4]
    assert torch.equal(got, values.gather(1, ids))


def test_a_row_with_values_that_are_no_numbers_spoils_no_other():
    values_nv = torch.zeros(2, 512)
    values_nv[0, :2], values_nv[0, 2:4], values_nv[1, 7] = torch.nan, 5.0, 9.0
    assert topk_lowest_id(values_nv, 3)[1].tolist() == [[0, 1, 2], [7, 0, 1]]
