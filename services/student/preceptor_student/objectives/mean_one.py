"""Weights over their mean in the response; where that is zero they stay zero."""

import torch
from torch import Tensor

from preceptor.recipes.ops.spec import NoParams
from preceptor_student.objectives.responses import counted, places
from preceptor_student.objectives.rows import TermRows


def apply(rows: TermRows, weight_n: Tensor, _params: NoParams) -> Tensor:
    if not len(weight_n):
        return weight_n
    count_s = counted(rows, torch.ones_like(weight_n), 0.0).sum(1)
    mean_n = (counted(rows, weight_n, 0.0).sum(1) / count_s)[places(rows)[0]].to(weight_n)
    return (weight_n / mean_n).where(mean_n > 0, torch.zeros(()))
