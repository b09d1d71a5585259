"""One run on a stage of real processes: a learner, a teacher's worker, a Valkey behind a proxy; and what came of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import redis

from preceptor.local.child import last_lines
from preceptor.local.valkey import EmbeddedValkey, ValkeySettings
from preceptor.queue import MemoryQueue
from preceptor.queue.keys import quota_key
from preceptor.queue.redis import RedisQueue
from tests.faults.ambush import Ambush
from tests.faults.learner_process import LearnerJob
from tests.faults.marks import Kill, marks
from tests.faults.scripted import Player, Tutor, open_doors
from tests.faults.worker_process import TEACHER, WorkerJob
from tests.unit.preceptor.learner.world import TENANT, FakeStudent

KILLED = -signal.SIGKILL
POLL_S = 0.02
SETTLED_WITHIN_S = 5.0
QUOTA = quota_key(TEACHER, TENANT)
NO_KILL = Kill()


@dataclass(frozen=True)
class Script:
    """How a run is staged: who dies where, and the shape of the worker."""

    learner: Kill = NO_KILL
    worker: Kill = NO_KILL
    server: Kill = NO_KILL
    worker_names: tuple[str, ...] = ("worker",)
    lease_s: float = 1.0
    engine: dict[str, Any] = field(default_factory=lambda: {"tokens_per_s": 400.0})
    call_s: float = 0.0
    engine_process: bool = False
    clock_jumps: int | None = None
    staleness: int = 0
    limit_s: float = 90.0


@dataclass(frozen=True)
class Ended:
    """What a run left behind. `digest` is the student's weights: of every token and score that was applied, in order."""

    digest: str
    computed: dict[int, int]
    died: tuple[str, ...]
    reached: dict[str, int]
    scored_twice: int
    reserved: int  # reservations of the tenant's quota that nobody has settled; not looked at where the server was killed


class DiedWrongly(Exception):
    """A process of the stage ended otherwise than by the kill that was ordered."""


@dataclass
class Stage:
    """Everything that is up during a run."""

    folder: Path
    script: Script
    server: MortalValkey
    proxy: Ambush
    doors: dict[str, str]
    student: FakeStudent
    stack: AsyncExitStack
    over: asyncio.Event = field(default_factory=asyncio.Event)
    deleted: int = 0

    def client(self) -> Any:
        """A plain client of the server, past the proxy."""
        return redis.Redis(port=self.server.port, password=self.server.password, socket_timeout=5)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.proxy.port}/0"

    def marks_of(self, name: str) -> Path:
        return self.folder / f"{name}.marks"

    def count(self, kind: str, text: str = "") -> int:
        """How many lines of that kind (and text) all processes have written."""
        found = [each for path in self.folder.glob("*.marks") for each in marks(path).items()]
        return sum(times for (one, other), times in found if one == kind and text in ("", other))

    async def until(self, condition: Callable[[], bool]) -> bool:
        """True when it came true, False when the run was over first."""
        while not condition():
            if self.over.is_set():
                return False
            await asyncio.sleep(POLL_S)
        return True

    # ---------------------------------------------------------------- processes

    def learner_job(self, kill: Kill) -> LearnerJob:
        settings = {**self.doors, "redis_url": self.url, "redis_password": self.server.password}
        folder, marked = str(self.folder / "runs"), str(self.marks_of("learner"))
        return LearnerJob(settings, folder, marked, kill.point, kill.hit, self.script.clock_jumps, self.script.staleness)

    def worker_job(self, place: int, kill: Kill) -> WorkerJob:
        return WorkerJob(
            url=self.url,
            password=self.server.password,
            marks=str(self.marks_of(f"worker-{place}")),
            name=self.script.worker_names[place],
            lease_s=self.script.lease_s,
            engine=self.script.engine,
            call_s=self.script.call_s,
            own_process=self.script.engine_process,
            kill_point=kill.point,
            kill_hit=kill.hit,
            clock_jumps=self.script.clock_jumps,
        )

    async def keep_worker(self, place: int) -> None:
        """Runs until the stage is closed; started again after a kill, which happens once."""
        kill = self.script.worker if place == 0 else NO_KILL
        while True:
            await self._run(f"worker-{place}", "tests.faults.worker_process", self.worker_job(place, kill))
            kill = NO_KILL

    async def run_learner(self) -> None:
        """Returns when a learner has finished the run."""
        kill = self.script.learner
        while await self._run("learner", "tests.faults.learner_process", self.learner_job(kill)) == KILLED:
            kill = NO_KILL

    async def keep_server(self) -> None:
        """Brings the server back each time that it was killed."""
        while True:
            await asyncio.sleep(POLL_S)
            if self.proxy.died and self.server.dead:
                await asyncio.to_thread(self.server.start)

    async def _run(self, name: str, module: str, job: LearnerJob | WorkerJob) -> int:
        """The exit code: 0, or that of a kill that was ordered."""
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "preceptor.local.leash", str(os.getpid())),
                *(sys.executable, "-m", module, json.dumps(asdict(job))),
                stdout=output,
                stderr=output,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if code not in (0, KILLED) or (code == KILLED and not job.kill_point):
            raise DiedWrongly(f"{name} ended with code {code}:\n{last_lines(log)}")
        return code

    # ---------------------------------------------------------------- the end

    async def reserved(self) -> int:
        """Reservations that stand though nothing is left to do; the last settlement may be under way."""
        client, until_s = self.client(), time.monotonic() + SETTLED_WITHIN_S
        try:
            while True:
                left = _reservations(await asyncio.to_thread(client.hgetall, QUOTA))
                if not left or time.monotonic() > until_s:
                    return left
                await asyncio.sleep(POLL_S)
        finally:
            client.close()

    async def ended(self) -> Ended:
        lines = sum((marks(path) for path in sorted(self.folder.glob("*.marks"))), Counter[tuple[str, str]]())
        of = {
            kind: {text: count for (one, text), count in lines.items() if one == kind} for kind in ("reached", "died", "scored")
        }
        return Ended(
            self.student.now.hex(),
            dict(self.student.computed),
            (*of["died"], *filter(None, [self.proxy.died])),
            {**of["reached"], **self.proxy.seen},
            sum(of["scored"].values()) - len(of["scored"]),
            0 if self.script.server.point else await self.reserved(),
        )


def _reservations(quota: dict[bytes, bytes]) -> int:
    return sum(name.startswith(b"h") for name in quota)


Harm = Callable[[Stage], Coroutine[Any, Any, None]]


async def no_harm(_: Stage) -> None:
    """For runs whose script says it all."""


class MortalValkey(EmbeddedValkey):
    """Its death is asked for from inside the event loop."""

    @property
    def dead(self) -> bool:
        return self._process is None


@asynccontextmanager
async def on_stage(folder: Path, script: Script) -> AsyncGenerator[Stage]:
    """A stage without its actors: server, proxy and scripted services are up."""
    folder.mkdir(parents=True)  # noqa: ASYNC240  nothing else runs yet
    async with AsyncExitStack() as stack:
        server = MortalValkey(folder / "queue", ValkeySettings(fsync="always"))
        await asyncio.to_thread(server.start)
        stack.callback(server.stop)
        proxy = await stack.enter_async_context(Ambush(server.port, server.kill, script.server))
        queue = await RedisQueue.connect(f"redis://127.0.0.1:{proxy.port}/0", password=server.password)
        stack.push_async_callback(queue.close)
        student = FakeStudent()
        doors = await open_doors(stack, Player(cast(MemoryQueue, queue)), student, Tutor())
        yield Stage(folder, script, server, proxy, doors, student, stack)


async def perform(folder: Path, script: Script, harm: Harm = no_harm) -> Ended:
    """The whole run. Raises what went wrong: a process that died unasked, a run that did not end within its limit."""
    async with on_stage(folder, script) as stage, asyncio.timeout(script.limit_s):
        keepers = [asyncio.create_task(stage.keep_worker(place)) for place in range(len(script.worker_names))]
        keepers.append(asyncio.create_task(stage.keep_server()))
        acts = [asyncio.create_task(stage.run_learner()), asyncio.create_task(harm(stage))]
        try:
            await _first_failure(acts[0], keepers)
            stage.over.set()
            await acts[1]
            return await stage.ended()
        finally:
            for task in (*keepers, *acts):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


async def _first_failure(main: asyncio.Task[None], keepers: list[asyncio.Task[None]]) -> None:
    """Returns when `main` is done; raises what any of them raised."""
    done, _ = await asyncio.wait([main, *keepers], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
