"""min(cap, importance ratio) of each token, detached."""

from torch import Tensor

from preceptor.recipes.ops.truncated_ratio import TruncatedRatioParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.ratios import log_ratio_n
from preceptor_student.objectives.rows import TermRows


def apply(rows: TermRows, weight_n: Tensor, params: TruncatedRatioParams) -> Tensor:
    return weight_n * log_ratio_n(rows, params).detach().exp().clamp_max(plain(params.cap))
