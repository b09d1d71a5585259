"""One writer begins, the other ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preceptor.recipes.policies.takeover import TakeoverParams
from preceptor.recipes.schedules import plain
from preceptor_rollout.policies.base import Advice, Ask, Chance, Choice, Proposed
from preceptor_rollout.policies.teacher import teachers_draw


@dataclass(frozen=True)
class Takeover:
    """The teacher's draws on its side of a position."""

    params: TakeoverParams
    ask = Ask(draw=True)

    def asks(self, chance: Chance) -> NDArray[np.bool_]:
        begins_b = chance.position_b < int(plain(self.params.after_tokens))
        return begins_b if self.params.first == "teacher" else ~begins_b

    def choose(self, student: Proposed, teacher: Advice, chance: Chance) -> Choice:
        return teachers_draw(teacher, chance)
