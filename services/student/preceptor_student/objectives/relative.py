"""1 + gain * a quantity over its largest value in the response."""

import torch
from torch import Tensor

from preceptor.recipes.ops.relative import RelativeParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.quantities import quantity_n
from preceptor_student.objectives.responses import share_of_largest
from preceptor_student.objectives.rows import TermRows


def apply(rows: TermRows, weight_n: Tensor, params: RelativeParams) -> Tensor:
    value_n = quantity_n(params.of, rows)
    if not len(value_n):
        return weight_n
    share_n, positive_n = share_of_largest(rows, value_n)
    bonus_n = plain(params.gain) * (share_n if params.towards == "large" else 1 - share_n)
    return weight_n * (1 + bonus_n.where(positive_n, torch.zeros(()))).clamp_min(0)
