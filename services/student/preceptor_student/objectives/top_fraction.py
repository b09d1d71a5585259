"""One for the rows of largest weight in each response, zero for the others."""

import torch
from torch import Tensor

from preceptor.recipes.ops.top_fraction import TopFractionParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.responses import counted, places
from preceptor_student.objectives.rows import TermRows


def apply(rows: TermRows, weight_n: Tensor, params: TopFractionParams) -> Tensor:
    """round(fraction * rows) rows of each response, at least one; of equal weights the earlier rows."""
    if not len(weight_n):
        return weight_n
    weight_st = counted(rows, weight_n, -torch.inf)
    count_s = weight_st.isfinite().sum(1, dtype=weight_st.dtype)
    keep_s = (plain(params.fraction) * count_s).round().clamp_min(1)
    rank_st = weight_st.argsort(dim=1, descending=True, stable=True).argsort(1)
    owner_n, row_n = places(rows)
    return (rank_st[owner_n, row_n] < keep_s[owner_n]).to(weight_n)
