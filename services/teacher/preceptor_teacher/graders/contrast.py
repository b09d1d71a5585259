"""A rubric of what tells the teacher's answer from the student's: criteria that the reference meets and worse responses do not.

Made once for a group, from the prompt, a good answer, and some of the group's own responses; then each response is held to it
as to any `rubric`. Whoever wrote a response may try to talk the judge into a criterion: it then counts for the whole group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field

from preceptor.types import GradeItem, Verdict
from preceptor_teacher.graders.asking import Spent, free_of_cost, missing
from preceptor_teacher.graders.groups import all_of, group_of
from preceptor_teacher.graders.protocol import GraderSpec, GroupGrader, Means
from preceptor_teacher.graders.rubric import MOST_CRITERIA, Rubric, RubricParams, named
from preceptor_teacher.graders.verdicts import NoVerdict

NAME = "contrast"
MOST_TEXTS, MOST_SHOWN = 256, 16


class ContrastParams(BaseModel):
    """How the criteria are made."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    guidance: str = Field(default="", max_length=4000)
    """What criteria should look at, in words; part of the question that makes them, outside the fence."""

    most_criteria: int = Field(default=8, ge=1, le=MOST_CRITERIA)
    """How many the judge may make."""

    shown: int = Field(default=4, ge=1, le=MOST_SHOWN)
    """How many of the group's different responses the judge sees when it makes them: the first ones."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """A `GroupGrader`."""

    shown: int
    rubric: Rubric

    async def grade_group(self, items: Sequence[GradeItem]) -> list[Verdict]:
        """MISSING for the whole group without a rubric, and for those of which the judge did not say what they meet."""
        group, spent = group_of(items, NAME, MOST_TEXTS), Spent()
        try:
            made = await self.rubric.induced(group.prompt, group.reference, spent, group.texts[: self.shown])
        except NoVerdict as error:
            return [missing(str(error), spent if place == 0 else Spent()) for place in range(len(items))]
        held = [replace(items[group.places.index(text)], group="") for text in range(len(group.texts))]
        costs = [spent, *(Spent() for _ in held[1:])]
        found = await all_of(*(self.rubric.held_to(named(made), *one) for one in zip(held, costs, strict=True)))
        firsts = group.firsts()
        return [found[text] if first else free_of_cost(found[text]) for text, first in zip(group.places, firsts, strict=True)]


def _build(params: ContrastParams, means: Means) -> GroupGrader:
    assert means.ask is not None, "a grader that asks belongs to a judge"
    told = RubricParams(guidance=params.guidance, most_criteria=params.most_criteria)
    return Contrast(params.shown, Rubric(told, means.ask, means.secret))


SPEC = GraderSpec(
    NAME, "a rubric of what tells a good answer from the group's own, and what of it a response meets", ContrastParams, _build
)
