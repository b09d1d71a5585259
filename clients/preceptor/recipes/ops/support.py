"""Log-probabilities on a few tokens of each row, chosen by teacher, student and draw, and the mass of all the others."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from preceptor.recipes.ops.spec import Kind, Needs, OpSpec, Params


class SupportParams(Params):
    """The support of a row; each token counts once."""

    teacher_topk: int = Field(default=0, ge=0, le=262_144)
    """How many of the teacher's most likely tokens."""

    student_topk: int = Field(default=0, ge=0, le=4096)
    """How many of the student's most likely tokens when it drew the row; their ids travel in the response log."""

    combine: Literal["union", "intersection"] = "union"
    """Tokens that are in either list, or only those in both."""

    sampled: bool | Literal["apart"] = True
    """The token that was drawn, in addition. apart: it is scored, but joins only where a list holds it anyway, which `unbiased`
    needs."""

    tail: bool = True
    """One bucket for everything outside the support, on both sides. Without it the divergence is a partial sum: it may be
    negative and pushes mass out of the support."""

    renormalise: bool = False
    """Both sides are divided by their mass on the support. Biased: nothing holds the student's mass inside it. Needs
    `tail: false`."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.combine == "intersection" and not (self.teacher_topk and self.student_topk):
            raise ValueError("an intersection is of two lists: set teacher_topk and student_topk")
        if not (self.teacher_topk or self.student_topk or self.sampled is True):
            raise ValueError("an empty support compares nothing: set teacher_topk, student_topk or sampled")
        if self.renormalise and self.tail:
            raise ValueError("a support with a tail sums to one already: set tail: false, or leave out renormalise")
        if self.sampled == "apart" and not self.tail:
            raise ValueError("what is drawn apart corrects the tail: set tail: true, or sampled to true or false")
        return self


def needs(params: SupportParams) -> Needs:
    return Needs(bool(params.sampled), params.teacher_topk, params.student_topk, params.tail)


SPEC = OpSpec(
    "support",
    Kind.SIGNAL,
    "log-probabilities on teacher top-k, student top-k and the drawn token, with a tail bucket",
    params=SupportParams,
    needs=needs,
)
