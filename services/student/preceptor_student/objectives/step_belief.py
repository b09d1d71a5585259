"""(reward + own * p) / (1 + own): the Dirichlet-smoothed share of continuations that went on as the student did."""

import torch
from torch import Tensor

from preceptor.recipes.ops.step_belief import StepBeliefParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.rows import TermRows


def per_row(rows: TermRows, params: StepBeliefParams) -> Tensor:
    """Of each row, detached."""
    assert rows.step_reward_n is not None, "the linter gives step_belief the step_reward signal"
    own = plain(params.own)
    return (rows.step_reward_n + own * _step_probability(rows)) / (1 + own)


def _step_probability(rows: TermRows) -> Tensor:
    """The geometric mean of the student's probabilities of the tokens of each row's step."""
    assert rows.step_n is not None, "steps and their rewards come together"
    assert rows.owner_n is not None, "collated rows know their response"
    log_probs_n = rows.student_sampled_n().detach()
    _, place_n = torch.stack([rows.owner_n, rows.step_n.long()], 1).unique(dim=0, return_inverse=True)
    sums = torch.zeros(int(place_n.max()) + 1 if len(place_n) else 0).to(log_probs_n)
    sums_s = sums.index_add(0, place_n, log_probs_n)
    counts_s = sums.index_add(0, place_n, torch.ones_like(log_probs_n))
    return (sums_s / counts_s)[place_n].exp()
