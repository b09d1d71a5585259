"""The student alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preceptor.recipes.policies.spec import NoParams
from preceptor.types import Provenance
from preceptor_rollout.policies.base import Advice, Ask, Chance, Choice, Proposed, all_by, at, nobody


@dataclass(frozen=True)
class Student:
    """Its own draw; what every other policy falls back to where it asks nobody."""

    params: NoParams
    ask = Ask()

    def asks(self, chance: Chance) -> NDArray[np.bool_]:
        return nobody(chance)

    def choose(self, student: Proposed, teacher: Advice, chance: Chance) -> Choice:
        return Choice(student.ids_b, at(student.log_probs_bt, student.ids_b), all_by(Provenance.STUDENT, chance))
