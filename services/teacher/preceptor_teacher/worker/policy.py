"""How much a worker takes on, and how long it waits for what."""

from __future__ import annotations

from dataclasses import dataclass, field

from preceptor_teacher.boundary import Bounds


@dataclass(frozen=True, slots=True)
class WorkerPolicy:
    """Each number with its one default."""

    leases: int = 64  # tasks held at once
    leases_per_flow: int = 16  # so that a flood cannot fill the worker before fairness is asked
    batches_per_flow: float = 2.0  # of unscored tokens, as the engine takes them: one is computed, one is next
    heartbeat_s: float = 10.0
    reclaim_s: float = 5.0
    wait_ready_s: float = 1.0
    look_again_s: float = 0.02  # where tasks are ready but there is no room for them
    retry_pause_s: float = 0.2  # before a task that may succeed later is given back
    max_pause_s: float = 5.0
    queue_pause_s: float = 1.0  # after the queue itself failed
    hand_back_s: float = 2.0
    log_tokens: int = 4 << 20  # of logs that are remembered
    commit_bytes: int = 8 << 20  # of rows in one commit
    bounds: Bounds = field(default_factory=lambda: Bounds(1, 1 << 31, 1 << 30))
