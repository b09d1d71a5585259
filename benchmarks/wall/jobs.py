"""One training job as a teacher sees it: requests through gRPC or tasks on the queue, all at once or at even times."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from benchmarks.desk import Desk
from benchmarks.scoring.house import NAME
from benchmarks.wall.pool import TENANT, Pool
from preceptor.client import AsyncTeacherClient, ScoreItem
from preceptor.types import Scored, Sequence, Want

WANT = Want(sampled=True)
WITHIN_S = 900.0
_numbers = itertools.count()  # of requests; a task's name is used once
OPENING = 8  # tasks at once; as many as a queue has connections would leave none to read with
IN_FLIGHT = 32  # requests of a job without a pace that are under way at once through gRPC
Door = Literal["grpc", "redis"]


@dataclass(frozen=True, slots=True)
class Size:
    """Of every request: equal ones, so that shares can be counted."""

    tokens: int
    vocabulary: int


@dataclass(slots=True)
class Job:
    """Asks, and notes for each request when it was asked and answered."""

    name: str
    door: Door
    size: Size
    asked_s: dict[str, float] = field(default_factory=dict)
    done_s: dict[str, float] = field(default_factory=dict)
    _rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    _desk: Desk | None = None
    _clients: list[AsyncTeacherClient] = field(default_factory=list)

    @asynccontextmanager
    async def joined(self, pool: Pool) -> AsyncGenerator[None]:
        """Connected; what it has not got by then nobody reads."""
        async with AsyncExitStack() as stack:
            if self.door == "redis":
                self._desk = Desk(pool.queue, self.name, WANT, tenant=TENANT, finished_s=self.done_s)
                await stack.enter_async_context(self._desk.collecting())
            else:
                self._clients = await stack.enter_async_context(pool.clients(self.name))
            yield

    async def ask(self) -> None:
        """One request, until its rows are here."""
        name, sequence = self._next()
        await (self._ask_queue(name, sequence) if self.door == "redis" else self._ask_service(name, sequence))

    def _next(self) -> tuple[str, Sequence]:
        name = f"{self.name}-{next(_numbers)}"
        ids = self._rng.integers(0, self.size.vocabulary, self.size.tokens)
        self.asked_s[name] = time.perf_counter()
        return name, Sequence.of(ids[: len(ids) // 2], ids[len(ids) // 2 :])

    async def _ask_queue(self, name: str, sequence: Sequence) -> None:
        assert self._desk is not None
        await self._desk.open_whole(name, sequence)
        await self._desk.finished([name], WITHIN_S)

    async def _ask_service(self, name: str, sequence: Sequence) -> None:
        client = self._clients[len(self.asked_s) % len(self._clients)]
        [outcome] = await client.score(NAME, [ScoreItem(sequence, WANT)], deadline_s=WITHIN_S)
        if not isinstance(outcome, Scored):
            raise RuntimeError(f"{name} was not scored: {outcome}")
        self.done_s[name] = time.perf_counter()

    # ---- how a job asks

    async def leave_on_queue(self, count: int) -> None:
        """So many tasks, without waiting for their rows."""
        assert self._desk is not None
        left = iter(range(count))

        async def one_after_another(desk: Desk) -> None:
            for _ in left:
                await desk.open_whole(*self._next())

        await asyncio.gather(*(one_after_another(self._desk) for _ in range(OPENING)))

    async def all_of(self, count: int) -> None:
        """So many requests as quickly as they are served. The queue holds all of them at once."""
        left, at_once = iter(range(count)), count if self.door == "redis" else IN_FLIGHT

        async def one_after_another() -> None:
            for _ in left:
                await self.ask()

        await asyncio.gather(*(one_after_another() for _ in range(min(count, at_once))))

    async def paced(self, every_s: float, until_s: float) -> None:
        """An open loop: at even times, whether or not those before were answered; then the rest of the answers."""
        began_s = time.perf_counter()
        async with asyncio.TaskGroup() as asking:
            for number in itertools.count():
                at_s = began_s + number * every_s
                if at_s >= until_s:
                    return
                await asyncio.sleep(max(0.0, at_s - time.perf_counter()))
                asking.create_task(self.ask())

    # ---- what came of it

    def served(self, from_s: float, until_s: float) -> int:
        """Requests answered in between."""
        return sum(from_s <= done < until_s for done in self.done_s.values())

    def delays_s(self, from_s: float = 0.0) -> list[float]:
        """Of the requests that were asked from then on."""
        return [done - self.asked_s[name] for name, done in self.done_s.items() if self.asked_s[name] >= from_s]
