"""One rollout as a whole: what conditions, sample weights and pairs go by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import nan

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Sample:
    """Numbers that are not known are NaN or None; nothing is filled."""

    source: str
    group: str  # rollouts of one source on one prompt
    reward: float | None = None
    truncated: bool = False
    age_steps: float = nan  # between the weights that drew its newest token and those that are trained
    mean_student: float = nan  # mean log-probability a token when it was drawn
    mean_teacher: float = nan  # the same under the teacher
    taken: bool = True  # the term reads it, as far as its conditions go

    @property
    def prompt(self) -> str:
        """The group without the source: what rollouts of several sources on one prompt share."""
        return self.group.removeprefix(f"{self.source}/")


def pass_rates(samples: Iterable[Sample], passed_at: float) -> dict[str, float]:
    """Group -> share of its graded rollouts whose reward is at least `passed_at`."""
    graded: dict[str, list[bool]] = {}
    for one in samples:
        if one.reward is not None:
            graded.setdefault(one.group, []).append(one.reward >= passed_at)
    return {group: sum(passed) / len(passed) for group, passed in graded.items()}
