"""What a waiting client is told: how many tasks and tokens are ahead, and about how long that takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

HALF_LIFE_S = 30.0


@dataclass(frozen=True, slots=True)
class QueueEstimate:
    """A place in the queue. ``wait_s`` is None until the first task has been timed."""

    position: int
    tokens_ahead: int
    wait_s: float | None


class FlowLoad(NamedTuple):
    """One flow as it stands: its band, weight, start tag and what it has waiting."""

    band: int
    weight: float
    start: float
    cost: float
    tasks: int


@dataclass(frozen=True, slots=True)
class FlowStanding:
    """One flow for people who look: what it has waiting, for how long already, and when all of that will be served."""

    load: FlowLoad
    oldest_wait_s: float  # of what waits here
    eta_s: float | None  # None until the first task has been timed


def served_before(own: FlowLoad, others: Iterable[FlowLoad]) -> tuple[float, int]:
    """Cost and tasks that go before a task with ``own`` waiting ahead of it in its own flow.

    Fair order serves every other flow of the band up to the start tag that the task will have, and all of the more urgent bands.
    """
    cost, tasks = own.cost, own.tasks
    reached = own.start + own.cost / own.weight
    for other in others:
        if other.band > own.band or other.cost <= 0:
            continue
        share = 1.0 if other.band < own.band else min(1.0, max(0.0, (reached - other.start) * other.weight / other.cost))
        cost += share * other.cost
        tasks += round(share * other.tasks)
    return cost, tasks


class RateMeter:
    """Cost per second while anything runs, over about the last minute of busy time."""

    def __init__(self) -> None:
        self._running = 0
        self._running_cost = 0.0
        self._since_s = 0.0
        self._busy_s = 0.0
        self._cost = 0.0
        self._tasks = 0.0

    @property
    def running_cost(self) -> float:
        """Estimated cost of what is on the engines now."""
        return self._running_cost

    @property
    def cost_per_s(self) -> float | None:
        """The pool's speed, or None while nothing has been timed."""
        return self._cost / self._busy_s if self._cost > 0 and self._busy_s > 0 else None

    @property
    def cost_per_task(self) -> float:
        """The mean cost of a finished task; 1 before the first."""
        return self._cost / self._tasks if self._cost > 0 and self._tasks > 0 else 1.0

    def started(self, now_s: float, estimated_cost: float) -> None:
        """A task went to an engine."""
        self._tick(now_s)
        self._running += 1
        self._running_cost += estimated_cost

    def ended(self, now_s: float, estimated_cost: float, cost: float, *, finished: bool) -> None:
        """A task came back: finished at this true cost, or failed."""
        self._tick(now_s)
        self._running -= 1
        self._running_cost = self._running_cost - estimated_cost if self._running else 0.0
        self._cost += cost
        self._tasks += finished

    def _tick(self, now_s: float) -> None:
        passed_s = max(0.0, now_s - self._since_s) if self._running else 0.0
        self._since_s = now_s
        if passed_s:
            kept = 0.5 ** (passed_s / HALF_LIFE_S)
            self._busy_s = self._busy_s * kept + passed_s
            self._cost *= kept
            self._tasks *= kept
