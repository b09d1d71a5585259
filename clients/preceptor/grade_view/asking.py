"""Records to verdicts: requests of a few records each, a group never divided, answered in the order of the file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from preceptor.client.grading import Graded, GradeOptions, Grades
from preceptor.errors import PreceptorError
from preceptor.grade_view.records import Record
from preceptor.learner.waits import together

RECORDS_A_REQUEST = 32
REQUESTS_AT_ONCE = 4
Batch = list[tuple[int, Record]]
"""Records of one request, each with its place among all."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one record."""

    record: Record
    graded: Graded


async def grade_all(
    client: Grades,
    teacher: str,
    records: Sequence[Record],
    options: GradeOptions,
    take: Callable[[Outcome], None],
) -> None:
    """Hands `take` an outcome for each record, in their order, as soon as it and those before it are there.

    A request that was not answered is the error of each of its records. One that can never be answered, such as that for an
    unknown grader, is raised: the others would fare no better.
    """
    room = asyncio.Semaphore(REQUESTS_AT_ONCE)
    waiting: dict[int, Graded] = {}
    shown = 0

    async def ask(batch: Batch) -> None:
        nonlocal shown
        async with room:
            graded = await _graded(client, teacher, batch, options)
        waiting.update(zip((index for index, _ in batch), graded, strict=True))
        while shown in waiting:
            take(Outcome(records[shown], waiting.pop(shown)))
            shown += 1

    await together(*(ask(batch) for batch in batches_of(records)))


def batches_of(records: Sequence[Record]) -> list[Batch]:
    """Requests, by where a group begins. Records of one group are compared with each other, so they go together."""
    groups: dict[object, Batch] = {}
    for index, record in enumerate(records):
        groups.setdefault(record.item.group or index, []).append((index, record))
    batches: list[Batch] = []
    for members in groups.values():
        if not batches or len(batches[-1]) + len(members) > RECORDS_A_REQUEST:
            batches.append([])
        batches[-1] += members
    return batches


async def _graded(client: Grades, teacher: str, batch: Batch, options: GradeOptions) -> Sequence[Graded]:
    try:
        return await client.grade(teacher, [record.item for _, record in batch], options)
    except PreceptorError as error:
        if not error.retryable:
            raise
        return [error] * len(batch)
