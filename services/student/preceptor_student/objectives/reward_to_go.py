"""Sums or means of the advantages that follow, computed backwards through each response in float64."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from preceptor.recipes.ops.reward_to_go import RewardToGoParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.responses import by_response, places
from preceptor_student.objectives.rows import TermRows
from preceptor_student.objectives.signals import Mask


def complete(usable_r: Mask, params: RewardToGoParams) -> Mask:
    """Rows whose whole sum is known: a sum over a gap would take a missing score for zero."""
    count, first = len(usable_r), 0 if params.include_current else 1
    holes_r = np.concatenate([[0], np.cumsum(~usable_r)])  # holes before each row
    start = np.minimum(np.arange(count) + first, count)
    end = np.minimum(start + (count if params.horizon is None else params.horizon), count)
    return usable_r & (holes_r[end] == holes_r[start])


def apply(rows: TermRows, advantage_n: Tensor, params: RewardToGoParams) -> Tensor:
    """Of each row; `complete` says which of them count."""
    if not len(advantage_n):
        return advantage_n
    owner_n, row_n = places(rows)
    start_n = row_n if params.include_current else row_n + 1
    sums_st = _sums(by_response(rows, advantage_n, 0.0), params)
    length_s = by_response(rows, row_n, -torch.inf).amax(1) + 1
    total_n = sums_st[owner_n, start_n]
    if params.mean:
        left_n = length_s[owner_n] - start_n
        total_n = total_n / (left_n if params.horizon is None else left_n.clamp_max(params.horizon)).clamp_min(1)
    return total_n.to(advantage_n)


def _sums(advantage_st: Tensor, params: RewardToGoParams) -> Tensor:
    """Discounted sums that start at each row, and one more column of zeros; up to the horizon."""
    discount, rows = plain(params.discount), advantage_st.shape[1]
    sums_st = torch.cat([advantage_st, torch.zeros_like(advantage_st[:, :1])], 1)
    for row in range(rows - 2, -1, -1):
        sums_st[:, row] += discount * sums_st[:, row + 1]
    if params.horizon is None:
        return sums_st
    horizon = min(params.horizon, rows)
    beyond_st = torch.nn.functional.pad(sums_st[:, horizon:], (0, horizon))
    return sums_st - discount**horizon * beyond_st
