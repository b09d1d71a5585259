"""The circuit breaker before one provider: a pure state machine on the caller's clock.

closed     everything is sent; failures in a row are counted, and `failures` of them open it
open       nothing is sent for a while, which doubles with each trial that fails
half_open  one request is under way as a trial: its success closes, its failure opens again; others wait
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

LONGEST = 12  # times `open_s`
TRIAL_LOOK_S = 0.25  # before somebody who waits for a trial looks again


class Circuit(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(slots=True)
class Breaker:
    """Callers ask `wait_s` until it says 0.0, note the `era`, send, and tell how it went: one `told` or `left` for each 0.0.

    What was sent in an earlier era says nothing about this one.
    """

    failures: int
    open_s: float
    state: Circuit = Circuit.CLOSED
    opened: int = 0  # how often, for those who watch
    closed: int = 0  # how often after it was open
    era: int = 0
    _in_a_row: int = 0
    _trials_failed: int = 0
    _until_s: float = 0.0

    def look_s(self, now_s: float) -> float:
        """As `wait_s`, but asks only."""
        if self.state is Circuit.OPEN:
            return max(0.0, self._until_s - now_s)
        return TRIAL_LOOK_S if self.state is Circuit.HALF_OPEN else 0.0

    def wait_s(self, now_s: float) -> float:
        """0.0: send now, where the circuit was open as its one trial. Otherwise look again after so long."""
        wait_s = self.look_s(now_s)
        if not wait_s and self.state is Circuit.OPEN:
            self._turn(Circuit.HALF_OPEN)
        return wait_s

    def told(self, era: int, *, good: bool, now_s: float) -> None:
        """How a request went that was let through in that era."""
        if era != self.era:
            return
        if good:
            self._in_a_row = self._trials_failed = 0
            if self.state is Circuit.HALF_OPEN:
                self.closed += 1
                self._turn(Circuit.CLOSED)
            return
        self._in_a_row += 1
        if self.state is Circuit.HALF_OPEN:
            self._trials_failed += 1
        elif self._in_a_row < self.failures:
            return
        self.opened += 1
        self._until_s = now_s + self.open_s * min(LONGEST, 2.0**self._trials_failed)
        self._turn(Circuit.OPEN)

    def left(self, era: int, now_s: float) -> None:
        """A request that was let through was given up: nobody knows how it would have gone. A trial is due again at once."""
        if era == self.era and self.state is Circuit.HALF_OPEN:
            self._until_s = now_s
            self._turn(Circuit.OPEN)

    def _turn(self, state: Circuit) -> None:
        self.state, self._in_a_row = state, 0
        self.era += 1
