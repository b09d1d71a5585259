"""Virtual clocks of flows: the table's interface, and the table of a single process.

To share clocks elsewhere, implement `ClockTable`. A batch is one `advance`, hence one script; `clock` answers from
memory. A table that loses its peer goes on with what it knows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from preceptor_serving.scheduler.types import FlowKey

FORGET_AFTER_S = 3_600.0


class Charge(NamedTuple):
    """One flow's change in one batch: ``clock = max(clock + settled, floor) + charged``, in cost over weight."""

    flow: FlowKey
    settled: float  # truth minus estimate of tasks that ended since the last batch
    floor: float  # the worker's virtual time when the flow became backlogged there
    charged: float  # estimates of the tasks in this batch

    def applied_to(self, clock: float) -> float:
        """The clock after this charge."""
        return max(clock + self.settled, self.floor) + self.charged

    def then(self, later: Charge) -> Charge:
        """The one charge that does what this one and then the later one do."""
        passed = self.charged + later.settled
        return Charge(self.flow, self.settled + passed, max(self.floor + passed, later.floor), later.charged)


class ClockTable(Protocol):
    """Where the clocks of flows live. A flow that was never charged reads 0."""

    def clock(self, flow: FlowKey) -> float:
        """The flow's clock as far as it is known here. Never waits."""
        ...

    def advance(self, charges: Sequence[Charge], now_s: float) -> None:
        """Apply all charges as one read-modify-write. `clock` shows their effect at once."""
        ...


class MemoryClocks:
    """Clocks of one process, shared by any number of schedulers in it.

    A clock untouched for an hour is forgotten: its flow comes back at the floor, which forgives at most what it was ahead.
    """

    def __init__(self) -> None:
        self._clocks: OrderedDict[FlowKey, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._clocks)

    def clock(self, flow: FlowKey) -> float:
        """The flow's clock; 0 when it is not known."""
        return self._clocks.get(flow, (0.0, 0.0))[0]

    def advance(self, charges: Sequence[Charge], now_s: float) -> None:
        """Apply all charges, then forget what nobody touched for long."""
        for charge in charges:
            self.put(charge.flow, charge.applied_to(self.clock(charge.flow)), now_s)
        self._forget(now_s - FORGET_AFTER_S)

    def put(self, flow: FlowKey, clock: float, now_s: float) -> None:
        """Take a clock over from elsewhere."""
        self._clocks[flow] = (clock, now_s)
        self._clocks.move_to_end(flow)

    def _forget(self, before_s: float) -> None:
        while self._clocks:
            flow, (_, touched_s) = next(iter(self._clocks.items()))
            if touched_s >= before_s:
                return
            del self._clocks[flow]
