"""current / drawing probability of the token where that lies within bounds, zero elsewhere, detached (ICE-POP)."""

from typing import Self

from pydantic import Field, model_validator

from preceptor.recipes.ops.ratios import AgainstDrawn
from preceptor.recipes.ops.spec import Kind, OpSpec


class MaskedRatioParams(AgainstDrawn):
    """The ratios that are believed."""

    low: float = Field(default=0.5, ge=0, le=1)
    """Smallest ratio that counts."""

    high: float = Field(default=5.0, ge=1)
    """Largest ratio that counts."""

    @model_validator(mode="after")
    def _leaves_room(self) -> Self:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self


SPEC = OpSpec(
    "masked_ratio",
    Kind.TOKEN_WEIGHT,
    "the detached importance ratio of the token where it lies within bounds, else zero",
    params=MaskedRatioParams,
)
