"""Rows by where they stand in the response. Rows that are left out are not counted anywhere."""

from typing import Self

from pydantic import Field, model_validator

from preceptor.recipes.ops.spec import Kind, OpSpec, Params


class PositionsParams(Params):
    """A stretch of the response."""

    skip: int = Field(default=0, ge=0)
    """Leave out so many rows at the start."""

    first: int | None = Field(default=None, ge=1)
    """Of the rest, take so many; unset: all."""

    @model_validator(mode="after")
    def _leaves_something_out(self) -> Self:
        if not self.skip and self.first is None:
            raise ValueError("without skip or first every row stays")
        return self


SPEC = OpSpec("positions", Kind.TOKEN_WEIGHT, "only a stretch of each response", params=PositionsParams)
