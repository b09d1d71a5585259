"""sigmoid((quantity - centre) / width)."""

from torch import Tensor

from preceptor.recipes.ops.sigmoid import SigmoidParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.quantities import quantity_n
from preceptor_student.objectives.rows import TermRows


def apply(rows: TermRows, weight_n: Tensor, params: SigmoidParams) -> Tensor:
    away_n = (quantity_n(params.of, rows) - plain(params.centre)) / plain(params.width)
    return weight_n * (away_n if params.towards == "large" else -away_n).sigmoid()
