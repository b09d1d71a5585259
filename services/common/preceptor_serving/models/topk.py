"""The k largest of each row, exact, with ties broken by the lower id, without sorting a whole vocabulary.

A row is cut into interleaved blocks (block i holds the columns i, i + blocks, i + 2 blocks ...), so that the maxima of all
blocks are one elementwise pass. The k + 1 largest values of a row stand in the k + 1 blocks with the largest maxima: any value
outside those blocks is at most its own block's maximum, hence at most each of theirs. So only these blocks are searched. The
k + 1st value shows whether the cut falls inside a tie; only then, and only of that row, are all columns looked at once more.
At a temperature near 0 that is every row: nearly all of its values are -inf.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

WORTH_BLOCKS = 8  # rows shorter than this many times k + 1 are searched directly
TIE_BLOCK_BYTES = 4 << 20  # of tied rows, a plane of counts


def topk_lowest_id(values_nv: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(values, ids), both [n, k]: descending, equal values by ascending id. Needs 0 < k <= v and no NaN."""
    width = values_nv.shape[1]
    reach = min(k + 1, width)
    if width < WORTH_BLOCKS * reach:
        top_nr, ids_nr = values_nv.topk(reach, -1)
    else:
        top_nr, ids_nr = _topk_in_blocks(values_nv, reach)
    ids_nk = _ordered(top_nr[:, :k], ids_nr[:, :k])
    if reach > k:
        cut = (top_nr[:, k - 1] == top_nr[:, k]).nonzero()[:, 0]
        for rows in cut.split(max(1, TIE_BLOCK_BYTES // (4 * width))):
            ids_nk[rows] = _with_tie(values_nv[rows], top_nr[rows, k - 1 : k], k)
    return values_nv.gather(1, ids_nk), ids_nk


def _with_tie(values_mv: Tensor, cut_m1: Tensor, k: int) -> Tensor:
    """The ids of the k largest, where several are equal to the k-th largest: of those the lowest."""
    above_mv, tied_mv = ~(values_mv <= cut_m1), values_mv == cut_m1  # NaN stands above all numbers, as it does in a sort
    room_m1 = k - above_mv.sum(-1, keepdim=True)
    chosen_mv = above_mv | (tied_mv & (tied_mv.cumsum(-1, dtype=torch.int32) <= room_m1))
    ids_mk = chosen_mv.nonzero()[:, 1].view(-1, k)
    return _ordered(values_mv.gather(1, ids_mk), ids_mk)


def _ordered(top_nk: Tensor, ids_nk: Tensor) -> Tensor:
    """The ids, descending by value, equal values by ascending id."""
    ids_nk, by_id = ids_nk.sort(-1)
    by_value = top_nk.gather(1, by_id).sort(dim=-1, descending=True, stable=True).indices
    return ids_nk.gather(1, by_value)


def _topk_in_blocks(values_nv: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    rows, width = values_nv.shape
    depth = max(2, math.isqrt(width // reach))
    blocks = width // depth
    main_ndb = values_nv[:, : blocks * depth].view(rows, depth, blocks)
    _, chosen_nr = main_ndb.amax(1).topk(reach, -1)
    steps_d = torch.arange(depth, device=values_nv.device) * blocks
    ids = (chosen_nr[:, :, None] + steps_d).flatten(1)
    rest = torch.arange(blocks * depth, width, device=values_nv.device).expand(rows, -1)
    ids = torch.cat([ids, rest], 1)
    top_nr, at = values_nv.gather(1, ids).topk(reach, -1)
    return top_nr, ids.gather(1, at)
