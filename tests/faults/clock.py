"""A wall clock that jumps: `time.time` of this process is off by hours, by another amount every time it is asked.

The monotonic clock, which every wait is measured with, is the kernel's and cannot jump.
"""

from __future__ import annotations

import random
import time

LARGEST_JUMP_S = 6 * 3600.0


def jump(seed: int | None) -> None:
    """From now on, where a seed is given."""
    if seed is None:
        return
    rng, real = random.Random(seed), time.time
    time.time = lambda: real() + rng.uniform(-LARGEST_JUMP_S, LARGEST_JUMP_S)
