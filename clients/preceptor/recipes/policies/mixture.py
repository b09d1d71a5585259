"""MiniLLM's teacher-mixed sampling (per token), or GKD's mix of whole sequences."""

from typing import Annotated, Literal

from pydantic import AfterValidator

from preceptor.recipes.policies.spec import Params, PolicySpec
from preceptor.recipes.schedules import Number, within


class MixtureParams(Params):
    """How much of the teacher, and what is mixed."""

    coefficient: Annotated[Number, AfterValidator(within(ge=0.0, le=1.0))] = 0.2
    """The teacher's share, a number or a ramp over steps."""

    per: Literal["token", "sequence"] = "token"
    """token: each token is drawn from share * teacher + (1 - share) * student; sequence: one of them draws a whole rollout."""


SPEC = PolicySpec("mixture", "tokens, or whole rollouts, from the teacher with a given probability", MixtureParams)
