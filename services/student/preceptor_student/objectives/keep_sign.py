"""The positive or the negative part of the advantage."""

from torch import Tensor

from preceptor.recipes.ops.keep_sign import KeepSignParams
from preceptor_student.objectives.rows import TermRows


def apply(_rows: TermRows, advantage_n: Tensor, params: KeepSignParams) -> Tensor:
    return advantage_n.clamp_min(0) if params.sign == "positive" else advantage_n.clamp_max(0)
