"""-log sigmoid(beta * margin), the margin of log student - log reference between chosen and rejected."""

from torch import Tensor
from torch.nn.functional import logsigmoid

from preceptor.recipes.ops.dpo import DpoParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.kinds import Responses


def loss(chosen: Responses, rejected: Responses, params: DpoParams) -> Tensor:
    """Of each pair; log 2 where the student is the reference."""
    margin_p = (chosen.student_p - chosen.reference_p) - (rejected.student_p - rejected.reference_p)
    return -logsigmoid(plain(params.beta) * margin_p)
