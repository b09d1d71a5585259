"""What importance ratios are held against."""

from typing import Literal

from preceptor.recipes.ops.spec import Params


class AgainstDrawn(Params):
    """The denominator of an importance ratio, from a column that the rollout logged. Rows without it are skipped."""

    against: Literal["behaviour", "policy"] = "behaviour"
    """behaviour: the distribution the token was really drawn from, truncation and mixtures included; policy: the student's at
    that time, under the recipe's temperature alone."""
