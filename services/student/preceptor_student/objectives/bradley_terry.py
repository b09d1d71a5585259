"""-log sigmoid(beta * difference - margin) of sums or means of log-probabilities."""

from torch import Tensor
from torch.nn.functional import logsigmoid

from preceptor.recipes.ops.bradley_terry import BradleyTerryParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.kinds import Responses


def loss(chosen: Responses, rejected: Responses, params: BradleyTerryParams) -> Tensor:
    """Of each pair."""
    difference_p = _score_p(chosen, params) - _score_p(rejected, params)
    return -logsigmoid(plain(params.beta) * difference_p - plain(params.margin))


def _score_p(side: Responses, params: BradleyTerryParams) -> Tensor:
    return side.student_p / side.rows_p if params.mean else side.student_p
