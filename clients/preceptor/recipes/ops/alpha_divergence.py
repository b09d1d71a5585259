"""The alpha divergences: from near reverse KL (alpha -> 0) over Hellinger (1/2) to forward KL (1)."""

from typing import Annotated

from pydantic import AfterValidator

from preceptor.recipes.ops.divergence import WHOLE_OR_SUPPORT, DivergenceParams
from preceptor.recipes.ops.spec import Gradient, Kind, OpSpec
from preceptor.recipes.schedules import Number, within


class AlphaDivergenceParams(DivergenceParams):
    """Where on the way from reverse to forward."""

    alpha: Annotated[Number, AfterValidator(within(gt=0.0, le=1.0))] = 0.5
    """(1 - sum of teacher^alpha * student^(1 - alpha)) / (alpha * (1 - alpha)); the limit at 1 is the forward KL. The limit at 0,
    the reverse KL, is an op of its own: it alone is infinite where the teacher says zero."""


SPEC = OpSpec(
    "alpha_divergence",
    Kind.OBJECTIVE,
    "the alpha divergence of teacher and student on the support and its tail",
    params=AlphaDivergenceParams,
    gradient=Gradient.PATHWISE,
    reads=WHOLE_OR_SUPPORT,
)
