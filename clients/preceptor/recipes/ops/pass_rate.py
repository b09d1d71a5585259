"""More or less weight on groups by the share of their rollouts that passed."""

from typing import Self

from pydantic import Field, model_validator

from preceptor.recipes.ops.spec import REWARDS, Kind, OpSpec, Params


class PassRateParams(Params):
    """weight = rate^solved * (1 - rate)^unsolved: a rate of 0 or 1 teaches nothing where both powers are above zero."""

    passed_at: float
    """A rollout has passed when its reward is at least this."""

    solved: float = Field(default=1.0, ge=0)
    """Power of the pass rate."""

    unsolved: float = Field(default=1.0, ge=0)
    """Power of what is missing to 1."""

    @model_validator(mode="after")
    def _weighs(self) -> Self:
        if self.solved == self.unsolved == 0:
            raise ValueError("with both powers at zero every group weighs the same")
        return self


SPEC = OpSpec(
    "pass_rate",
    Kind.SAMPLE_WEIGHT,
    "weight by the share of the group's rollouts that passed",
    params=PassRateParams,
    reads=REWARDS,
)
