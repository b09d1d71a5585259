"""A job whose keys hold what the queue never wrote: it ends by name, and its neighbours are served."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from preceptor.errors import Corrupt
from preceptor.local.valkey import EmbeddedValkey
from preceptor.queue import Flow, QueueBounds, TaskState
from preceptor.queue.redis import RedisQueue
from preceptor_proto.v1 import common_pb2
from tests.contract.queue_rig import FLOW, TEACHER, inline_task, put

OTHER = Flow(TEACHER, "hostile", "job")
NO_PROTOBUF = b"\xff\xff\xff"


@pytest.fixture
async def queue(server: EmbeddedValkey, client: Any) -> AsyncIterator[RedisQueue]:
    queue = await RedisQueue.connect(server.url, password=server.password, bounds=QueueBounds(lease_s=0.05))
    yield queue
    await queue.close()


async def both(queue: RedisQueue) -> None:
    """An honest task, and one that is about to be broken."""
    await put(queue, inline_task("honest"))
    await queue.create(OTHER, inline_task("broken"))
    await queue.poke(OTHER, "broken")


async def test_a_task_that_cannot_be_read_is_a_dead_letter_and_its_neighbours_are_leased(queue: RedisQueue, client: Any) -> None:
    for name in ("broken", "whole"):
        await put(queue, inline_task(name))
    client.hset(FLOW.task("broken"), "spec", NO_PROTOBUF)
    assert [lease.task_id for lease in await queue.lease(FLOW, "w", limit=9)] == ["whole"]
    (letter,) = await queue.dead_letters(FLOW)
    assert (letter.letter.task.task_id, letter.letter.reason.code) == ("broken", common_pb2.CORRUPT)
    (told,) = await queue.read_out(FLOW)
    assert told.envelope.error.field == "task"


async def test_a_leased_task_that_is_broken_afterwards_does_not_keep_the_others_from_being_reclaimed(
    queue: RedisQueue, client: Any
) -> None:
    await both(queue)
    assert await queue.lease(OTHER, "dead")
    assert await queue.lease(FLOW, "dead")
    client.hset(OTHER.task("broken"), "spec", NO_PROTOBUF)
    taken: set[str] = set()
    while "honest" not in taken:
        taken |= {task.task_id for task in await queue.reclaim(TEACHER)}
    info = await queue.task_info(FLOW, "honest")
    assert info is not None
    assert info.state is TaskState.READY


@pytest.mark.parametrize("key", [OTHER.ready, OTHER.out, OTHER.dead])
async def test_a_key_of_another_type_hides_no_other_job(queue: RedisQueue, client: Any, key: str) -> None:
    await both(queue)
    client.delete(key)
    client.set(key, "no such structure")
    assert FLOW in {band.flow for band in await queue.ready_bands(TEACHER)}
    assert await queue.lease(FLOW, "w")
    await queue.reclaim(TEACHER)


@pytest.mark.parametrize("fields", [["state"], ["spec", "fence"], ["expires_ms"]])
async def test_a_task_without_all_of_its_fields_is_refused_by_name(queue: RedisQueue, client: Any, fields: list[str]) -> None:
    await both(queue)
    client.hdel(OTHER.task("broken"), *fields)
    with pytest.raises(Corrupt) as refused:
        await queue.task_info(OTHER, "broken")
    assert refused.value.field == "task"
