"""A judge's queue worker in a process of its own: `python -m tests.faults.judge_process JSON`. Runs until SIGTERM or death."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from preceptor.logs import configure_logs
from preceptor.queue import QueueBounds
from preceptor.queue.redis import RedisQueue
from preceptor_serving.quotas import Accounts
from preceptor_serving.scheduler.types import QueueLimits
from preceptor_teacher.api import ApiOptions, ChatClient
from preceptor_teacher.boundary import Bounds
from preceptor_teacher.judges import Judge, JudgeSpec
from preceptor_teacher.judging import Court
from preceptor_teacher.worker import Grading, QueueWorker
from tests.faults.marks import Kill, MarkingHooks
from tests.faults.worker_process import QUICK, until_stopped

JUDGE = "judge"


@dataclass(frozen=True)
class JudgeJob:
    """What the process is told. The ledger outlives it, as an operator's does."""

    url: str
    password: str
    marks: str
    provider: str
    ledger: str
    name: str
    lease_s: float = 3.0
    max_concurrency: int = 2
    kill_point: str = ""
    kill_hit: int = 1

    @property
    def options(self) -> ApiOptions:
        return ApiOptions(
            base_url=self.provider,
            model="m",
            private_hosts=("127.0.0.1",),
            ledger_folder=Path(self.ledger),
            max_concurrency=self.max_concurrency,
        )


async def work(job: JudgeJob) -> None:
    """Says `ready` once it leases."""
    hooks = MarkingHooks(Path(job.marks), Kill(job.kill_point, job.kill_hit))
    queue = await RedisQueue.connect(job.url, password=job.password, bounds=QueueBounds(lease_s=job.lease_s))
    judge = Judge(JudgeSpec(JUDGE, job.options))
    judge.client = ChatClient(job.options, name=JUDGE, hooks=hooks)
    accounts = Accounts()
    court = Court(judge, accounts, QueueLimits(), Bounds(64, 1, 1 << 20))
    worker = QueueWorker(queue, Grading(court), [JUDGE], job.name, QUICK, hooks, accounts)
    await until_stopped(worker, hooks, job.name)
    await judge.close()
    await queue.close()


if __name__ == "__main__":
    configure_logs("judge", log_format="json", level="error")
    asyncio.run(work(JudgeJob(**json.loads(sys.argv[1]))))
