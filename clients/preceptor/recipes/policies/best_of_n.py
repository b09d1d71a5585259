"""The likeliest, to the teacher, of several draws of the student."""

from pydantic import Field

from preceptor.recipes.policies.spec import Params, PolicySpec


class BestOfNParams(Params):
    """How many draws, and how far down the teacher ranks them."""

    n: int = Field(default=4, ge=2, le=64)
    """Draws of the student for each token."""

    teacher_topk: int = Field(default=64, ge=1, le=262_144)
    """Ids that the teacher ranks; where none of the draws is among them, the first draw stays."""


SPEC = PolicySpec("best_of_n", "of n draws of the student the one that the teacher ranks highest", BestOfNParams)
