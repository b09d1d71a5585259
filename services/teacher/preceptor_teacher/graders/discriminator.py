"""`discriminator`: how much a response reads like the teacher's text to a model that learns to tell the two apart meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from preceptor.types import CriterionVerdict, GradeItem, Validity, Verdict
from preceptor_teacher.api.messages import Message
from preceptor_teacher.discriminator.groups import AskedGroup
from preceptor_teacher.discriminator.params import DiscriminatorParams
from preceptor_teacher.graders.asking import Spent, missing, verdict_at
from preceptor_teacher.graders.groups import group_of
from preceptor_teacher.graders.protocol import DISCRIMINATOR, Ask, GraderSpec, GroupGrader, Means, TellApart
from preceptor_teacher.graders.references import reference_of
from preceptor_teacher.graders.verdicts import NoVerdict

NAME = "discriminator"
MOST_TEXTS = 256


@dataclass(frozen=True, slots=True)
class ByDiscriminator:
    """A `GroupGrader`."""

    params: DiscriminatorParams
    tell_apart: TellApart
    write: Ask | None

    async def grade_group(self, items: Sequence[GradeItem]) -> list[Verdict]:
        """Scores before anything is learned from them. MISSING for the whole group where the writer wrote no text."""
        group, spent = group_of(items, NAME, MOST_TEXTS), Spent()
        try:
            teacher = await self._text_of_teacher(items[0], spent)
        except NoVerdict as error:
            return [missing(str(error), spent if place == 0 else Spent()) for place in range(len(items))]
        asked = AskedGroup.of(items[0].group, group.prompt, group.reference, teacher, [item.response for item in items])
        answer = await self.tell_apart(asked, self.params)
        scores, learning = dict(zip(asked.texts, answer.texts, strict=True)), answer.updates < self.params.warmup_updates
        return [
            verdict_at(
                spent if place == 0 else Spent(), Validity.OK, 0.0 if learning else scores[item.response],
                criteria=(_score("response", scores[item.response]), _score("teacher", answer.teacher)),
            )
            for place, item in enumerate(items)
        ]  # fmt: skip

    async def _text_of_teacher(self, item: GradeItem, spent: Spent) -> str:
        """The reference, or what the writer answers to the prompt."""
        if self.write is None or item.reference.strip():
            return reference_of(item, NAME)
        reply = await self.write([Message(role="user", content=item.prompt)])
        spent.add(reply)
        if reply.refused:
            raise NoVerdict("the writer refused")
        if reply.finish_reason == "length":
            raise NoVerdict("the writer's text was cut off; see max_reply_tokens")
        if not reply.text.strip():
            raise NoVerdict("the writer wrote an empty text")
        return reply.text


def _score(name: str, score: float) -> CriterionVerdict:
    return CriterionVerdict(name, Validity.OK, score)


def _build(params: DiscriminatorParams, means: Means) -> GroupGrader:
    assert means.tell_apart is not None, "a discriminator's grader belongs to a teacher with a discriminator"
    return ByDiscriminator(params, means.tell_apart, means.ask)


SPEC = GraderSpec(
    NAME,
    "the score of a model that learns to tell a response from the teacher's text",
    DiscriminatorParams,
    _build,
    DISCRIMINATOR,
)
