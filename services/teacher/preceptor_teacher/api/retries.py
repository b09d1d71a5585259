"""When a request to a provider is sent again, and how long that may take. Pure, but for the clock and the dice."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from preceptor.errors import PreceptorError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 8.0
IN_HAND = 10  # attempts that are lent at the beginning, so that a quiet service can try again at all; at most so many are saved
SPREAD = 0.1  # of an advised wait, so that not all come back at once

Dice = Callable[[float, float], float]


@dataclass(slots=True)
class RetryAllowance:
    """Of all requests to one provider: second and further attempts <= max(`IN_HAND`, `share` x first attempts), at any time.

    Nor do long good times pay for a storm: of any stretch of time it is at most the share and `IN_HAND`.
    """

    share: float
    left: float = IN_HAND
    first: int = 0
    again: int = 0

    def begin(self) -> None:
        """A request is sent for the first time."""
        self.first += 1
        if self.share * self.first > IN_HAND:  # what was lent is paid back first
            self.left = min(IN_HAND, self.left + self.share)

    def take(self) -> bool:
        """Whether one may be sent again."""
        if self.left < 1:
            return False
        self.left -= 1
        self.again += 1
        return True


@dataclass(slots=True)
class RetryBudget:
    """Of one request: `attempts` that failed so far, and the pauses between them."""

    max_attempts: int
    budget_s: float
    attempts: int = 0
    spent_s: float = 0.0
    dice: Dice = random.uniform

    def next_pause_s(self, error: PreceptorError) -> float:
        """The pause before the next attempt; raises the error where it is final, or where the budget does not hold the pause.

        An advised wait is kept to and spread a little beyond; otherwise the whole of a growing range is drawn from.
        """
        self.attempts += 1
        advised_s = error.retry_after_s
        if advised_s is None:
            longest_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (self.attempts - 1))
            pause_s = self.dice(0.0, longest_s)
        else:
            longest_s = advised_s
            pause_s = advised_s + self.dice(0.0, SPREAD * advised_s)
        if not error.retryable or self.attempts >= self.max_attempts or self.spent_s + longest_s > self.budget_s:
            raise error
        self.spent_s += pause_s
        return pause_s


LONGEST_RESET_S = 3600.0


def advised_pause_s(headers: Mapping[str, str]) -> float | None:
    """What a refusal says of when to come again: Retry-After, else the seconds in which Together's limit is whole again. A number
    that can only be a date, as other servers write under that name, is none."""
    said = retry_after_s(headers.get("retry-after"))
    if said is not None:
        return said
    try:
        reset_s = float(headers.get("x-ratelimit-reset", ""))
    except ValueError:
        return None
    return reset_s if 0 <= reset_s <= LONGEST_RESET_S else None


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
