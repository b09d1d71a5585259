"""One weight where a quantity lies within bounds, another elsewhere."""

from torch import Tensor

from preceptor.recipes.ops.within import WithinParams
from preceptor_student.objectives.quantities import factor_n
from preceptor_student.objectives.rows import TermRows


def apply(rows: TermRows, weight_n: Tensor, params: WithinParams) -> Tensor:
    return weight_n * factor_n(rows, params)
