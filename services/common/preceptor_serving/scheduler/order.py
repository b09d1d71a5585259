"""Which flow is next: strict bands with a guard, and start-time fair queueing inside each band."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from preceptor.errors import ConfigurationError
from preceptor_serving.scheduler.clocks import Charge, ClockTable
from preceptor_serving.scheduler.ranking import Ranking
from preceptor_serving.scheduler.types import FlowKey


@dataclass(slots=True)
class Band:
    """Flows of one urgency, by start tag."""

    order: Ranking[FlowKey] = field(default_factory=Ranking)
    floor: float = 0.0  # the latest start tag that was served here
    owed: float = 0.0  # cost that passed this band while it waited, times its share, less what the guard gave it


@dataclass(slots=True)
class Active:
    """A flow with work on this worker."""

    weight: float
    floor: float  # the band's floor when the flow became backlogged
    turn: int  # when it was last served: ties go to the lowest


@dataclass(slots=True)
class Pending:
    """What the next `commit` tells the clock table about one flow."""

    settled: float = 0.0
    floor: float = 0.0
    charged: float = 0.0


class FairOrder:
    """The order between flows. A worker enters flows; for a batch it arranges, asks which is next, charges it, commits."""

    def __init__(self, clocks: ClockTable, *, lower_band_share: float) -> None:
        if not 0 <= lower_band_share < 1:
            raise ConfigurationError("a share lies in [0, 1)", field="lower_band_share", value=lower_band_share)
        self._clocks = clocks
        self._share = lower_band_share
        self._bands: dict[int, Band] = {}
        self._active: dict[FlowKey, Active] = {}
        self._pending: dict[FlowKey, Pending] = {}
        self._turns = itertools.count()

    def __contains__(self, flow: FlowKey) -> bool:
        return flow in self._active

    def enter(self, flow: FlowKey, weight: float) -> None:
        """The flow has work here, with this weight from now on. A flow that was idle starts no lower than the floor."""
        active = self._active.get(flow)
        if active is not None:
            active.weight = weight
            return
        band = self._bands.setdefault(flow.band, Band())
        self._active[flow] = Active(weight, band.floor, next(self._turns))

    def leave(self, flow: FlowKey) -> None:
        """The flow has no more work here. Its clock stays in the table."""
        if self._active.pop(flow, None) is not None:
            self._bands[flow.band].order.discard(flow)

    def start(self, flow: FlowKey) -> float:
        """The start tag of the flow's next task: its clock with everything that is not committed yet."""
        pending = self._pending.get(flow) or Pending()
        return max(self._clocks.clock(flow) + pending.settled, self._floor_of(flow)) + pending.charged

    def weight(self, flow: FlowKey) -> float:
        """The weight of a flow with work here."""
        return self._active[flow].weight

    def first(self) -> FlowKey | None:
        """The flow to serve now, or None when no flow has work."""
        waiting = [number for number in sorted(self._bands) if self._bands[number].order]
        if not waiting:
            return None
        due = (number for number in waiting[1:] if self._bands[number].owed > 0)
        return self._bands[next(due, waiting[0])].order.first()

    def charge(self, flow: FlowKey, cost: float) -> float:
        """Serve the flow this much. Returns the weight it was charged at, which settling must use again."""
        active, band = self._active[flow], self._bands[flow.band]
        band.floor = max(band.floor, self.start(flow))
        active.turn = next(self._turns)
        pending = self._pending.setdefault(flow, Pending())
        pending.floor = active.floor
        pending.charged += cost / active.weight
        self._place(flow, active)
        self._account_bands(flow.band, cost)
        return active.weight

    def settle(self, flow: FlowKey, weight: float, extra_cost: float) -> None:
        """Correct an earlier charge: positive when the truth was more than the estimate, negative for a refund."""
        if extra_cost:
            self._pending.setdefault(flow, Pending()).settled += extra_cost / weight

    def commit(self, now_s: float) -> None:
        """Tell the table about this batch and all settlements since the last one, as one read-modify-write."""
        charges = [Charge(flow, p.settled, p.floor, p.charged) for flow, p in self._pending.items()]
        self._pending.clear()
        if charges:
            self._clocks.advance(charges, now_s)

    def arrange(self) -> None:
        """Put every flow where its clock says, before a batch: flows came, charges were settled, others moved clocks."""
        for flow, active in self._active.items():
            self._place(flow, active)

    def _floor_of(self, flow: FlowKey) -> float:
        active = self._active.get(flow)
        if active is not None:
            return active.floor
        band = self._bands.get(flow.band)
        return band.floor if band is not None else 0.0

    def _place(self, flow: FlowKey, active: Active) -> None:
        self._bands[flow.band].order.put(flow, (self.start(flow), active.turn))

    def _account_bands(self, served: int, cost: float) -> None:
        """The guard's books. Only waiting bands are owed; a band served by right has nothing to claim; debts are kept."""
        by_right = True
        for number, band in self._bands.items():
            if number > served and band.order:
                band.owed += self._share * cost
            by_right &= not (number < served and band.order)
        own = self._bands[served]
        own.owed = min(own.owed, 0.0) if by_right else own.owed - cost
