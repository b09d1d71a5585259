"""A share of the teacher: in every token, or in every so many rollouts.

Per token a coin decides whose draw stands. The log-probability of either draw under both models is known, so that of the token
under the mixture, share * teacher + (1 - share) * student, is exact whatever the size of the vocabulary. Per sequence the coin is
thrown once for a rollout; its tokens are then one model's, and so are their log-probabilities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from preceptor.recipes.policies.mixture import MixtureParams
from preceptor.recipes.schedules import plain
from preceptor.types import Provenance
from preceptor_rollout.policies.base import Advice, Ask, Chance, Choice, Proposed, all_by, at
from preceptor_rollout.policies.teacher import teachers_draw


@dataclass(frozen=True)
class Mixture:
    """Both writers by chance."""

    params: MixtureParams

    @property
    def ask(self) -> Ask:
        return Ask(draw=True, proposal=self.params.per == "token")

    @property
    def share(self) -> float:
        """The teacher's."""
        return plain(self.params.coefficient)

    def asks(self, chance: Chance) -> NDArray[np.bool_]:
        if self.params.per == "sequence":
            return chance.sequence_coin_b < self.share
        return np.full(len(chance.position_b), self.share > 0)

    def choose(self, student: Proposed, teacher: Advice, chance: Chance) -> Choice:
        if self.params.per == "sequence":
            return teachers_draw(teacher, chance)
        by_teacher_b = torch.from_numpy(chance.coin_b < self.share).to(student.ids_b.device)
        ids_b = torch.where(by_teacher_b, teacher.drawn_b, student.ids_b)
        teacher_b = torch.where(by_teacher_b, teacher.drawn_logprob_b, teacher.proposal_b)
        behaviour_b = torch.logaddexp(_log(self.share) + teacher_b, _log(1 - self.share) + at(student.log_probs_bt, ids_b))
        return Choice(ids_b, behaviour_b, all_by(Provenance.MIXED, chance))


def _log(share: float) -> float:
    return math.log(share) if share > 0 else -math.inf
