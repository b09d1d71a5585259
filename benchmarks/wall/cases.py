"""What is measured on a running pool: the same work as eight jobs and as one, and eight jobs of which one floods."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from benchmarks.sharing.measures import jain, max_min_shares
from benchmarks.wall.jobs import Door, Job, Size
from benchmarks.wall.pool import Pool

BIG, FLOOD, VICTIMS = "big", "flood", ("victim-grpc", "victim-redis")
OTHERS = tuple(f"job{number}" for number in range(5))
EIGHT = (FLOOD, *VICTIMS, *OTHERS)
WEIGHTS = {"equal": [1.0] * 8, "1:2:4": [4.0, 1.0, 2.0, 1.0, 2.0, 4.0, 1.0, 2.0]}
FLOOD_DEMAND, VICTIM_DEMAND, OTHER_DEMAND = 50.0, 0.5, 1.25  # of a job's own share
SETTLING = 0.2  # of the time, before anything is counted
SOLO_ASKED = 12
BURST_S = 0.1  # answers that are closer are of one batch, which takes seconds

Asking = Callable[[], Awaitable[None]]


def doors() -> Iterator[Door]:
    """Turn and turn about."""
    return cycle(("grpc", "redis"))


async def served_per_s(pool: Pool, jobs: list[Job], count: int) -> float:
    """Requests a second of so many in all, evenly divided and asked at once, while none of the workers runs dry."""
    await serve(pool, jobs, count)
    return middle_per_s([done_s for job in jobs for done_s in job.done_s.values()])


async def serve(pool: Pool, jobs: list[Job], count: int) -> None:
    """So many in all, evenly divided and asked at once, until all are answered."""
    async with AsyncExitStack() as stack:
        for job in jobs:
            await stack.enter_async_context(job.joined(pool))
        await asyncio.gather(*(job.all_of(count // len(jobs)) for job in jobs))


def middle_per_s(done_s: Iterable[float]) -> float:
    """Answers a second without the first and the last fifth: of a few batches the last ones are of chance sizes on each worker.

    The answers of a batch come within milliseconds, so the interval goes from the last answer of one batch to that of another:
    cut between them, an answer more or less of a batch would be a twentieth of the figure.
    """
    ordered = sorted(done_s)
    cut = len(ordered) // 5
    first, last = _burst_end(ordered, cut), _burst_end(ordered, len(ordered) - 1 - cut)
    return (last - first) / (ordered[last] - ordered[first])


def _burst_end(ordered: Sequence[float], place: int) -> int:
    """The last answer of those that come one right after the other."""
    while place + 1 < len(ordered) and ordered[place + 1] - ordered[place] < BURST_S:
        place += 1
    return place


def one_job(size: Size) -> list[Job]:
    return [Job(BIG, door, size) for door, _ in zip(doors(), range(2), strict=False)]


def eight_jobs(size: Size) -> list[Job]:
    return [Job(name, door, size) for name, door in zip(EIGHT, doors(), strict=False)]


@dataclass(frozen=True, slots=True)
class Contended:
    """Eight jobs, one of which asks for fifty times its share at once."""

    jain: float
    served: Mapping[str, int]
    fair: Mapping[str, float]
    solo_p95_s: Mapping[str, float]
    victim_p95_s: Mapping[str, float]
    batch_s: float

    @property
    def wall(self) -> float:
        """The worse victim's p95 over (solo + one batch)."""
        return max(self.victim_p95_s[name] / (self.solo_p95_s[name] + self.batch_s) for name in VICTIMS)

    def detail(self) -> dict[str, object]:
        rounded = {name: round(share, 1) for name, share in self.fair.items()}
        seconds = {"solo_p95_s": self.solo_p95_s, "victim_p95_s": self.victim_p95_s}
        told = {name: {job: round(value, 3) for job, value in values.items()} for name, values in seconds.items()}
        return {"served": dict(self.served), "fair": rounded, **told, "batch_s": round(self.batch_s, 3)}


async def contended(
    pool: Pool, size: Size, weight: Mapping[str, float], per_s: float, batch_s: float, lasts_s: float
) -> Contended:
    """`per_s` is what the pool serves in all, in requests."""
    jobs = {name: Job(name, door_of(name), size) for name in EIGHT}
    share = {name: per_s * weight[name] / sum(weight.values()) for name in EIGHT}
    async with AsyncExitStack() as stack:
        for job in jobs.values():
            await stack.enter_async_context(job.joined(pool))
        solo = {name: await _alone(jobs[name]) for name in VICTIMS}
        await jobs[FLOOD].leave_on_queue(int(FLOOD_DEMAND * share[FLOOD] * lasts_s))
        began_s = time.perf_counter()
        from_s, until_s = began_s + SETTLING * lasts_s, began_s + lasts_s
        await _crowd(jobs, share, until_s)
    wanted = {name: share[name] * demand_of(name) * (until_s - from_s) for name in EIGHT}
    served = {name: job.served(from_s, until_s) for name, job in jobs.items()}
    fair = max_min_shares(wanted, dict(weight), sum(served.values()))
    return Contended(
        jain(served[name] / fair[name] for name in EIGHT),
        served,
        fair,
        solo,
        {name: p95(jobs[name].delays_s(from_s)) for name in VICTIMS},
        batch_s,
    )


async def _alone(job: Job) -> float:
    """p95 of one request at a time, nobody else asking."""
    for _ in range(SOLO_ASKED):
        await job.ask()
    return p95(job.delays_s())


async def _crowd(jobs: Mapping[str, Job], share: Mapping[str, float], until_s: float) -> None:
    """Victims get all of their answers, the others are sent away at the end."""
    crowd = [asyncio.create_task(jobs[name].paced(1 / (OTHER_DEMAND * share[name]), until_s)) for name in OTHERS]
    try:
        await asyncio.gather(*(jobs[name].paced(1 / (VICTIM_DEMAND * share[name]), until_s) for name in VICTIMS))
        await asyncio.sleep(max(0.0, until_s - time.perf_counter()))
        for task in crowd:
            if task.done():  # too early, or a failure that must not be taken for silence
                task.result()
    finally:
        for task in crowd:
            task.cancel()
        await asyncio.wait(crowd)


def door_of(name: str) -> Door:
    """Both victims' doors are in their names; the flood comes through the queue, which holds all of it."""
    if name in VICTIMS:
        return "grpc" if name.endswith("grpc") else "redis"
    return "redis" if name == FLOOD or OTHERS.index(name) % 2 else "grpc"


def demand_of(name: str) -> float:
    """In its own share."""
    return {FLOOD: FLOOD_DEMAND, **dict.fromkeys(VICTIMS, VICTIM_DEMAND)}.get(name, OTHER_DEMAND)


def p95(values: list[float]) -> float:
    return float(np.percentile(values, 95))
