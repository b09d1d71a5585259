"""A tenant that writes what it likes under its own keys: the worker refuses it by name and goes on serving everybody else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis

from preceptor import wire
from preceptor.client.grading import GradeOptions, grade_request
from preceptor.errors import PreceptorError
from preceptor.queue import Flow, GradeQueue, LogName, ScoreStream
from preceptor.queue.grading import task_of
from preceptor.queue.redis import RedisQueue
from preceptor.types import GradeItem, RolloutId, Sequence, Want
from preceptor_proto.v1 import common_pb2, rollout_pb2, teacher_pb2
from tests.fuzz.doors import Doors
from tests.fuzz.messages import TEXTS, mangled, mutated, random_message
from tests.fuzz.verdicts import Finding

HANG_S = 12.0
HONEST = Flow("fake", "honest", "job")
Write = Callable[["QueueFuzz", Flow, random.Random], None]


def good_task(name: str, rollout: RolloutId | None = None) -> teacher_pb2.ScoreTask:
    task = teacher_pb2.ScoreTask(
        schema=1, task_id=name, teacher=wire.choice_to_proto("fake"), want=wire.want_to_proto(Want(sampled=True))
    )
    if rollout is None:
        task.inline.CopyFrom(wire.sequence_to_proto(Sequence.of([1, 2], [3, 4])))
    else:
        task.context.CopyFrom(wire.ids_to_proto([1, 2]))
        task.rollout.CopyFrom(wire.rollout_id_to_proto(rollout))
    return task


def good_texts(name: str) -> teacher_pb2.ScoreTask:
    return task_of(grade_request("judge", [GradeItem("2+3=", "5")], GradeOptions(job="job")), name, 0)


class QueueFuzz:
    """Cases by number; after each an honest tenant's task must be scored, or its text judged."""

    door = "queue"

    def __init__(self, doors: Doors, queue: RedisQueue, seed: int) -> None:
        self._seed, self.queue = seed, queue
        self.client: Any = redis.Redis(port=doors.queue.port, password=doors.queue.password, socket_timeout=10)
        self._stream = ScoreStream(queue, HONEST)
        self._grades = GradeQueue(queue, HONEST.tenant, deadline_s=HANG_S)
        self.names = list(WRITES)

    async def close(self) -> None:
        self.client.close()
        await self._grades.close()
        await self.queue.close()

    async def case(self, number: int) -> tuple[str, list[Finding]]:
        rng = random.Random(f"{self._seed}/{number}")
        name = self.names[number % len(self.names)]
        good = good_texts if name.startswith("texts") else good_task
        flow = Flow(good("victim").teacher.teacher, "hostile", f"job-{number}")
        with suppress(redis.RedisError):  # the server refuses some of it
            await self.queue.create(flow, good("victim"))
            WRITES[name](self, flow, rng)
        honest = self._honest_text if good is good_texts else self._honest
        complaint = await honest(f"task-{number}") or await self._own(flow, good("victim"))
        if complaint:
            self._clear(flow)
        return name, [Finding("queue", name, number, complaint, f"seed {self._seed}/{number}")] if complaint else []

    async def _honest(self, name: str) -> str:
        """Empty where an honest task is scored while the hostile ones are there."""
        try:
            async with asyncio.timeout(HANG_S):
                await self._stream.open(good_task(name))
                while self._stream.open_tasks:
                    taken = await self._stream.take(timeout_s=1.0)
                    await self._stream.acknowledge(taken)
        except TimeoutError:
            self._stream = ScoreStream(self.queue, HONEST)
            return f"HANG: an honest task was not scored for {HANG_S:g} s"
        except PreceptorError as error:
            return f"{error.code}: {error.message}"
        return ""

    async def _honest_text(self, name: str) -> str:
        """The same of an honest question, once the hostile task could be leased."""
        try:
            await self.queue.poke(Flow("judge", "hostile", f"job-{name.removeprefix('task-')}"), "victim")
        except PreceptorError as error:
            if not error.field:
                return f"poke: {error.code}: {error.message}"
        try:
            reply = await self._grades.grade(grade_request("judge", [GradeItem("2+3=", name)], GradeOptions()))
        except PreceptorError as error:
            return f"an honest question was not answered: {error.code}: {error.message}"
        return "" if reply.results[0].HasField("verdict") else f"an honest question failed: {reply.results[0].error.message}"

    async def _own(self, flow: Flow, victim: teacher_pb2.ScoreTask) -> str:
        """The hostile tenant's own learner gets an answer or a named refusal, call by call."""
        calls = (
            lambda: self.queue.poke(flow, "victim"),
            lambda: self.queue.task_info(flow, "victim"),
            lambda: self.queue.read_out(flow),
            lambda: self.queue.dead_letters(flow),
            lambda: self.queue.reopen(flow, victim, 0),
        )
        for place, call in enumerate(calls):
            try:
                async with asyncio.timeout(HANG_S):
                    await call()
            except PreceptorError as error:
                if error.code.value == "INTERNAL" or not error.field:
                    return f"own call {place}: {error.code}, field {error.field!r}: {error.message}"
            except TimeoutError:
                return f"HANG: own call {place}"
            except Exception as error:
                return f"CRASH: own call {place}: {type(error).__name__}: {error}"
        return ""

    def _clear(self, flow: Flow) -> None:
        keys = self.client.keys(f"pc1:*:{flow.tenant}:{flow.job}:*")
        if keys:
            self.client.delete(*keys)


# ---------------------------------------------------------------- what it writes


def spec_message(fuzz: QueueFuzz, flow: Flow, rng: random.Random) -> None:
    task = mutated(good_task("victim"), rng) if rng.random() < 0.7 else random_message(teacher_pb2.ScoreTask, rng)
    fuzz.client.hset(flow.task("victim"), "spec", task.SerializeToString())


def spec_bytes(fuzz: QueueFuzz, flow: Flow, rng: random.Random) -> None:
    fuzz.client.hset(flow.task("victim"), "spec", mangled(good_task("victim").SerializeToString(), rng))


def texts_message(fuzz: QueueFuzz, flow: Flow, rng: random.Random) -> None:
    """A task of texts with something changed in it, or somebody else's kind of task under a judge's name."""
    other = good_task("victim")
    other.teacher.CopyFrom(wire.choice_to_proto("judge"))
    task = rng.choice((mutated(good_texts("victim"), rng), mutated(good_texts("victim"), rng), mutated(other, rng)))
    fuzz.client.hset(flow.task("victim"), "spec", task.SerializeToString())


def texts_bytes(fuzz: QueueFuzz, flow: Flow, rng: random.Random) -> None:
    fuzz.client.hset(flow.task("victim"), "spec", mangled(good_texts("victim").SerializeToString(), rng))


def task_field(fuzz: QueueFuzz, flow: Flow, rng: random.Random) -> None:
    """Any field of the task's hash, any text."""
    fields = fuzz.client.hkeys(flow.task("victim")) or [b"state"]
    fuzz.client.hset(flow.task("victim"), rng.choice(fields), rng.choice((*TEXTS, "-1", "1e400", "nan", "9" * 30)))


def task_lost_field(fuzz: QueueFuzz, flow: Flow, rng: random.Random) -> None:
    fields = fuzz.client.hkeys(flow.task("victim"))
    fuzz.client.hdel(flow.task("victim"), *rng.sample(fields, rng.randint(1, len(fields))))


def wrong_type(fuzz: QueueFuzz, flow: Flow, rng: random.Random) -> None:
    key = rng.choice((flow.task("victim"), flow.ready, flow.out, flow.dead))
    fuzz.client.delete(key)
    rng.choice((lambda: fuzz.client.set(key, "x"), lambda: fuzz.client.rpush(key, "x"), lambda: fuzz.client.sadd(key, "x")))()


def ready_members(fuzz: QueueFuzz, flow: Flow, rng: random.Random) -> None:
    names = [rng.choice((*TEXTS, "victim", "nobody")) for _ in range(rng.randint(1, 9))]
    fuzz.client.zadd(flow.ready, {name: rng.choice((0, -1, 1e18, 1e308, float("inf"), float("-inf"))) for name in names})


def out_entries(fuzz: QueueFuzz, flow: Flow, rng: random.Random) -> None:
    envelope = random_message(teacher_pb2.Envelope, rng).SerializeToString()
    field = rng.choice(("p", "q"))
    fuzz.client.xadd(flow.out, {field: rng.choice((envelope, mangled(envelope, rng), b""))})


def dead_entries(fuzz: QueueFuzz, flow: Flow, rng: random.Random) -> None:
    letter = random_message(teacher_pb2.DeadLetter, rng).SerializeToString()
    fuzz.client.xadd(flow.dead, {rng.choice(("p", "q")): rng.choice((letter, mangled(letter, rng), b""))})


def log_entries(fuzz: QueueFuzz, flow: Flow, rng: random.Random) -> None:
    """Entries of a response log that a task waits on."""
    rollout = RolloutId("run", 1, 0, 0)
    name = LogName.of(flow.tenant, flow.job, rollout)
    segment = common_pb2.Segment(response=wire.ids_to_proto([3, 4]))
    good = rollout_pb2.LogEntry(offset=0, segment=segment)
    fuzz.client.hset(flow.task("victim"), "spec", good_task("victim", rollout).SerializeToString())
    for place in range(rng.randint(1, 3)):
        entry = rng.choice((mutated(good, rng), random_message(rollout_pb2.LogEntry, rng))).SerializeToString()
        raw = rng.choice((entry, mangled(entry, rng)))
        fuzz.client.xadd(name.ids, {rng.choice(("p", "p", "q")): raw}, id=f"{place * 2 + 1}-0")


WRITES: dict[str, Write] = {
    "task: message": spec_message,
    "task: bytes": spec_bytes,
    "texts: message": texts_message,
    "texts: bytes": texts_bytes,
    "task: field": task_field,
    "task: lost fields": task_lost_field,
    "key of another type": wrong_type,
    "ready: members": ready_members,
    "out: entries": out_entries,
    "dead: entries": dead_entries,
    "log: entries": log_entries,
}
