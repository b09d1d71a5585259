"""Rollouts by whether they ran into the length limit."""

from preceptor.recipes.ops.spec import Kind, OpSpec, Params


class TruncatedParams(Params):
    """Which of the two."""

    was: bool
    """true: only rollouts that were cut off; false: only those that ended by themselves."""


SPEC = OpSpec("truncated", Kind.CONDITION, "rollouts that were cut off, or were not", params=TruncatedParams)
