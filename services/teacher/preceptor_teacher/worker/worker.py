"""Which tasks a teacher leases: a few of every flow that has work, suspects alone, none while it drains.

Fairness is the scheduler's: leases only bring enough tasks of each flow here for it to choose from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from preceptor.errors import Corrupt, InvalidArgument, PreceptorError
from preceptor.hooks import Hooks, NoHooks
from preceptor.logs import get_logger
from preceptor.queue import Lease, Queue, ReadyBand
from preceptor_serving.quotas import Accounts
from preceptor_serving.scheduler.types import FlowKey
from preceptor_teacher.worker.holdings import Held, Holdings
from preceptor_teacher.worker.logs import LogReader
from preceptor_teacher.worker.policy import WorkerPolicy
from preceptor_teacher.worker.tending import Bench
from preceptor_teacher.worker.trades import Trade

log = get_logger("preceptor.worker")


class QueueWorker:
    """Serves one teacher, under all of its names, from one queue. `name` says who holds a lease."""

    def __init__(
        self,
        queue: Queue,
        trade: Trade,
        names: Sequence[str],
        name: str,
        policy: WorkerPolicy | None = None,
        hooks: Hooks | None = None,
        accounts: Accounts | None = None,
    ) -> None:
        self._queue, self._trade, self._names, self._name = queue, trade, tuple(names), name
        self._policy = policy or WorkerPolicy()
        self._hooks = hooks or NoHooks()
        self._accounts = accounts or Accounts()
        logs = LogReader(queue, self._policy.log_tokens)
        self._bench = Bench(queue, logs, self._policy, self._hooks, self._accounts, self._names[0])
        self._holdings = Holdings(self._policy, trade.batch)
        self._held: dict[asyncio.Task[None], Held] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._draining = False
        self.trouble: str | None = None

    @property
    def held(self) -> int:
        """Leases in hand."""
        return len(self._held)

    @property
    def finishing(self) -> int:
        """Leases in hand, or one that may still be taken; 0 in a drained worker that holds nothing."""
        return self.held or int(bool(self._loops) and not self._loops[0].done())

    def start(self) -> None:
        self._loops = [
            asyncio.create_task(self._lease_loop(), name="worker-lease"),
            asyncio.create_task(self._reclaim_loop(), name="worker-reclaim"),
        ]

    def drain(self) -> None:
        """Takes no further tasks; what is held is finished."""
        self._draining = True

    def resume(self) -> None:
        """Takes tasks again after a drain, unless it has been stopped."""
        if self._draining and self._loops:
            self._draining = False
            if self._loops[0].done():
                self._loops[0] = asyncio.create_task(self._lease_loop(), name="worker-lease")

    async def stop(self, grace_s: float) -> None:
        """Finishes what is held within the grace, and hands the rest back."""
        self.drain()
        if self._loops:  # a lease that is just being taken is not dropped: it would count as a death
            await asyncio.wait(self._loops[:1], timeout=2 * self._policy.wait_ready_s)
        await _cancelled(self._loops)
        if self._held:
            await asyncio.wait(self._held, timeout=grace_s)
        await _cancelled(list(self._held))

    # ---- loops

    async def _lease_loop(self) -> None:
        while not self._draining:
            try:
                some = await self._lease_some()
                self.trouble = None
                if not some:
                    await self._until_ready()
            except (PreceptorError, OSError) as error:
                self.trouble = f"the queue does not answer: {error}"
                log.warning("queue_trouble", error=str(error))
                await asyncio.sleep(self._policy.queue_pause_s)

    async def _reclaim_loop(self) -> None:
        """Takes tasks back from workers that died; any worker may."""
        while True:
            for name in self._names:
                with suppress(PreceptorError, OSError):
                    for task in await self._queue.reclaim(name):
                        log.warning("task_reclaimed", task_id=task.task_id, worker=task.worker, state=str(task.state))
            self._hooks.reached("leases reclaimed")
            await asyncio.sleep(self._policy.reclaim_s)

    async def _lease_some(self) -> bool:
        """False where nothing is ready. A suspect waits until nothing else is held, and nothing is taken beside it."""
        self._holdings.moved.clear()
        bands = [band for name in self._names for band in await self._queue.ready_bands(name) if not band.over_bound]
        suspects = [band for band in bands if band.suspects]
        if suspects and not self._held:
            await self._take_suspect(suspects)
        elif suspects or not await self._take_ordinary(bands):
            await self._pause(self._policy.look_again_s)
        return bool(bands)

    async def _take_suspect(self, suspects: Sequence[ReadyBand]) -> None:
        """The first that there is."""
        for band in suspects:
            if await self._take(band, limit=1, alone=True):
                return

    async def _take_ordinary(self, bands: Sequence[ReadyBand]) -> int:
        """How many leases were taken."""
        took = 0
        for band in sorted(bands, key=lambda band: (band.band, self._start_tag(band))):
            room = self._holdings.room(band.flow, band.ready)
            if room > 0 and not self._accounts.desk.closed(self._names[0], band.flow.tenant):
                took += await self._take(band, limit=room, alone=False)
        return took

    def _start_tag(self, band: ReadyBand) -> float:
        """The flow that the scheduler would serve next is leased first, so that no flood keeps it out of the worker."""
        return self._trade.start_tag(FlowKey(self._names[0], band.flow.tenant, band.flow.job, band.band))

    async def _take(self, band: ReadyBand, *, limit: int, alone: bool) -> int:
        """How many leases were taken; a job whose keys cannot be read is passed over, and does not keep the others."""
        latest = self._trade.latest
        try:
            leases = await self._queue.lease(band.flow, self._name, band=band.band, limit=limit, alone=alone, latest=latest)
        except (Corrupt, InvalidArgument) as error:
            log.warning("job_unreadable", tenant=band.flow.tenant, job=band.flow.job, error=error.message)
            return 0
        if leases:
            self._hooks.reached("lease taken")
        for lease in leases:
            self._begin(lease)
        if alone and leases:
            await asyncio.wait(list(self._held))
        return len(leases)

    def _begin(self, lease: Lease) -> None:
        held = self._holdings.begin(lease.flow)
        work = self._trade.take(self._bench, lease, held)
        task = asyncio.create_task(work.run(), name=f"lease-{lease.task_id}")
        self._held[task] = held
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._holdings.end(self._held.pop(task))
        if not task.cancelled() and (error := task.exception()):
            log.error("lease_defect", exc_info=error)

    async def _pause(self, seconds: float) -> None:
        """Until there may be room for more, but not longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._holdings.moved.wait()

    async def _until_ready(self) -> None:
        """Until a task is ready under one of the names, or a while has passed."""
        waits = [asyncio.ensure_future(self._queue.wait_ready(name, self._policy.wait_ready_s)) for name in self._names]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancelled(waits)


async def _cancelled(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
