"""Calls share one deadline, honour the service's advice, and never send a mistake twice."""

from __future__ import annotations

import asyncio

import pytest
import stamina

from preceptor.client.channel import Connection, Target, with_retries
from preceptor.errors import DeadlineExceeded, EngineFailed, Exhausted, InvalidArgument, Unavailable, VersionGone, WrongPair
from preceptor_proto.v1 import teacher_pb2


class Scripted:
    """Raises what it is told to, one after the other, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.at_s: list[float] = []

    async def __call__(self) -> str:
        self.at_s.append(asyncio.get_running_loop().time())
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


@pytest.fixture(autouse=True)
def _quiet():
    stamina.instrumentation.set_on_retry_hooks([])
    yield
    stamina.instrumentation.set_on_retry_hooks(None)


@pytest.mark.parametrize("error", [Unavailable("down"), EngineFailed("died"), Exhausted("full", retry_after_s=0.01)])
async def test_what_may_succeed_later_is_tried_again(error):
    script = Scripted(error)
    assert await with_retries(script, 10.0) == "answer"
    assert len(script.at_s) == 2


@pytest.mark.parametrize("error", [InvalidArgument("no"), WrongPair("no"), VersionGone("gone"), DeadlineExceeded("late")])
async def test_a_mistake_is_never_sent_twice(error):
    script = Scripted(error)
    with pytest.raises(type(error)):
        await with_retries(script, 10.0)
    assert len(script.at_s) == 1


async def test_the_wait_is_at_least_what_the_service_advised():
    script = Scripted(Exhausted("full", retry_after_s=0.2))
    await with_retries(script, 10.0)
    assert script.at_s[1] - script.at_s[0] >= 0.2


async def test_advice_beyond_the_deadline_ends_with_the_reason():
    with pytest.raises((DeadlineExceeded, Exhausted)) as late:
        await with_retries(Scripted(Exhausted("the queue is full", retry_after_s=60.0)), 0.2)
    assert "full" in str(late.value)


async def test_a_service_that_is_not_there_is_named_within_the_deadline():
    async with Connection(Target("127.0.0.1:1", deadline_s=0.5)) as connection:
        method = connection.unary("preceptor.v1.Teacher/Describe", teacher_pb2.DescribeReply)
        with pytest.raises((Unavailable, DeadlineExceeded)):
            await connection.call(method, teacher_pb2.DescribeRequest())


async def test_keys_travel_as_bearer_tokens_and_each_call_has_an_id():
    async with Connection(Target("127.0.0.1:1", api_key="pk_x")) as connection:
        first, second = dict(connection.metadata()), dict(connection.metadata())
    assert first["authorization"] == "Bearer pk_x"
    assert first["x-request-id"] != second["x-request-id"]


def test_addresses_resolve_through_dns():
    assert Target("teacher:50051").url == "dns:///teacher:50051"
    assert Target("dns:///teacher:50051").url == "dns:///teacher:50051"
    assert Target("unix:/run/teacher").url == "unix:/run/teacher"
