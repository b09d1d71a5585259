"""When a request to a provider is sent again, and how long that may take. Pure, but for the reading of HTTP dates."""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from preceptor.errors import PreceptorError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 8.0


@dataclass(slots=True)
class RetryBudget:
    """Of one request: `attempts` that failed so far, and the pauses between them."""

    max_attempts: int
    budget_s: float
    attempts: int = 0
    spent_s: float = 0.0

    def next_pause_s(self, error: PreceptorError) -> float:
        """The pause before the next attempt; raises the error where it is final, or where the budget does not hold the pause."""
        self.attempts += 1
        pause_s = error.retry_after_s
        if pause_s is None:
            pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (self.attempts - 1))
        if not error.retryable or self.attempts >= self.max_attempts or self.spent_s + pause_s > self.budget_s:
            raise error
        self.spent_s += pause_s
        return pause_s


def retry_after_s(header: str | None, now_unix_s: float | None = None) -> float | None:
    """Seconds from a Retry-After header in either of its forms; None where there is none that can be read."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        then = parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, then - (time.time() if now_unix_s is None else now_unix_s))
