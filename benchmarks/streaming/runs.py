"""The same rollouts scored in three ways: while they grow, each as soon as it has ended, and long after.

All three score the same tokens: what is drawn follows from the seed. Each is a job of its own, so that none finds what the tasks
of another one left in the teacher.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from collections.abc import Sequence as Items
from dataclasses import dataclass

import numpy as np

from benchmarks.desk import Counts, Desk
from benchmarks.streaming.stage import Stage
from preceptor.client.rollout import FailedRollout, GenerateOptions, Prompt
from preceptor.queue import LogName
from preceptor.types import Ids, Rollout, RolloutId, Sequence, Want

RUN = "bench"
DEADLINE_S = 1800.0
WANT = Want(sampled=True, topk=64)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is drawn: `groups` batches, each of so many prompts and samples."""

    contexts: tuple[Ids, ...]
    samples: int
    slots: int
    new_tokens: int
    seed: int

    @property
    def rollouts(self) -> list[tuple[RolloutId, Ids]]:
        prompts = enumerate(self.contexts)
        return [(RolloutId(RUN, 0, number, sample), ids) for number, ids in prompts for sample in range(self.samples)]

    def batches(self) -> list[list[Prompt]]:
        """Prompts that are drawn together."""
        prompts = [Prompt(number, ids, samples=self.samples) for number, ids in enumerate(self.contexts)]
        step = max(1, self.slots // self.samples)
        return [prompts[start : start + step] for start in range(0, len(prompts), step)]


@dataclass(frozen=True, slots=True)
class Timed:
    """From each rollout's last token to its last score, and from the first request to the last score."""

    latencies_s: tuple[float, ...]
    makespan_s: float
    counts: Counts
    responses: dict[str, Ids]


def name_of(rollout: RolloutId) -> str:
    return f"task-{rollout.prompt}-{rollout.sample}"


async def while_growing(stage: Stage, plan: Plan, job: str) -> Timed:
    """Tasks are opened before anything is drawn; rows follow the tokens."""
    desk, ended_s = Desk(stage.queue, job, WANT), dict[str, float]()
    async with desk.collecting():
        began_s = time.perf_counter()
        await asyncio.gather(*(desk.open_growing(name_of(one), one, ids) for one, ids in plan.rollouts))
        watching = [asyncio.create_task(_last_token(stage, desk, plan, one, ended_s)) for one, _ in plan.rollouts]
        rollouts = [one async for one in _drawn(stage, plan, job, write_logs=True)]
        await asyncio.gather(*watching)
        await desk.finished(ended_s, DEADLINE_S)
    return _timed(desk, began_s, ended_s, rollouts)


async def as_they_end(stage: Stage, plan: Plan, job: str) -> Timed:
    """Each rollout is sent whole as soon as it has ended, while others are still drawn."""
    desk, ended_s, rollouts = Desk(stage.queue, job, WANT), dict[str, float](), list[Rollout]()
    async with desk.collecting(), asyncio.TaskGroup() as opening:
        began_s = time.perf_counter()
        async for one in _drawn(stage, plan, job, write_logs=False):
            ended_s[name_of(one.id)] = time.perf_counter()
            rollouts.append(one)
            opening.create_task(desk.open_whole(name_of(one.id), one.sequence))
        await desk.finished(ended_s, DEADLINE_S)
    return _timed(desk, began_s, ended_s, rollouts)


async def long_after(stage: Stage, plan: Plan, job: str, responses: dict[str, Ids]) -> Timed:
    """Sent whole, as many at once as there are slots, while nothing else runs; an end is the moment of asking."""
    desk, asked_s = Desk(stage.queue, job, WANT), dict[str, float]()
    waiting = iter(plan.rollouts)

    async def one_slot() -> None:
        for one, context in waiting:
            name = name_of(one)
            asked_s[name] = time.perf_counter()
            await desk.open_whole(name, Sequence.of(context, responses[name]))
            await desk.finished([name], DEADLINE_S)

    async with desk.collecting():
        began_s = time.perf_counter()
        await asyncio.gather(*(one_slot() for _ in range(plan.slots)))
    return _timed(desk, began_s, asked_s, [])


async def _drawn(stage: Stage, plan: Plan, job: str, *, write_logs: bool) -> AsyncGenerator[Rollout]:
    """Rollouts as they end."""
    options = GenerateOptions(RUN, plan.new_tokens, seed=plan.seed, ignore_eos=True, write_logs=write_logs, job=job)
    told: asyncio.Queue[Rollout | FailedRollout | None] = asyncio.Queue()

    async def draw(prompts: Items[Prompt]) -> None:
        async for outcome in stage.rollout.generate(prompts, options, deadline_s=DEADLINE_S):
            told.put_nowait(outcome)

    async with asyncio.TaskGroup() as drawing:
        for prompts in plan.batches():
            drawing.create_task(draw(prompts))
        for _ in plan.rollouts:
            outcome = await told.get()
            if not isinstance(outcome, Rollout):
                raise RuntimeError(f"a rollout failed: {outcome}")
            yield outcome


async def _last_token(stage: Stage, desk: Desk, plan: Plan, rollout: RolloutId, ended_s: dict[str, float]) -> None:
    """Notes when the last token is in the log, where the teacher can see it."""
    log = LogName.of(desk.flow.tenant, desk.job, rollout)
    view = await stage.queue.follow(log, plan.new_tokens - 1, DEADLINE_S)
    if view.length < plan.new_tokens:
        raise RuntimeError(f"{rollout} ended after {view.length} tokens")
    ended_s[name_of(rollout)] = time.perf_counter()


def _timed(desk: Desk, began_s: float, ended_s: dict[str, float], rollouts: Items[Rollout]) -> Timed:
    latencies = tuple(desk.finished_s[name] - ended_s[name] for name in ended_s)
    responses = {name_of(one.id): one.sequence.response_ids for one in rollouts}
    return Timed(latencies, max(desk.finished_s.values()) - began_s, desk.counts, responses)


def random_contexts(count: int, tokens: int, vocabulary: int, seed: int) -> tuple[Ids, ...]:
    """Prompts that share nothing."""
    return tuple(np.random.default_rng(seed).integers(0, vocabulary, (count, tokens), dtype=np.uint32))
