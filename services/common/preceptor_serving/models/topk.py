"""The k largest of each row, exact, with ties broken by the lower id: without sorting a vocabulary, and with no look at the
values by the host, which would wait for an accelerator.

Value and id become one whole number, larger for a larger value and among equals for a lower id, so that no two are equal. A row
is cut into blocks of neighbouring columns, ordered by their maxima, of equal ones the earlier block first. Whatever stands in a
later block comes after the maximum of each earlier one. So the first k entries stand in the first k blocks, and only these are
searched.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

SMALLEST_BLOCK = 32  # columns: a CPU takes maxima over shorter runs five times as slowly
WORTH_BLOCKS = 2  # rows shorter than so many times the k smallest blocks are searched directly
SEARCH_BYTES = 2 << 20  # of entries that are searched at once, on a CPU; an accelerator takes all rows in one go
ID_BITS = 32
NOT_SIGN = 0x7FFF_FFFF

Reading = Callable[[Tensor, slice], Tensor]


def as_they_stand(values_nm: Tensor, rows: slice) -> Tensor:
    """The reading that changes nothing."""
    return values_nm


def topk_lowest_id(values_nv: Tensor, k: int, reading: Reading = as_they_stand) -> tuple[Tensor, Tensor]:
    """(values, ids), both [n, k]: descending, equal values by ascending id, NaN by its sign at either end. Needs 0 < k <= v, f32.

    `reading` turns entries of some rows into what is compared and returned; it never turns a smaller value into a larger one.
    """
    width, depth = values_nv.shape[1], _depth(values_nv.shape[1], k)
    step = max(1, SEARCH_BYTES // (8 * (k * depth or width)) if values_nv.is_cpu else len(values_nv))
    parts = [slice(start, start + step) for start in range(0, len(values_nv), step)]
    found = [
        _search_blocks(values_nv[rows], k, depth, reading, rows) if depth else _search(values_nv[rows], k, reading, rows)
        for rows in parts
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        return values_nv.new_empty(0, k), values_nv.new_empty(0, k, dtype=torch.int64)
    return torch.cat([values for values, _ in found]), torch.cat([ids for _, ids in found])


def _depth(width: int, k: int) -> int:
    """Columns of a block: about as many entries in the k best of them as there are blocks. 0: blocks are not worth it."""
    if width < WORTH_BLOCKS * SMALLEST_BLOCK * k:
        return 0
    return max(SMALLEST_BLOCK, math.isqrt(width // k) // SMALLEST_BLOCK * SMALLEST_BLOCK)


def _search(values_nv: Tensor, k: int, reading: Reading, rows: slice) -> tuple[Tensor, Tensor]:
    read_nv = reading(values_nv, rows)
    ids_nk = _best(read_nv, k)
    return read_nv.gather(1, ids_nk), ids_nk


def _search_blocks(values_nv: Tensor, k: int, depth: int, reading: Reading, rows: slice) -> tuple[Tensor, Tensor]:
    """Searches the k best blocks, and what fills no block, in the order of their columns."""
    n, blocks = len(values_nv), values_nv.shape[1] // depth
    whole_nbd = values_nv[:, : blocks * depth].unflatten(1, (blocks, depth))
    chosen_nk = _best(reading(whole_nbd.amax(-1), rows), k).sort(-1).values
    inside = whole_nbd[torch.arange(n, device=values_nv.device)[:, None], chosen_nk].flatten(1)
    values_nk, at_nk = _search(torch.cat([inside, values_nv[:, blocks * depth :]], 1), k, reading, rows)
    from_block = chosen_nk.gather(1, (at_nk // depth).clamp_max_(k - 1)) * depth + at_nk % depth
    return values_nk, torch.where(at_nk < k * depth, from_block, at_nk + (blocks - k) * depth)


def _best(values_nm: Tensor, k: int) -> Tensor:
    """The places [n, k] of the largest, in order."""
    bits = (values_nm + 0.0).view(torch.int32)  # there is one zero
    bits ^= (bits >> 31).bitwise_and_(NOT_SIGN)  # ordered as whole numbers now
    places = torch.arange(values_nm.shape[1], device=values_nm.device)
    keys = bits.to(torch.int64).bitwise_left_shift_(ID_BITS).sub_(places)
    return keys.topk(k, -1).values.neg_().bitwise_and_((1 << ID_BITS) - 1)
