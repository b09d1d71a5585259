"""A teacher's queue worker in a process of its own: `python -m tests.faults.worker_process JSON`. Runs until SIGTERM or death."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from preceptor.queue import QueueBounds
from preceptor.queue.quotas import QuotaLimits
from preceptor.queue.redis import RedisLedger, RedisQueue
from preceptor.types import ModelRef
from preceptor_serving.auth.terms import Terms
from preceptor_serving.engine_host.channel import EngineChannel, EngineSpec
from preceptor_serving.engine_host.host import EngineHost
from preceptor_serving.engine_host.inline import InlineEngine
from preceptor_serving.engine_host.policy import HostPolicy
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from preceptor_serving.engines.protocol import Outcome, ScoreItem
from preceptor_serving.lifecycle.signals import stop_signals
from preceptor_serving.quotas import Accounts
from preceptor_serving.scheduler.types import QueueLimits
from preceptor_teacher.pool import EnginePool, PoolPolicy
from preceptor_teacher.worker import QueueWorker, Scoring, WorkerPolicy
from tests.faults import clock
from tests.faults.marks import Kill, MarkingHooks

TEACHER = "tutor-model"
QUICK = WorkerPolicy(
    heartbeat_s=0.1, reclaim_s=0.2, wait_ready_s=0.2, retry_pause_s=0.01, max_pause_s=0.5, queue_pause_s=0.1, hand_back_s=5.0
)
LIMITED = Terms(QuotaLimits(tokens_per_minute=1 << 30, in_flight=1 << 20))  # nobody is refused, and all is accounted for


@dataclass(frozen=True)
class WorkerJob:
    """What the process is told."""

    url: str
    password: str
    marks: str
    name: str
    lease_s: float = 1.0
    engine: dict[str, Any] = field(default_factory=dict)
    call_s: float = 0.0  # each call of the engine takes so long, whatever is in it
    own_process: bool = False  # the engine dies alone
    kill_point: str = ""
    kill_hit: int = 1
    clock_jumps: int | None = None

    @property
    def hooks(self) -> MarkingHooks:
        return MarkingHooks(Path(self.marks), Kill(self.kill_point, self.kill_hit))


class ToldEngine(FakeEngine):
    """Writes down each item that it is given, so that work done twice is seen from outside."""

    def __init__(self, options: FakeOptions, hooks: MarkingHooks, call_s: float) -> None:
        super().__init__(options)
        self._hooks, self._call_s = hooks, call_s

    def score(self, items: Sequence[ScoreItem], version: ModelRef | None = None) -> list[Outcome]:
        for item in items:
            wanted = f"{item.sequence.ids.tolist()} {item.want.window}"
            self._hooks.write("scored", hashlib.sha256(wanted.encode()).hexdigest()[:16])
        time.sleep(self._call_s)
        return super().score(items, version)


async def work(job: WorkerJob) -> None:
    """Says `ready` once it leases."""
    hooks = job.hooks
    queue = await RedisQueue.connect(job.url, password=job.password, bounds=QueueBounds(lease_s=job.lease_s))
    limits = QueueLimits(flow_tasks=4096, total_tasks=4096)
    pool = EnginePool(engine_of(job, hooks), PoolPolicy(batch_tasks=8), limits)
    await pool.start()
    policy = replace(QUICK, heartbeat_s=min(QUICK.heartbeat_s, job.lease_s / 4))
    ledger = RedisLedger.open(job.url, job.password)
    accounts = Accounts(lambda tenant, owner: LIMITED, ledger)
    accounts.start()
    worker = QueueWorker(queue, Scoring(pool), [TEACHER], job.name, policy, hooks, accounts)
    await until_stopped(worker, hooks, job.name)
    await pool.stop()
    await accounts.close()
    await ledger.close()
    await queue.close()


async def until_stopped(worker: QueueWorker, hooks: MarkingHooks, name: str) -> None:
    """The worker works until this process is told to stop."""
    asked = asyncio.get_running_loop().create_future()
    with stop_signals(asked.set_result):
        worker.start()
        hooks.write("ready", name)
        await asked
        await worker.stop(10.0)


def engine_of(job: WorkerJob, hooks: MarkingHooks) -> EngineChannel:
    options = {"name": TEACHER, **job.engine}
    if job.own_process:
        policy = HostPolicy(heartbeat_s=0.5, backoff_first_s=0.05, backoff_max_s=0.2, stop_grace_s=1.0)
        return EngineHost(EngineSpec(TEACHER, "fake", options), policy)
    return InlineEngine(lambda: ToldEngine(FakeOptions.from_mapping(options), hooks, job.call_s))


if __name__ == "__main__":
    told = WorkerJob(**json.loads(sys.argv[1]))
    clock.jump(told.clock_jumps)
    asyncio.run(work(told))
