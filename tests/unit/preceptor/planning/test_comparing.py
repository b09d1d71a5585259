"""Graders that compare ask as often, and at such length, as was said beforehand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from preceptor.planning.asking import FENCE_BYTES, QUESTION_BYTES
from preceptor.planning.questions import questions_of_group
from preceptor.recipes import Grading
from preceptor.types import GradeItem
from preceptor_teacher.api import ChatReply
from preceptor_teacher.graders import GRADERS, GroupGrader, Means
from preceptor_teacher.graders.asking import question_of
from preceptor_teacher.graders.best_of_n import inquiry_of as choice_of
from preceptor_teacher.graders.fence import fenced_texts
from preceptor_teacher.graders.groups import group_of
from preceptor_teacher.graders.pairwise import inquiry_of as pair_of


@pytest.mark.parametrize("count", [2, 3, 26])
@pytest.mark.parametrize("guidance", ["", "short"])
def test_a_question_about_several_responses_is_as_long_as_was_said(count: int, guidance: str) -> None:
    texts = [str(number) for number in range(count)]
    shown = group_of([GradeItem("p", text, "r") for text in texts], "any", count)
    for inquiry in (pair_of(shown, 0, 1, guidance), choice_of(shown, range(count), guidance)):
        question = question_of(inquiry, repair=True)
        sent = sum(len(message["content"].encode()) for message in question.messages)
        own = sent - sum(len(text.encode()) for text in (*inquiry.texts.values(), guidance))
        fences = len(inquiry.texts) - 3
        assert own in QUESTION_BYTES + FENCE_BYTES * fences


@pytest.mark.parametrize("ring", [0, 1, 2, 3, 9])
@pytest.mark.parametrize("rollouts", [2, 3, 8])
async def test_comparing_a_group_takes_at_most_what_was_said_and_does_where_all_differ(rollouts: int, ring: int) -> None:
    asked: list[str] = []

    async def ask(messages: Any, schema: Any = None) -> ChatReply:
        asked.append(messages[-1]["content"])
        (member,) = set(schema["properties"]) - {"request"}
        chosen = {"request": schema["properties"]["request"]["const"], member: schema["properties"][member]["enum"][0]}
        return ChatReply(json.dumps(chosen), "stop", False, 1, 5, 5)

    items = [GradeItem("p", str(number)) for number in range(rollouts)]
    for name, params in (("pairwise", {"ring": ring, "samples": 3}), ("best_of_n", {"samples": 2})):
        spec = GRADERS[name]
        grader = spec.build(spec.params.model_validate(params), Means(ask))
        assert isinstance(grader, GroupGrader)
        await grader.grade_group(items)
        questions, shown = questions_of_group(Grading(name, json.dumps(params)), rollouts)
        assert (len(asked), questions.low) == (questions.high, 0)
        assert len(fenced_texts(asked[0])) - 1 in shown
        asked.clear()
