"""When a busy engine is sent its next call: shortly before those that it has are expected to end.

A call that stands at the engine is out of the scheduler's hands: whoever arrives after it was sent waits for all of it. One that
is sent only when the engine is idle costs the time to send and read it. So the next call is sent ahead by a bounded time, not by
a whole batch. The engine's pace is measured here; a wrong guess costs one reading, or one look-ahead more, and nothing else.
"""

from __future__ import annotations

from collections import deque

SAMPLES = 16
LOW = 4  # of the sorted samples: a guess that is rather too short keeps the engine busy


class Pace:
    """The calls of one engine, which computes them one after the other. Every method takes the time and returns at once."""

    def __init__(self, calls_in_flight: int, look_ahead_s: float) -> None:
        self._limit, self._look_ahead_s = calls_in_flight, look_ahead_s
        self._costs: dict[int, float] = {}  # of the open calls, in the order in which they were sent
        self._since_s = 0.0  # when the first of them began
        self._samples: deque[float] = deque(maxlen=SAMPLES)

    def pause_s(self, now_s: float) -> float | None:
        """How long from now until the next call may be sent; None where one of the open calls has to end first."""
        if not self._costs:
            return 0.0
        if len(self._costs) >= self._limit or not self._samples:
            return None
        first, *others = self._costs.values()
        left_s = max(0.0, first * self.s_per_cost - (now_s - self._since_s)) + sum(others) * self.s_per_cost
        return max(0.0, left_s - self._look_ahead_s)

    @property
    def s_per_cost(self) -> float:
        """Seconds that a unit of cost takes: a low quartile of the latest calls."""
        return sorted(self._samples)[min(LOW, len(self._samples)) - 1]

    def begun(self, call: int, cost: float, now_s: float) -> None:
        """A call was sent."""
        if not self._costs:
            self._since_s = now_s
        self._costs[call] = cost

    def ended(self, call: int, now_s: float, *, finished: bool) -> None:
        """A call came back; only one that was computed in its turn says how quick the engine is."""
        in_turn = next(iter(self._costs)) == call
        cost = self._costs.pop(call)
        if in_turn and finished and cost > 0:
            self._samples.append((now_s - self._since_s) / cost)
        if in_turn:
            self._since_s = now_s
