"""Log-probabilities on a few tokens of each row, chosen by teacher, student and draw, and the mass of all the others."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from preceptor.recipes.ops.spec import Kind, Needs, OpSpec, Params


class SupportParams(Params):
    """The support of a row is the union of what is asked for here; each token counts once."""

    teacher_topk: int = Field(default=0, ge=0, le=262_144)
    """How many of the teacher's most likely tokens."""

    student_topk: int = Field(default=0, ge=0, le=4096)
    """How many of the student's most likely tokens when it drew the row; their ids travel in the response log."""

    sampled: bool = True
    """The token that was drawn."""

    tail: bool = True
    """One bucket for everything outside the support, on both sides. Without it the divergence is a partial sum: it may be
    negative and pushes mass out of the support."""

    @model_validator(mode="after")
    def _lists_something(self) -> Self:
        if not (self.teacher_topk or self.student_topk or self.sampled):
            raise ValueError("an empty support compares nothing: set teacher_topk, student_topk or sampled")
        return self


def needs(params: SupportParams) -> Needs:
    return Needs(params.sampled, params.teacher_topk, params.student_topk, params.tail)


SPEC = OpSpec(
    "support",
    Kind.SIGNAL,
    "log-probabilities on the union of teacher top-k, student top-k and the drawn token, with a tail bucket",
    params=SupportParams,
    needs=needs,
)
