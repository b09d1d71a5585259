"""A teacher, a student that draws, and the queue between them, each on one thread in a process of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.desk import queue_of
from benchmarks.scoring.house import NAME, NO_SCORE_CACHE, running, teacher_plan
from preceptor.client.rollout import AsyncRolloutClient
from preceptor.local.stack import ServicePlan, build_stack
from preceptor.queue import Queue

STUDENT = "student"


@dataclass(frozen=True, slots=True)
class Stage:
    """Connections to what runs."""

    queue: Queue
    rollout: AsyncRolloutClient


@asynccontextmanager
async def stage(
    folder: Path, teacher: Mapping[str, Any], student: Path, batch_tokens: int, chunk: int, student_flags: tuple[str, ...] = ()
) -> AsyncGenerator[Stage]:
    """Ready; the student draws one batch at a time and appends to its logs every `chunk` tokens."""
    draws_alone = ("--batch-tokens", str(batch_tokens), "--running-units", "1", "--log-chunk-tokens", str(chunk))
    plans = [
        teacher_plan(folder, teacher, flags=NO_SCORE_CACHE),
        ServicePlan(STUDENT, "rollout", f"{STUDENT}={student}", flags=(*draws_alone, *student_flags)),
    ]
    stack = build_stack(folder, folder / "runs", plans)
    async with running(stack), queue_of(stack) as queue, AsyncRolloutClient(stack.doors[STUDENT].grpc) as rollout:
        yield Stage(queue, rollout)


__all__ = ["NAME", "Stage", "stage"]
