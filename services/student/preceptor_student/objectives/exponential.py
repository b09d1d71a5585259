"""exp(slope * quantity)."""

from torch import Tensor

from preceptor.recipes.ops.exponential import ExponentialParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.quantities import quantity_n
from preceptor_student.objectives.rows import TermRows


def apply(rows: TermRows, weight_n: Tensor, params: ExponentialParams) -> Tensor:
    return weight_n * (plain(params.slope) * quantity_n(params.of, rows)).exp()
