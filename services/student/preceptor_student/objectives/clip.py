"""The advantage within bounds."""

from torch import Tensor

from preceptor.recipes.ops.clip import ClipParams
from preceptor_student.objectives.rows import TermRows


def apply(_rows: TermRows, advantage_n: Tensor, params: ClipParams) -> Tensor:
    return advantage_n.clamp(params.low, params.high)
