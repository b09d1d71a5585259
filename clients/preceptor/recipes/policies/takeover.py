"""One writer begins a rollout and the other ends it."""

from typing import Literal

from preceptor.recipes.policies.spec import Params, PolicySpec
from preceptor.recipes.schedules import NotNegative


class TakeoverParams(Params):
    """Where, and who begins."""

    after_tokens: NotNegative = 32.0
    """The first so many tokens, rounded down, are of the one, the others of the other; a number or a ramp over steps."""

    first: Literal["student", "teacher"] = "student"
    """Who begins."""


SPEC = PolicySpec("takeover", "the one begins a rollout, the other takes over after so many tokens", TakeoverParams)
