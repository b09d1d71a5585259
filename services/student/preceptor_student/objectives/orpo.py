"""-log sigmoid(beta * difference of log-odds), the odds those of the geometric mean of token probabilities."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from preceptor.recipes.ops.orpo import OrpoParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.kinds import Responses


def loss(chosen: Responses, rejected: Responses, params: OrpoParams) -> Tensor:
    """Of each pair."""
    return -logsigmoid(plain(params.beta) * (_log_odds_p(chosen) - _log_odds_p(rejected)))


def _log_odds_p(side: Responses) -> Tensor:
    """log p - log(1 - p); log1p(-p) alone would lose the digits of a p near one."""
    mean_p = side.student_p / side.rows_p
    return mean_p - torch.log(-torch.expm1(mean_p))
