"""TRB (arXiv 2605.31159): as near to the teacher as a KL ball around the student allows."""

from pydantic import Field

from preceptor.recipes.policies.spec import Params, PolicySpec
from preceptor.recipes.schedules import NotNegative


class TrustRegionParams(Params):
    """How far from the student."""

    radius: NotNegative = 0.1
    """Most KL(behaviour || student) in nats at each prefix, a number or a ramp over steps; 0 is the student."""

    teacher_topk: int = Field(default=64, ge=1, le=262_144)
    """Ids of the teacher's that count by themselves; beyond them its mass lies as the student's does. The vocabulary: exact."""


SPEC = PolicySpec(
    "trust_region", "student^(1-b) * teacher^b with the largest b that stays within a KL radius of the student", TrustRegionParams
)
