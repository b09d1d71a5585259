"""Tells why a call waits: at once, then once a while, and never for a call that does not."""

from __future__ import annotations

import time
from collections.abc import Callable

from preceptor.errors import PreceptorError
from preceptor.logs import get_logger

TOLD_EVERY_S = 30.0
log = get_logger("preceptor.client")


class WaitLog:
    """The waiting of all calls through one connection: a thousand calls that wait for the same thing say so once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told_s: dict[str, float] = {}

    def tell(self, error: PreceptorError, waited_s: float, left_s: float) -> None:
        """One line with the reason, the place in the queue where the service named one, and the time that is left."""
        now_s = self._clock()
        if now_s - self._told_s.get(error.code, -TOLD_EVERY_S) < TOLD_EVERY_S:
            return
        self._told_s[error.code] = now_s
        place = "" if error.queue_position is None else f"position {error.queue_position}; "
        log.info(
            f"waiting: {place}{error.message}",
            code=str(error.code),
            field=error.field,
            hint=error.hint,
            retry_after_s=error.retry_after_s,
            waited_s=round(waited_s, 1),
            left_s=round(left_s, 1),
        )
