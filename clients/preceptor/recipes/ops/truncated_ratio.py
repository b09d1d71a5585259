"""min(cap, current / drawing probability of the token), detached: off-policy rows weigh as on-policy ones would, up to a cap."""

from preceptor.recipes.ops.ratios import AgainstDrawn
from preceptor.recipes.ops.spec import Kind, OpSpec
from preceptor.recipes.schedules import Positive


class TruncatedRatioParams(AgainstDrawn):
    """Up to what."""

    cap: Positive = 2.0
    """Larger ratios count as this."""


SPEC = OpSpec(
    "truncated_ratio",
    Kind.TOKEN_WEIGHT,
    "the detached importance ratio of the token, truncated",
    params=TruncatedRatioParams,
)
