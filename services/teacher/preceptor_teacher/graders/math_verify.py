"""`math_verify`: whether the last answer in the response is the same mathematics as the reference. No model is asked."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from preceptor.types import GradeItem, Validity, Verdict
from preceptor_teacher.graders.protocol import CHECK, Grader, GraderSpec, Means
from preceptor_teacher.graders.references import reference_of
from preceptor_teacher.mathematics import MathProcess


class MathVerifyParams(BaseModel):
    """How long it may take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: float = Field(default=5.0, gt=0, le=60)
    """A response that takes longer to read and compare is not right."""


@dataclass(frozen=True, slots=True)
class MathVerify:
    """1 for the same mathematics, 0 for other or none; no verdict where the reference itself is none."""

    params: MathVerifyParams
    process: MathProcess

    async def grade(self, item: GradeItem) -> Verdict:
        answer = await self.process.compare(reference_of(item, SPEC.name), item.response, self.params.seconds)
        if answer.same is None:
            return Verdict(Validity.MISSING, None, "the reference is no mathematics")
        return Verdict(Validity.OK, float(answer.same))


def _build(params: MathVerifyParams, means: Means) -> Grader:
    assert means.mathematics is not None, "a grader that asks nobody belongs to a teacher that checks"
    return MathVerify(params, means.mathematics)


SPEC = GraderSpec("math_verify", "1 where the last answer equals the reference, else 0", MathVerifyParams, _build, CHECK)
