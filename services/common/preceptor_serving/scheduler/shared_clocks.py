"""Clocks that several workers share through the queue's server: a mirror here, one script a batch there.

`advance` moves the mirror at once and collects; a task beside the scheduler sends what was collected while the engine computes,
and the server's clocks replace the mirror's. Where the server is away the mirror goes on alone, `trouble` says so, and everything
collected is sent as one charge for each flow when it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from preceptor.errors import PreceptorError
from preceptor.logs import get_logger
from preceptor.queue import ClockCharge, Flow, Work
from preceptor_serving.scheduler.clocks import Charge, MemoryClocks
from preceptor_serving.scheduler.types import FlowKey

REPLY_S = 2.0
RETRY_S = 0.5
log = get_logger("preceptor.clocks")


class SharedClocks:
    """A `ClockTable` of one teacher. Start and close it inside the event loop that schedules."""

    def __init__(self, work: Work, teacher: str) -> None:
        self._work, self._teacher = work, teacher
        self._mirror = MemoryClocks()
        self._outbox: dict[FlowKey, Charge] = {}
        self._asked: set[FlowKey] = set()
        self._news = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self.trouble: str | None = None

    def start(self) -> None:
        self._sender = asyncio.create_task(self._send_loop(), name="clocks-send")

    async def close(self) -> None:
        """What was not sent is a charge that nobody needs any more."""
        if self._sender is not None:
            self._sender.cancel()
            with suppress(asyncio.CancelledError):
                await self._sender

    def clock(self, flow: FlowKey) -> float:
        """See `ClockTable.clock`. What is asked for here is also asked of the server with the next batch."""
        self._asked.add(flow)
        return self._mirror.clock(flow)

    def advance(self, charges: Sequence[Charge], now_s: float) -> None:
        """See `ClockTable.advance`."""
        self._mirror.advance(charges, now_s)
        for charge in charges:
            before = self._outbox.get(charge.flow)
            self._outbox[charge.flow] = before.then(charge) if before is not None else charge
        self._news.set()

    async def _send_loop(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            if not await self._send():
                await asyncio.sleep(RETRY_S)
                self._news.set()

    async def _send(self) -> bool:
        """False where the server did not answer: what was to be sent waits in front of what came meanwhile."""
        charges, self._outbox = self._outbox, {}
        asked, self._asked = self._asked - charges.keys(), set()
        sent = [*charges.values(), *(Charge(flow, 0.0, 0.0, 0.0) for flow in sorted(asked))]
        try:
            async with asyncio.timeout(REPLY_S):
                clocks = await self._work.advance_clocks(self._teacher, [_to_queue(charge) for charge in sent])
        except (PreceptorError, OSError, TimeoutError) as error:
            newer = self._outbox
            merged = {flow: charge.then(newer[flow]) if flow in newer else charge for flow, charge in charges.items()}
            self._outbox = newer | merged
            self._lost(error)
            return False
        self._found()
        now_s = asyncio.get_running_loop().time()
        for charge in sent:
            clock = clocks[_queue_flow(charge.flow), charge.flow.band]
            newer = self._outbox.get(charge.flow)
            self._mirror.put(charge.flow, newer.applied_to(clock) if newer is not None else clock, now_s)
        return True

    def _lost(self, error: Exception) -> None:
        if self.trouble is None:
            log.warning("clocks_are_local", teacher=self._teacher, error=str(error))
        self.trouble = f"clocks are those of this process alone: {str(error) or 'no reply'}"

    def _found(self) -> None:
        if self.trouble is not None:
            log.info("clocks_are_shared_again", teacher=self._teacher)
        self.trouble = None


def _queue_flow(flow: FlowKey) -> Flow:
    return Flow(flow.teacher, flow.tenant, flow.job)


def _to_queue(charge: Charge) -> ClockCharge:
    return ClockCharge(_queue_flow(charge.flow), charge.flow.band, charge.settled, charge.floor, charge.charged)
