"""A score from 0 to 10 for a whole response, as a judge says it; the reward is the score itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from preceptor.types import GradeItem, Validity, Verdict
from preceptor_teacher.graders.asking import Inquiry, Question, Spent, answer_to, missing, question_of, verdict_at
from preceptor_teacher.graders.protocol import Ask, Grader, GraderSpec, Means
from preceptor_teacher.graders.verdicts import HIGHEST, LOWEST, NoVerdict, read_score, schema_of


class VerbalParams(BaseModel):
    """What the judge is told beyond the two texts."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    guidance: str = Field(default="", max_length=4000)
    """What a good response is, in words; part of the question, outside the fence."""


@dataclass(frozen=True, slots=True)
class Verbal:
    """A `Grader`."""

    params: VerbalParams
    ask: Ask
    secret: bytes | None = field(default=None, repr=False)
    """What fences and numbers are made of; None draws them afresh, and then no question is asked twice in the same words."""

    async def grade(self, item: GradeItem) -> Verdict:
        """The judge's score; MISSING where it refused, or where its answer could not be read twice."""
        spent = Spent()
        try:
            score = await answer_to(inquiry_of(item, self.params.guidance), self.ask, spent, self.secret)
        except NoVerdict as error:
            return missing(str(error), spent)
        return verdict_at(spent, Validity.OK, float(score))


def inquiry_of(item: GradeItem, guidance: str = "") -> Inquiry[int]:
    """What is asked about one response."""
    return Inquiry(
        f"Grade the response to the prompt with an integer from {LOWEST} (useless) to {HIGHEST} (perfect).",
        texts_of(item),
        'N being the score: {"request": "NUMBER", "score": N}',
        schema_of,
        read_score,
        guidance,
    )


def texts_of(item: GradeItem) -> dict[str, str]:
    """What strangers wrote, by label."""
    reference = {"reference": item.reference} if item.reference else {}
    return {"prompt": item.prompt, **reference, "response": item.response}


def ask_for(item: GradeItem, guidance: str = "", *, repair: bool = False, secret: bytes | None = None) -> Question:
    """The question about one response."""
    return question_of(inquiry_of(item, guidance), repair=repair, secret=secret)


def _build(params: VerbalParams, means: Means) -> Grader:
    assert means.ask is not None, "a grader that asks belongs to a judge"
    return Verbal(params, means.ask, means.secret)


SPEC = GraderSpec("verbal", "a judge's score from 0 to 10 for the whole response", VerbalParams, _build)
