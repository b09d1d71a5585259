"""Direct preference optimisation: the student against a reference, on whole responses."""

from preceptor.recipes.ops.spec import Gradient, Kind, OpSpec, Params
from preceptor.recipes.schedules import Positive


class DpoParams(Params):
    """How far the student may go from the reference."""

    beta: Positive = 0.1
    """Times the margin; larger: held closer to the reference."""


SPEC = OpSpec(
    "dpo",
    Kind.OBJECTIVE,
    "minus log sigmoid of beta times the margin of log student - log reference between chosen and rejected",
    params=DpoParams,
    gradient=Gradient.PREFERENCE,
    reads=frozenset({"sampled"}),
)
