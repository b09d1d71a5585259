"""The advantage so far, times a number."""

from preceptor.recipes.ops.spec import Kind, OpSpec, Params
from preceptor.recipes.schedules import Number, always


class ScaleParams(Params):
    """By how much."""

    by: Number
    """The factor; negative turns the advantage round."""


def idle(params: ScaleParams) -> str:
    if always(params.by, 0.0):
        return "a factor of zero leaves no advantage"
    return "a factor of one changes nothing" if always(params.by, 1.0) else ""


SPEC = OpSpec("scale", Kind.TRANSFORM, "the advantage times a number", params=ScaleParams, idle=idle)
