"""Forward KL to a target between student and teacher: their geometric mixture, detached, renormalised over support and tail."""

from typing import Annotated

from pydantic import AfterValidator

from preceptor.recipes.ops.spec import Gradient, Kind, OpSpec, Params
from preceptor.recipes.schedules import Number, within


class SoftTargetsParams(Params):
    """How far the target is from the student."""

    teacher_share: Annotated[Number, AfterValidator(within(gt=0.0))] = 1.0
    """target = teacher^share * student^(1 - share), normalised; 1: the teacher itself; above 1: beyond it. Usually a ramp."""


SPEC = OpSpec(
    "soft_targets",
    Kind.OBJECTIVE,
    "KL(target || student), the target a detached geometric mixture of student and teacher",
    params=SoftTargetsParams,
    gradient=Gradient.PATHWISE,
    reads=frozenset({"support"}),
)
