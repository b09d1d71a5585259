"""R4: poison among good messages, some of it deadly to the engine: exactly the poison ends in the dead letters."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from pathlib import Path

from preceptor import wire
from preceptor.queue import Flow, ScoreStream
from preceptor.queue.redis import RedisQueue
from preceptor.types import Sequence, Want
from preceptor_proto.v1 import teacher_pb2
from tests.faults.results import Outcome
from tests.faults.scripted import ENGINE_INFO
from tests.faults.stage import Script, Stage, on_stage
from tests.faults.worker_process import TEACHER

MESSAGES, POISONED, KILLERS = 1000, 10, 2
DEADLY = 60  # a token id that the engine dies of
FLOW = Flow(TEACHER, "local", "poison")
LIMIT_S = 240.0


def tasks(seed: int) -> tuple[list[teacher_pb2.ScoreTask], set[str], dict[str, int]]:
    """All messages in their order; the names of the poisoned ones; rows wanted of each of the others."""
    rng = random.Random(seed)
    bad = rng.sample(range(MESSAGES), POISONED)
    made = [_task(f"task-{number}", rng) for number in range(MESSAGES)]
    for place, number in enumerate(bad):
        _spoil(made[number], place)
    names = {made[number].task_id for number in bad}
    rows = {task.task_id: len(task.inline.segments[1].response.u32le) // 4 for task in made if task.task_id not in names}
    return made, names, rows


def _task(name: str, rng: random.Random) -> teacher_pb2.ScoreTask:
    response = [rng.randrange(DEADLY) for _ in range(rng.randint(1, 20))]
    return teacher_pb2.ScoreTask(
        schema=1,
        task_id=name,
        teacher=wire.choice_to_proto(TEACHER),
        inline=wire.sequence_to_proto(Sequence.of([1, 2], response)),
        want=wire.want_to_proto(Want(sampled=True)),
    )


def _spoil(task: teacher_pb2.ScoreTask, place: int) -> None:
    """The first ones kill the engine; the others are wrong, each in its way."""
    if place < KILLERS:
        task.inline.CopyFrom(wire.sequence_to_proto(Sequence.of([1, 2], [3, DEADLY, 4])))
    elif place % 4 == 0:
        task.inline.CopyFrom(wire.sequence_to_proto(Sequence.of([1, 2], [ENGINE_INFO.tokenizer_size])))
    elif place % 4 == 1:
        task.want.topk = ENGINE_INFO.head_rows + 1
    elif place % 4 == 2:
        task.tokenizer_sha256 = bytes(32)
    else:
        task.grade.grader = "verbal"


async def poison(folder: Path, seed: int = 1) -> Outcome:
    """One worker, its engine in a process of its own, and every message in the queue at once."""
    began = time.monotonic()
    script = Script(engine={"crash_token": DEADLY}, engine_process=True, lease_s=2.0)
    problem, detail = "", ""
    try:
        async with on_stage(folder, script) as stage, asyncio.timeout(LIMIT_S):
            worker = asyncio.create_task(stage.keep_worker(0))
            try:
                detail = await _all_told(stage, seed)
            finally:
                worker.cancel()
                with suppress(asyncio.CancelledError):
                    await worker
    except (AssertionError, TimeoutError) as error:
        problem = f"{type(error).__name__}: {error}"
    return Outcome("story", "poison", seed, 1, 0, 0, not problem, time.monotonic() - began, problem, detail)


async def _all_told(stage: Stage, seed: int) -> str:
    made, bad, rows = tasks(seed)
    queue = await RedisQueue.connect(stage.url, password=stage.server.password)
    stream, scored, ended = ScoreStream(queue, FLOW), dict.fromkeys(rows, 0), dict[str, str]()
    for task in made:
        await stream.open(task)
    while stream.open_tasks:
        taken = await stream.take(timeout_s=0.5)
        for each in taken.deliveries:
            scored[each.task_id] = scored.get(each.task_id, 0) + each.envelope.rows.count
            if each.finished:
                ended[each.task_id] = each.envelope.error.message
        await stream.acknowledge(taken)
    letters = {entry.letter.task.task_id for entry in await queue.dead_letters(FLOW, limit=MESSAGES)}
    await queue.close()
    assert letters == bad, f"dead letters that should not be: {sorted(letters - bad)}; missing: {sorted(bad - letters)}"
    assert {name for name, message in ended.items() if message} == bad, "another message ended in an error"
    assert {name: count for name, count in scored.items() if count} == rows, "rows are missing or came twice"
    return f"exactly the {len(letters)} poisoned ones of {len(made)} messages are dead letters; {KILLERS} of them kill engines"
