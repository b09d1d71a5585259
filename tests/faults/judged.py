"""A judge at the queue, in a process of its own that is killed at a named point: no verdict is lost, and little is paid twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from examples.tiny.task import load
from preceptor.client.grading import Graded, GradeOptions, grade_request, read_verdicts
from preceptor.errors import PreceptorError
from preceptor.local.valkey import EmbeddedValkey
from preceptor.queue import Flow, GradeQueue
from preceptor.queue.redis import RedisQueue
from preceptor.types import GradeItem
from preceptor_teacher.api.points import POINTS as CALL_POINTS
from preceptor_teacher.testing import StandIn, standing_in
from preceptor_teacher.testing.judging import agreement
from preceptor_teacher.worker.points import GRADE_POINTS
from tests.faults.judge_process import JUDGE, JudgeJob
from tests.faults.results import Outcome
from tests.support.models import BUNDLED_TEACHER

POINTS = (*GRADE_POINTS, *CALL_POINTS)
AT_ONCE = 2
PROBLEMS = load("heldout")[:6]
KILLED = -signal.SIGKILL
FLOW = Flow(JUDGE, "local", "run")
HIT = 2
LIMIT_S = 90.0


@dataclass
class Court:
    """A provider, a server, and the judge's process, which is started again when it was killed."""

    job: JudgeJob
    provider: StandIn
    deaths: int = 0

    async def keep(self) -> None:
        job = self.job
        while True:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "preceptor.local.leash", str(os.getpid())),
                *(sys.executable, "-m", "tests.faults.judge_process", json.dumps(asdict(job))),
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            try:
                code = await process.wait()
            finally:
                if process.returncode is None:
                    process.terminate()
                    await process.wait()
            assert code in (0, KILLED), f"the judge ended with code {code}"
            self.deaths += code == KILLED
            job = replace(job, kill_point="")

    @property
    def calls(self) -> int:
        return self.provider.provider.seen["chat"]


@asynccontextmanager
async def in_court(server: EmbeddedValkey, folder: Path, **told: Any) -> AsyncGenerator[Court]:
    async with standing_in(BUNDLED_TEACHER) as provider:
        paths = {name: str(folder / name) for name in ("marks", "ledger")}
        job = JudgeJob(
            server.url, server.password, **paths, provider=provider.base_url, name="one", **{"max_concurrency": AT_ONCE, **told}
        )
        court = Court(job, provider)
        keeper = asyncio.create_task(court.keep())
        try:
            yield court
        finally:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper


async def ask_all(door: GradeQueue) -> list[float | None]:
    """The rewards of a right and a wrong answer to each problem, one request a problem."""

    async def ask(prompt: str, worked: str) -> list[float | None]:
        items = [GradeItem(prompt, worked), GradeItem(prompt, worked.split(maxsplit=1)[0])]
        reply = await door.grade(grade_request(JUDGE, items, GradeOptions(job="run")))
        return [rewarded(one) for one in read_verdicts(reply, len(items))]

    found = await asyncio.gather(*(ask(one.prompt, one.worked) for one in PROBLEMS))
    return [reward for pair in found for reward in pair]


def rewarded(graded: Graded) -> float | None:
    if isinstance(graded, PreceptorError):
        raise graded
    return graded.reward


def expected() -> list[float]:
    return [agreement(one.worked, text) for one in PROBLEMS for text in (one.worked, one.worked.split(maxsplit=1)[0])]


@asynccontextmanager
async def queue_of(server: EmbeddedValkey) -> AsyncGenerator[RedisQueue]:
    queue = await RedisQueue.connect(server.url, password=server.password)
    try:
        yield queue
    finally:
        await queue.close()


async def check_kill(server: EmbeddedValkey, folder: Path, point: str) -> str:
    """Holds the judge to all of it; how many calls were paid, and for how many questions."""
    async with (
        in_court(server, folder, kill_point=point, kill_hit=HIT) as court,
        queue_of(server) as queue,
        AsyncExitStack() as stack,
    ):
        door = GradeQueue(queue, FLOW.tenant, deadline_s=LIMIT_S)
        stack.push_async_callback(door.close)
        rewards = await ask_all(door)
        assert rewards == expected(), "other verdicts than without a kill"
        assert court.deaths == 1, "the kill did not happen"
        asked = len(rewards)
        assert asked <= court.calls <= asked + AT_ONCE, f"{court.calls} calls for {asked} questions, {AT_ONCE} under way at once"
        assert await queue.read_out(FLOW) == (), "a verdict was told twice"
        assert await queue.dead_letters(FLOW) == (), "a kill was held against a question"
        return f"{court.calls} calls paid for {asked} questions, {AT_ONCE} at once"


async def judge_killed(folder: Path, name: str, point: str) -> Outcome:
    """The story of one point."""
    began, problem, detail = time.monotonic(), "", ""
    folder.mkdir(parents=True)  # noqa: ASYNC240  nothing else runs yet
    with EmbeddedValkey(folder / "queue") as server:
        try:
            detail = await check_kill(server, folder, point)
        except (AssertionError, PreceptorError, TimeoutError) as error:
            problem = f"{type(error).__name__}: {error}"
    return Outcome("story", name, 1, 1, 0, 0, not problem, time.monotonic() - began, problem, detail)
