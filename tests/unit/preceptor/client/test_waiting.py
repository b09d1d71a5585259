"""A client that waits says why, with its place, once a while."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from preceptor.client.channel import with_retries
from preceptor.client.waiting import TOLD_EVERY_S, WaitLog
from preceptor.errors import Exhausted, InvalidArgument, Unavailable

FULL = Exhausted("the queue is full", hint="3 tasks are ahead", retry_after_s=0.001, queue_position=3)


async def test_a_call_that_waits_tells_its_place_once_and_a_mistake_tells_nothing() -> None:
    failures = [FULL, FULL, FULL]

    async def attempt() -> str:
        if failures:
            raise failures.pop()
        return "answer"

    async def wrong() -> str:
        raise InvalidArgument("no")

    with capture_logs() as lines:
        assert await with_retries(attempt, 20.0) == "answer"
        with pytest.raises(InvalidArgument):
            await with_retries(wrong, 20.0)
    told = [line for line in lines if line["event"].startswith("waiting")]
    assert [(line["event"], line["hint"]) for line in told] == [
        ("waiting: position 3; the queue is full", "3 tasks are ahead"),
    ]


def test_every_reason_is_told_again_after_a_while() -> None:
    now_s = [0.0]
    waits = WaitLog(lambda: now_s[0])
    with capture_logs() as lines:
        for at_s in (0.0, TOLD_EVERY_S - 1, TOLD_EVERY_S, TOLD_EVERY_S + 1):
            now_s[0] = at_s
            waits.tell(FULL, at_s, 5.0)
        waits.tell(Unavailable("starting"), 0.0, 5.0)
    assert [line["event"] for line in lines] == ["waiting: position 3; the queue is full"] * 2 + ["waiting: starting"]
