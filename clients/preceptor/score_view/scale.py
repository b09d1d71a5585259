"""A number of a token to its step on a scale: the words of the legend, and colours that read on light and on dark.

Every coloured step brings its own ink, so that the terminal's background does not matter; the calm step has no colour at all,
so that the others are seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

By = Literal["teacher", "disagreement"]
DARK_INK, LIGHT_INK = "#16181d", "#ffffff"


@dataclass(frozen=True, slots=True)
class Step:
    """Values from `least` up to the step before. `mark` is what is left of it without colours."""

    least: float
    label: str
    ground: str = ""
    ink: str = DARK_INK
    mark: str = ""

    @property
    def style(self) -> str:
        return f"{self.ink} on {self.ground}" if self.ground else ""


@dataclass(frozen=True, slots=True)
class Scale:
    """Steps from the highest to the lowest, the last one without an end."""

    title: str
    steps: tuple[Step, ...]

    def step(self, value: float) -> Step | None:
        """The step of a value; None where there is none (a missing score)."""
        return None if math.isnan(value) else next(step for step in self.steps if value >= step.least)


TEACHER = Scale(
    "teacher's probability",
    (
        Step(math.log(0.9), ">= 90%"),
        Step(math.log(0.5), ">= 50%", "#fff1bd"),
        Step(math.log(0.1), ">= 10%", "#ffd36b"),
        Step(math.log(0.01), ">= 1%", "#ffa552", mark="underline"),
        Step(math.log(0.001), ">= 0.1%", "#f0703a", mark="underline"),
        Step(-math.inf, "< 0.1%", "#a81c17", LIGHT_INK, "bold underline"),
    ),
)
DISAGREEMENT = Scale(
    "student - teacher, nats",
    (
        Step(3.0, ">= 3", "#a81c17", LIGHT_INK, "bold underline"),
        Step(1.0, ">= 1", "#f5935f", mark="underline"),
        Step(0.3, ">= 0.3", "#fbd8c4"),
        Step(-0.3, "within 0.3"),
        Step(-1.0, ">= -1", "#cfe3fa"),
        Step(-3.0, ">= -3", "#7db1ee", mark="italic"),
        Step(-math.inf, "< -3", "#1b57a3", LIGHT_INK, "bold italic"),
    ),
)
SCALES: dict[By, Scale] = {"teacher": TEACHER, "disagreement": DISAGREEMENT}
