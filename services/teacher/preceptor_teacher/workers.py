"""The queue workers of one service, one for each teacher; they stop leasing as soon as the service drains."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from preceptor.queue import Queue
from preceptor_serving.lifecycle.state import Lifecycle, State, Status
from preceptor_serving.quotas import Accounts
from preceptor_teacher.draining import Draining
from preceptor_teacher.worker import QueueWorker, Trade, WorkerPolicy

WORKER_GRACE_S = 15.0  # inside the frame's own limit for stopping a service


class Workers:
    """Started once, inside the event loop of the service."""

    def __init__(self, queue: Queue, name: str, policy: WorkerPolicy, accounts: Accounts, grace_s: float) -> None:
        self._queue, self._name, self._policy, self._accounts = queue, name, policy, accounts
        self._grace_s = min(grace_s, WORKER_GRACE_S)
        self._workers: list[QueueWorker] = []

    def start(self, trades: Mapping[tuple[str, ...], Trade], lifecycle: Lifecycle, draining: Draining) -> None:
        """`trades` by the names of their teacher, its own first."""
        for names, trade in trades.items():
            worker = QueueWorker(self._queue, trade, names, self._name, self._policy, accounts=self._accounts)
            lifecycle.probe(f"queue:{names[0]}", lambda worker=worker: worker.trouble)
            worker.start()
            self._workers.append(worker)
            draining.watch_worker(names[0], worker)
        lifecycle.listen(self._drain_with)

    async def stop(self) -> None:
        """What is held is finished within the grace."""
        await asyncio.gather(*(worker.stop(self._grace_s) for worker in self._workers))

    def _drain_with(self, status: Status) -> None:
        if status.state is State.DRAINING:
            for worker in self._workers:
                worker.drain()
