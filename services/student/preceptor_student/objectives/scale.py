"""The advantage times a number."""

from torch import Tensor

from preceptor.recipes.ops.scale import ScaleParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.rows import TermRows


def apply(_rows: TermRows, advantage_n: Tensor, params: ScaleParams) -> Tensor:
    return advantage_n * plain(params.by)
