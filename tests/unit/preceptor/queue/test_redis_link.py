"""A caller that is asked to end ends, also where redis swallows that on the way to an answer."""

from __future__ import annotations

import asyncio

import pytest

from preceptor.errors import ConfigurationError
from preceptor.queue.redis.link import Link, Patience, open_client


async def test_a_cancellation_that_comes_together_with_the_answer_is_not_lost() -> None:
    link, asked = Link("redis://127.0.0.1:1/0", None, Patience(), None), asyncio.Event()

    async def answers_instead_of_ending(number: int) -> str:
        asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return f"answer {number}"
        raise AssertionError("nothing else ends the wait")

    caller = asyncio.create_task(link.insist(answers_instead_of_ending))
    await asked.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await link.close()


async def test_a_task_that_was_asked_to_end_before_may_still_ask_the_queue_while_it_cleans_up() -> None:
    link, began = Link("redis://127.0.0.1:1/0", None, Patience(), None), asyncio.Event()

    async def answers(number: int) -> int:
        return number

    async def hands_back_when_cancelled() -> int:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return await link.insist(answers)
        raise AssertionError("nothing else ends the wait")

    caller = asyncio.create_task(hands_back_when_cancelled())
    await began.wait()
    caller.cancel()
    assert await caller == 1
    await link.close()


@pytest.mark.parametrize("odd", ["redis://127.0.0.1:1/0?socket_timeout=soon", "redis://127.0.0.1:1/0?no_such_option=1"])
def test_an_option_that_no_connection_has_is_refused_before_anybody_connects(odd: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_client(odd, "hunter22", Patience())
    assert (refused.value.field, refused.value.value) == ("redis_url", "redis://127.0.0.1:1/0")
    assert "hunter22" not in str(refused.value)
