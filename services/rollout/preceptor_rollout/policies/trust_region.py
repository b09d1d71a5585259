"""The geometric path from the student to the teacher, as far as a KL ball around the student allows.

At each prefix mu_b = student^(1 - b) * teacher^b / Z, with the largest b in [0, 1] for which KL(mu_b || student) is at most the
radius; the KL grows with b, so it is found by bisection. The teacher's ids beyond the listed ones share its remaining mass as
they share the student's: then the path and its KL depend on the listed ids and one number for all others, and are exact for that
teacher. With the whole vocabulary listed that teacher is the teacher. Ids that the student's truncation removed are never drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preceptor.recipes.policies.trust_region import TrustRegionParams
from preceptor.recipes.schedules import plain
from preceptor.types import Provenance
from preceptor_rollout.policies.base import Advice, Ask, Chance, Choice, Proposed, all_by, at, outside
from preceptor_serving.models.draw import draw

BISECTIONS = 52  # b to the last bit of a double


@dataclass(frozen=True)
class TrustRegion:
    """Draws from the blend."""

    params: TrustRegionParams

    @property
    def ask(self) -> Ask:
        return Ask(topk=self.params.teacher_topk)

    @property
    def radius(self) -> float:
        """In nats."""
        return plain(self.params.radius)

    def asks(self, chance: Chance) -> NDArray[np.bool_]:
        return np.full(len(chance.position_b), self.radius > 0)

    def choose(self, student: Proposed, teacher: Advice, chance: Chance) -> Choice:
        student_bt = student.log_probs_bt.double()
        beyond_b = outside(student_bt, teacher.top_ids_bk)[:, None]
        tail_b = teacher.tail_b.double()[:, None]
        share_b = largest_share(
            torch.cat([student_bt.gather(1, teacher.top_ids_bk), beyond_b], 1),
            torch.cat([teacher.top_bk.double(), tail_b], 1),
            self.radius,
        )
        teacher_bt = (student_bt + (tail_b - beyond_b)).scatter(1, teacher.top_ids_bk, teacher.top_bk.double())
        blend_bt = blend(student_bt, teacher_bt, share_b)
        ids_b = draw(blend_bt, chance.token_b[:, None])[:, 0]
        return Choice(ids_b, at(blend_bt, ids_b).float(), all_by(Provenance.MIXED, chance))


def blend(student_bx: Tensor, teacher_bx: Tensor, share_b: Tensor) -> Tensor:
    """Log-probabilities of student^(1 - share) * teacher^share; nothing where the student has nothing."""
    share_b1 = share_b[:, None]
    moved_bx = torch.where(share_b1 > 0, (1 - share_b1) * student_bx + share_b1 * teacher_bx, student_bx)
    at_teacher_bx = torch.where(share_b1 < 1, moved_bx, teacher_bx)
    return at_teacher_bx.masked_fill(student_bx == -torch.inf, -torch.inf).log_softmax(-1)


def largest_share(student_bx: Tensor, teacher_bx: Tensor, radius: float) -> Tensor:
    """The largest b for which KL(blend || student) <= radius."""
    low_b, high_b = torch.zeros_like(student_bx[:, 0]), torch.ones_like(student_bx[:, 0])
    low_b = torch.where(_moved(student_bx, teacher_bx, high_b) <= radius, high_b, low_b)
    for _ in range(BISECTIONS):
        middle_b = (low_b + high_b) / 2
        fits_b = _moved(student_bx, teacher_bx, middle_b) <= radius
        low_b, high_b = torch.where(fits_b, middle_b, low_b), torch.where(fits_b, high_b, middle_b)
    return low_b


def _moved(student_bx: Tensor, teacher_bx: Tensor, share_b: Tensor) -> Tensor:
    """KL(blend || student)."""
    blend_bx = blend(student_bx, teacher_bx, share_b)
    return torch.where(blend_bx > -torch.inf, blend_bx.exp() * (blend_bx - student_bx), 0.0).sum(-1)
