"""What the parts of the Redis queue share: a link, its waits, its bounds, and the keys and arguments that scripts ask for."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from preceptor.queue.keys import Flow, flows_key, leases_key, quota_key, usage_key
from preceptor.queue.ranks import SPAN, ready_score
from preceptor.queue.redis.link import Link, Value
from preceptor.queue.redis.loading import scripts
from preceptor.queue.redis.replies import accepted
from preceptor.queue.redis.wakes import Wakes
from preceptor.queue.scripts.tasks import Spec
from preceptor.queue.types import QueueBounds

OP_BYTES = 16


class Part:
    """One Protocol's half of the queue; `RedisQueue` is all of them on one link."""

    def __init__(self, link: Link, wakes: Wakes, bounds: QueueBounds, new_fence: Callable[[], bytes]) -> None:
        self._link = link
        self._wakes = wakes
        self._bounds = bounds
        self._new_fence = new_fence

    async def _on_task(
        self, name: str, flow: Flow, task_id: str, *, items: Sequence[Value] = (), more_keys: Sequence[str] = (), **args: Value
    ) -> list[Any]:
        """A script on one task and its flow."""
        keys = {**flow_keys(flow), "task": flow.task(task_id)}
        given = {"flow": flow_field(flow), "task_id": task_id, **args}
        return accepted(await self._link.run(name, keys, given, items=items, more_keys=more_keys), task_id)

    async def _on_flow(
        self, name: str, flow: Flow, *, items: Sequence[Value] = (), more_keys: Sequence[str] = (), **args: Value
    ) -> list[Any]:
        """A script on one flow."""
        if "flow" in scripts()[name].arguments:
            args = {"flow": flow_field(flow), **args}
        return accepted(await self._link.run(name, flow_keys(flow), args, items=items, more_keys=more_keys), flow.job)

    async def _on_teacher(self, name: str, teacher: str, *, items: Sequence[Value] = (), **args: Value) -> list[Any]:
        """A script on what all flows of a teacher share."""
        return accepted(await self._link.run(name, teacher_keys(teacher), args, items=items), teacher)

    @property
    def _kept_ms(self) -> int:
        return milliseconds(self._bounds.kept_s)


def teacher_keys(teacher: str) -> dict[str, str]:
    return {"flows": flows_key(teacher), "leases": leases_key(teacher)}


def flow_keys(flow: Flow) -> dict[str, str]:
    of_job = {"ready": flow.ready, "out": flow.out, "dead": flow.dead}
    of_tenant = {"quota": quota_key(flow.teacher, flow.tenant), "usage": usage_key(flow.teacher, flow.tenant)}
    return {**of_job, **of_tenant, **teacher_keys(flow.teacher)}


def flow_field(flow: Flow) -> str:
    """A flow's name inside the keys of its teacher."""
    return f"{flow.tenant}:{flow.job}"


def spec_args(spec: Spec, **more: Value) -> dict[str, Any]:
    """A task as scripts store it. Both places that it can take in a ready set are computed here and nowhere else."""
    deadline_ms = spec.deadline_ms or SPAN - 1
    return {
        "spec": spec.payload,
        "model": spec.model,
        "score": score_text(ready_score(deadline_ms, spec.band, suspect=False)),
        "suspect_score": score_text(ready_score(deadline_ms, spec.band, suspect=True)),
        **more,
    }


def score_text(score: float) -> str:
    return f"{score:.0f}"


def new_op() -> bytes:
    """The number of one operation: its repeats after a lost reply carry the same."""
    return secrets.token_bytes(OP_BYTES)


def milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
