"""The advantage so far, held within bounds."""

from typing import Self

from pydantic import model_validator

from preceptor.recipes.ops.spec import Kind, OpSpec, Params


class ClipParams(Params):
    """The bounds; at least one."""

    low: float | None = None
    """Values below become this."""

    high: float | None = None
    """Values above become this."""

    @model_validator(mode="after")
    def _leaves_room(self) -> Self:
        if self.low is None and self.high is None:
            raise ValueError("without low or high nothing is clipped")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError("low must be below high: one number for every token has zero expected gradient")
        return self


SPEC = OpSpec("clip", Kind.TRANSFORM, "the advantage, held within bounds", params=ClipParams)
