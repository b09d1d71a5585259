"""A wall clock that jumps: `time.time` of this process is off by hours, by another amount every time it is asked.

The monotonic clock, which waits are measured with, is the kernel's and cannot jump. gRPC keeps the true time: it hands it to C
code that asks the machine itself, and two clocks that differ for good are no jump.
"""

from __future__ import annotations

import random
import sys
import time

LARGEST_JUMP_S = 6 * 3600.0


def jump(seed: int | None) -> None:
    """From now on, where a seed is given."""
    if seed is None:
        return
    rng, real = random.Random(seed), time.time

    def jumping() -> float:
        asked_by = str(sys._getframe(1).f_globals.get("__name__"))
        return real() + (0.0 if asked_by.startswith("grpc") else rng.uniform(-LARGEST_JUMP_S, LARGEST_JUMP_S))

    time.time = jumping
