"""The tickets of one request, from the queue of an engine to their results."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from preceptor.error_details import detail_of
from preceptor.errors import PreceptorError
from preceptor_proto.v1 import teacher_pb2
from preceptor_teacher.pool import EnginePool
from preceptor_teacher.tickets import Ticket


async def run_all(pool: EnginePool, tickets: Sequence[Ticket]) -> None:
    """Until all have ended. A full queue refuses them as one; a caller who leaves takes all of them with him."""
    submitted: list[Ticket] = []
    try:
        for ticket in tickets:
            pool.submit(ticket)
            submitted.append(ticket)
        if submitted:
            await asyncio.wait([ticket.result for ticket in submitted])
    except BaseException:
        for ticket in submitted:
            ticket.result.cancel()
        pool.cancel([ticket.task.task_id for ticket in submitted])
        raise


async def result_of(ticket: Ticket) -> teacher_pb2.ScoreResult:
    """The engine's death under one item is that item's error, not its neighbours'."""
    try:
        return await ticket.result
    except PreceptorError as error:
        return teacher_pb2.ScoreResult(error=detail_of(error))


def named(result: teacher_pb2.ScoreResult, index: int) -> teacher_pb2.ScoreResult:
    """Errors name their item."""
    if result.HasField("error"):
        result.error.field = f"items[{index}].{result.error.field}".rstrip(".")
    return result
