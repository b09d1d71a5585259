"""A score from 0 to 10 and what is wrong with the response, in words, as a judge says it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from operator import itemgetter
from statistics import median_low

from pydantic import BaseModel, ConfigDict, Field

from preceptor.types import GradeItem, Validity, Verdict
from preceptor_teacher.graders.asking import Inquiry, Spent, missing, verdict_at
from preceptor_teacher.graders.protocol import Ask, Grader, GraderSpec, Means
from preceptor_teacher.graders.sampling import Panel, Samples, share_agreeing
from preceptor_teacher.graders.verbal import texts_of
from preceptor_teacher.graders.verdicts import HIGHEST, LOWEST, NoVerdict, read_answer, schema_with, whole_number, words
from preceptor_teacher.graders.watching import Watch, unwatched

NAME = "critique"
SCORE = {"type": "integer", "minimum": LOWEST, "maximum": HIGHEST}
ROOM_CHARS = 200
"""What an answer may have beside the critique."""

ESCAPED_CHARS = 12
"""What one character of a critique may take in JSON: two escapes of six."""


class CritiqueParams(BaseModel):
    """What the judge is told beyond the two texts."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    guidance: str = Field(default="", max_length=4000)
    """What a good response is, in words; part of the question, outside the fence."""

    samples: Samples = 1
    """How often the judge is asked about a response, an odd number; the median score and its critique counts."""

    most_chars: int = Field(default=600, ge=1, le=8000)
    """The longest critique. A longer one is no answer: the judge is asked once more, and then there is none."""


@dataclass(frozen=True, slots=True)
class Critique:
    """A `Grader` whose verdicts have a critique beside the reward."""

    params: CritiqueParams
    ask: Ask
    secret: bytes | None = field(default=None, repr=False)
    watch: Watch = unwatched

    async def grade(self, item: GradeItem) -> Verdict:
        """MISSING where the judge refused, or where its answer could not be read twice."""
        spent, inquiry, panel = Spent(), critique_of(item, self.params), Panel(NAME, self.ask, self.secret, self.watch)
        try:
            answers = await panel.repeated(lambda n: replace(inquiry, sample=n), self.params.samples, spent, itemgetter(0))
        except NoVerdict as error:
            return missing(str(error), spent)
        scores = [score for score, _ in answers]
        score, text = answers[scores.index(median_low(scores))]
        return verdict_at(spent, Validity.OK, float(score), critique=text, agreement=share_agreeing(scores))


def critique_of(item: GradeItem, params: CritiqueParams) -> Inquiry[tuple[int, str]]:
    """What is asked about one response."""
    text = {"type": "string", "minLength": 1, "maxLength": params.most_chars}
    return Inquiry(
        f"Say what the response to the prompt gets wrong and how to mend it, in at most {params.most_chars} characters, "
        f"and grade it with an integer from {LOWEST} (useless) to {HIGHEST} (perfect).",
        texts_of(item),
        'N being the score and T the criticism: {"request": "NUMBER", "score": N, "critique": T}',
        lambda number: schema_with(number, score=SCORE, critique=text),
        lambda reply, number: _read(reply, number, params.most_chars),
        params.guidance,
    )


def _read(reply: str, number: str, most_chars: int) -> tuple[int, str]:
    answer = read_answer(reply, number, ("score", "critique"), ESCAPED_CHARS * most_chars + ROOM_CHARS)
    return whole_number(answer["score"], "score", LOWEST, HIGHEST), words(answer["critique"], "critique", most_chars)


def _build(params: CritiqueParams, means: Means) -> Grader:
    assert means.ask is not None, "a grader that asks belongs to a judge"
    return Critique(params, means.ask, means.secret, means.watch)


SPEC = GraderSpec(NAME, "a judge's score from 0 to 10, and its critique in words", CritiqueParams, _build)
