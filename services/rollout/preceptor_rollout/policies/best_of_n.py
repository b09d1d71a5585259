"""Of n draws of the student the one that the teacher ranks highest.

The teacher ranks the ids that it lists. A listed id y is chosen if no draw is better and one is y: with B the student's mass on
better ids, (1 - B)^n - (1 - B - student(y))^n. Where no draw is listed the first one stays: student(y) * outside^(n - 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preceptor.recipes.policies.best_of_n import BestOfNParams
from preceptor.types import Provenance
from preceptor_rollout.policies.base import Advice, Ask, Chance, Choice, Proposed, all_by, at, everyone, outside
from preceptor_serving.models.draw import draw


@dataclass(frozen=True)
class BestOfN:
    """The teacher chooses among proposals."""

    params: BestOfNParams

    @property
    def ask(self) -> Ask:
        return Ask(topk=self.params.teacher_topk)

    def asks(self, chance: Chance) -> NDArray[np.bool_]:
        return everyone(chance)

    def choose(self, student: Proposed, teacher: Advice, chance: Chance) -> Choice:
        others_bn = draw(student.log_probs_bt, chance.further_bn(self.params.n - 1))
        drawn_bn = torch.cat([student.ids_b[:, None], others_bn], 1)
        ranks_bn = _ranks(drawn_bn, teacher.top_ids_bk)
        best_b = ranks_bn.argmin(-1)  # the first of equals
        ids_b = at(drawn_bn, best_b)
        student_bt, rank_b = student.log_probs_bt.double(), at(ranks_bn, best_b)
        behaviour_b = _log_probability(student_bt, teacher.top_ids_bk, ids_b, rank_b, self.params.n)
        return Choice(ids_b, behaviour_b.float(), all_by(Provenance.ACCEPTED, chance))


def _ranks(ids_bn: Tensor, top_ids_bk: Tensor) -> Tensor:
    """The place of each id in the list; its length where it is not there."""
    same_bnk = ids_bn[:, :, None] == top_ids_bk[:, None, :]
    return torch.where(same_bnk.any(-1), same_bnk.long().argmax(-1), top_ids_bk.shape[1])


def _log_probability(student_bt: Tensor, top_ids_bk: Tensor, ids_b: Tensor, rank_b: Tensor, n: int) -> Tensor:
    listed_bk = student_bt.gather(1, top_ids_bk)
    outside_b = outside(student_bt, top_ids_bk)
    own_b = at(student_bt, ids_b)
    worse_bk = torch.arange(top_ids_bk.shape[1], device=rank_b.device) > rank_b[:, None]
    worse_b = torch.logaddexp(listed_bk.masked_fill(~worse_bk, -torch.inf).logsumexp(-1), outside_b)
    up_to_b = torch.logaddexp(own_b, worse_b)
    chosen_b = n * up_to_b + torch.log1p(-torch.exp(n * (worse_b - up_to_b)))
    return torch.where(rank_b < top_ids_bk.shape[1], chosen_b, own_b + (n - 1) * outside_b)
