"""The teacher alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preceptor.recipes.policies.spec import NoParams
from preceptor.types import Provenance
from preceptor_rollout.policies.base import Advice, Ask, Chance, Choice, Proposed, all_by, everyone


def teachers_draw(teacher: Advice, chance: Chance) -> Choice:
    """Its own draw, over its whole vocabulary."""
    return Choice(teacher.drawn_b, teacher.drawn_logprob_b, all_by(Provenance.TEACHER, chance))


@dataclass(frozen=True)
class Teacher:
    """Its own draw, everywhere."""

    params: NoParams
    ask = Ask(draw=True)

    def asks(self, chance: Chance) -> NDArray[np.bool_]:
        return everyone(chance)

    def choose(self, student: Proposed, teacher: Advice, chance: Chance) -> Choice:
        return teachers_draw(teacher, chance)
