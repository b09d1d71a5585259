"""A score from 0 to 10 for a whole response, as a judge says it, and on request one for each of its steps.

The reward is the score itself, or what the operator or a recipe says that it is worth.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import median_low
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from preceptor.types import GradeItem, Validity, Verdict
from preceptor_teacher.graders.asking import Inquiry, Question, Spent, Step, missing, question_of, verdict_at
from preceptor_teacher.graders.calibration import rewards_of
from preceptor_teacher.graders.cutting import bytes_to, step_ends
from preceptor_teacher.graders.protocol import Ask, Grader, GraderSpec, Means
from preceptor_teacher.graders.sampling import Panel, Samples, share_agreeing
from preceptor_teacher.graders.verdicts import (
    HIGHEST,
    LOWEST,
    NoVerdict,
    read_answer,
    read_score,
    schema_of,
    schema_with,
    whole_number,
)
from preceptor_teacher.graders.watching import Watch, unwatched

SCORE = {"type": "integer", "minimum": LOWEST, "maximum": HIGHEST}
NAME, MOST_STEPS = "verbal", 64


class VerbalParams(BaseModel):
    """What the judge is told beyond the two texts."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    guidance: str = Field(default="", max_length=4000)
    """What a good response is, in words; part of the question, outside the fence."""

    steps: Literal["none", "words", "lines"] = "none"
    """What gets a score of its own beside the whole response: nothing, its words, or its lines."""

    most_steps: int = Field(default=16, ge=1, le=MOST_STEPS)
    """A response with more words or lines is cut into this many steps at most, several of them in each."""

    samples: Samples = 1
    """How often the judge is asked about a response, an odd number; the median score counts."""

    rewards: str = Field(default="", max_length=400)
    """What each score from 0 to 10 is worth: eleven numbers that never fall; empty: the score itself."""

    @field_validator("rewards")
    @classmethod
    def _is_calibration(cls, text: str) -> str:
        rewards_of(text)
        return text


@dataclass(frozen=True, slots=True)
class Verbal:
    """A `Grader`."""

    params: VerbalParams
    ask: Ask
    secret: bytes | None = field(default=None, repr=False)
    """What fences and numbers are made of; None draws them afresh, and then no question is asked twice in the same words."""

    watch: Watch = unwatched

    async def grade(self, item: GradeItem) -> Verdict:
        """The judge's score; MISSING where it refused, or where its answer could not be read twice."""
        spent, ends = Spent(), self._ends(item.response)
        inquiry = stepwise_of(item, ends, self.params.guidance) if ends else _whole_of(item, self.params.guidance)
        panel = Panel(NAME, self.ask, self.secret, self.watch)
        try:
            answers = await panel.repeated(lambda n: replace(inquiry, sample=n), self.params.samples, spent, whole_score)
        except NoVerdict as error:
            return missing(str(error), spent)
        wholes, worth = [whole for whole, _ in answers], rewards_of(self.params.rewards)
        scores = [median_low(column) for column in zip(*(scores for _, scores in answers), strict=True)]
        steps = [Step(end, worth[one]) for end, one in zip(bytes_to(item.response, ends), scores, strict=True)]
        return verdict_at(spent, Validity.OK, worth[median_low(wholes)], steps=steps, agreement=share_agreeing(wholes))

    def _ends(self, response: str) -> list[int]:
        """Of the steps that are asked about; none where nobody wants them."""
        return [] if self.params.steps == "none" else step_ends(response, self.params.steps, self.params.most_steps)


Scores = tuple[int, Sequence[int]]
"""Of the whole response, and of its steps."""


def whole_score(scores: Scores) -> int:
    return scores[0]


def _whole_of(item: GradeItem, guidance: str) -> Inquiry[Scores]:
    inquiry = inquiry_of(item, guidance)
    return Inquiry(inquiry.task, inquiry.texts, inquiry.answer, inquiry.schema, lambda *of: (read_score(*of), ()), guidance)


def stepwise_of(item: GradeItem, ends: Sequence[int], guidance: str = "") -> Inquiry[Scores]:
    """What is asked about one response and its steps; the judge is shown the response as a list of these."""
    count, texts = len(ends), texts_of(item)
    parts = [item.response[start:end] for start, end in pairwise([0, *ends])]
    texts["response"] = json.dumps(parts, ensure_ascii=False, indent=0)
    shape = {"type": "array", "items": SCORE, "minItems": count, "maxItems": count}
    return Inquiry(
        f"The response to the prompt is a list of {count} steps. Grade the whole of it with an integer from {LOWEST} (useless) "
        f"to {HIGHEST} (perfect), and each step, in their order, with another one: as right and useful as it is where it stands.",
        texts,
        f'N being the score, and S that of a step, {count} of them: {{"request": "NUMBER", "score": N, "steps": [S, ...]}}',
        lambda number: schema_with(number, score=SCORE, steps=shape),
        lambda reply, number: _read_scores(reply, number, count),
        guidance,
    )


def _read_scores(reply: str, number: str, count: int) -> Scores:
    answer = read_answer(reply, number, ("score", "steps"))
    steps: Any = answer["steps"]
    if not isinstance(steps, list) or len(steps) != count:  # pyright: ignore[reportUnknownArgumentType]
        raise NoVerdict(f"the reply does not score each of {count} steps")
    scores = [whole_number(one, "score of a step", LOWEST, HIGHEST) for one in steps]  # pyright: ignore[reportUnknownVariableType]
    return whole_number(answer["score"], "score", LOWEST, HIGHEST), scores


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
    return Verbal(params, means.ask, means.secret, means.watch)


SPEC = GraderSpec(NAME, "a judge's score from 0 to 10 for the whole response", VerbalParams, _build, steps=True)
