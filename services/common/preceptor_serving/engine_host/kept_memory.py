"""Memory that an engine's process keeps for its next call.

An engine takes and frees the same hundreds of megabytes in each call. As glibc comes, what is large is mapped in anew each time
and cleared page by page: for a small model on a CPU a tenth to a quarter of its time.
"""

from __future__ import annotations

from collections.abc import Mapping

KEPT_MEMORY: Mapping[str, str] = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),  # the most that glibc takes
    "MALLOC_TRIM_THRESHOLD_": str(512 << 20),  # free memory above that is given back
}
"""Environment of the process; what the operator has set himself stays. Other C libraries than glibc do not read it."""
