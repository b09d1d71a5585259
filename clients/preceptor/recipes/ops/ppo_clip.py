"""The clipped surrogate: minus the smaller of ratio * advantage and clipped ratio * advantage."""

from pydantic import Field

from preceptor.recipes.ops.ratios import AgainstDrawn
from preceptor.recipes.ops.spec import REWARDS, Gradient, Kind, OpSpec


class PpoClipParams(AgainstDrawn):
    """How far the ratio may move before it stops paying."""

    low: float = Field(default=0.2, gt=0, lt=1)
    """The ratio is clipped at 1 - low."""

    high: float = Field(default=0.2, gt=0)
    """The ratio is clipped at 1 + high."""


SPEC = OpSpec(
    "ppo_clip",
    Kind.OBJECTIVE,
    "the clipped policy-gradient surrogate; the gradient goes through current / drawing probability of the token",
    params=PpoClipParams,
    gradient=Gradient.SCORE_FUNCTION,
    reads=frozenset({"sampled", "step_reward"}) | REWARDS,
    takes_advantage=True,
)
