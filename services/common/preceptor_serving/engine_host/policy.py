"""How long a host waits for what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """Deadlines and restarts of one engine's process."""

    start_timeout_s: float = 900.0  # a large model is read from a slow disk
    heartbeat_s: float = 2.0
    heartbeat_timeout_s: float = 30.0  # no answer for so long: something holds the whole process
    turn_limit_s: float = 600.0  # one turn of one call; past it the engine hangs
    stop_grace_s: float = 10.0
    restart_wait_s: float = 5.0  # how long a call waits for a restart that is under way
    backoff_first_s: float = 0.2
    backoff_max_s: float = 30.0
    stable_s: float = 60.0  # an engine that lived this long starts over with the first back-off

    def backoff_s(self, failures: int) -> float:
        """Pause before the restart after so many failures in a row."""
        return min(self.backoff_max_s, self.backoff_first_s * 2 ** min(failures - 1, 30))
