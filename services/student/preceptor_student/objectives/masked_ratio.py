"""The importance ratio of each token where it lies within bounds, else zero; detached."""

import torch
from torch import Tensor

from preceptor.recipes.ops.masked_ratio import MaskedRatioParams
from preceptor_student.objectives.ratios import log_ratio_n
from preceptor_student.objectives.rows import TermRows


def apply(rows: TermRows, weight_n: Tensor, params: MaskedRatioParams) -> Tensor:
    ratio_n = log_ratio_n(rows, params).detach().exp()
    believed_n = (ratio_n >= params.low) & (ratio_n <= params.high)
    return weight_n * ratio_n.where(believed_n, torch.zeros(()))
