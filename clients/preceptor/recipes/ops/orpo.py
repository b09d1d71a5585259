"""Odds-ratio preference: without a reference, on the odds of mean token probabilities."""

from preceptor.recipes.ops.spec import Gradient, Kind, OpSpec, Params
from preceptor.recipes.schedules import Positive


class OrpoParams(Params):
    """How hard."""

    beta: Positive = 1.0
    """Times the difference of log-odds."""


SPEC = OpSpec(
    "orpo",
    Kind.OBJECTIVE,
    "minus log sigmoid of the difference of log-odds of chosen and rejected, by mean token probability",
    params=OrpoParams,
    gradient=Gradient.PREFERENCE,
)
