"""The advantage times one factor where a quantity lies within bounds, another elsewhere."""

from torch import Tensor

from preceptor.recipes.ops.quantities import FactorWithin
from preceptor_student.objectives.quantities import factor_n
from preceptor_student.objectives.rows import TermRows


def apply(rows: TermRows, advantage_n: Tensor, params: FactorWithin) -> Tensor:
    return advantage_n * factor_n(rows, params)
