"""The questions of a unit are answered by one version of its teacher, however many requests they take."""

from __future__ import annotations

import pytest

from preceptor import wire
from preceptor.errors import Unavailable
from preceptor.types import ModelRef
from preceptor_proto.v1 import teacher_pb2
from preceptor_rollout.advisor import ITEMS_PER_CALL, Asking

OLD, NEW = (ModelRef("teacher", "run", 1, step) for step in (1, 2))


class Swapped:
    """Serves the version that is asked for; where none is, so many items by the old weights and all others by the new."""

    def __init__(self, old: int) -> None:
        self._old, self.asked = old, list[int]()

    async def score(self, request: teacher_pb2.ScoreRequest, *, deadline_s: float) -> teacher_pb2.ScoreReply:
        self.asked.append(len(request.items))
        reply = teacher_pb2.ScoreReply()
        for _ in request.items:
            _, exact = wire.choice_from_proto(request.teacher)
            newest, self._old = OLD if self._old > 0 else NEW, self._old - 1
            result = reply.results.add()
            result.receipt.model.CopyFrom(wire.model_ref_to_proto(exact or newest))
            result.rows.SetInParent()
        return reply


def question(items: int) -> teacher_pb2.ScoreRequest:
    request = teacher_pb2.ScoreRequest()
    for _ in range(items):
        request.items.add()
    return request


async def test_the_second_request_of_a_question_asks_for_the_weights_that_answered_the_first():
    teacher = Swapped(old=ITEMS_PER_CALL)
    asking = Asking(teacher, "teacher", "job", bytes(32))
    reply = await asking.ask(question(ITEMS_PER_CALL + 1), 1.0)
    assert teacher.asked == [ITEMS_PER_CALL, 1]
    assert {one.receipt.model.step for one in reply.results} == {OLD.step}


async def test_a_swap_within_one_reply_is_no_answer():
    with pytest.raises(Unavailable, match="swapped"):
        await Asking(Swapped(old=1), "teacher", "job", bytes(32)).ask(question(2), 1.0)
