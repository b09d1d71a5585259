"""Rows between marker tokens, such as the answer after the thinking. Rows that are left out are not counted anywhere."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from preceptor.recipes.ops.spec import Kind, OpSpec, Params

Marker = Annotated[tuple[Annotated[int, Field(ge=0, lt=1 << 32)], ...], Field(min_length=1, max_length=64)]


class SpanParams(Params):
    """Markers are token ids, exactly as the student draws them: nothing here turns text into ids."""

    after: Marker | None = None
    """Rows behind the first occurrence of these ids; none where they do not occur."""

    until: Marker | None = None
    """Rows before the next occurrence of these ids; to the end where they do not occur."""

    @model_validator(mode="after")
    def _has_a_marker(self) -> Self:
        if self.after is None and self.until is None:
            raise ValueError("without after or until every row stays")
        return self


SPEC = OpSpec("span", Kind.TOKEN_WEIGHT, "only rows between marker tokens", params=SpanParams)
