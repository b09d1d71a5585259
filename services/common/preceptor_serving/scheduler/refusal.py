"""The errors of a full queue: what is full, what is ahead, and when to come back."""

from __future__ import annotations

from preceptor.errors import Exhausted, TooLarge
from preceptor_serving.scheduler.backlog import FullLimit
from preceptor_serving.scheduler.estimate import QueueEstimate
from preceptor_serving.scheduler.types import QueueLimits, Task

UNTIMED_RETRY_S = 1.0  # before the first task has been timed
LEAST_RETRY_S = 0.05


def too_large(task: Task, limits: QueueLimits) -> TooLarge:
    """The task could never be queued, however long the client waits."""
    return TooLarge(
        "the task is larger than the whole queue",
        field="work",
        value=task.work.batch_tokens,
        limit=min(limits.flow_tokens, limits.total_tokens),
        hint="split the sequence, or raise the queue's token limits",
    )


def refusal(full: FullLimit, place: QueueEstimate, needed_cost: float, cost_per_s: float | None) -> Exhausted:
    """The queue is full. ``needed_cost`` has to be served before there is room; ``place`` is the task's place at worst."""
    retry_s = UNTIMED_RETRY_S if cost_per_s is None else max(LEAST_RETRY_S, needed_cost / cost_per_s)
    wait = "not timed yet" if place.wait_s is None else f"about {place.wait_s:.1f} s"
    whose = "this job has" if full.of_flow else "all jobs together have"
    return Exhausted(
        f"the queue is full: {whose} reached {full.name}",
        field=f"queue.{full.name}",
        value=full.value,
        limit=full.limit,
        hint=f"{place.position} tasks and {place.tokens_ahead} tokens are ahead (wait: {wait}); retry in {retry_s:.2f} s",
        retry_after_s=retry_s,
        queue_position=place.position,
    )
