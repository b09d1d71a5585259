"""Quotas of tenants: exact reservations of tokens and places, and the counts of what was used.

A reservation is made before work is accepted and settled to the truth when it ends. In between it is renewed; one that nobody
renews expires: its places are free again, its tokens stay spent, because nobody can say that they were not. So a tenant never
gets more than its limits, and a dead process costs it a minute at most.

The budget is a sliding window: what was reserved, or settled, during the last 60 seconds never exceeds `tokens_per_minute`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from preceptor.errors import InvalidArgument

WINDOW_S = 60
MAX_TOKENS = 1 << 40  # sums of a window stay exact in a double, which is what Lua counts in
RESERVED_S = 60.0  # for which a reservation stands without being renewed
USAGE_KEPT_S = 400 * 24 * 3600.0
MAX_JOBS = 1_000
OTHER_JOBS = "*"
"""Where the use of further jobs is counted once a tenant has `MAX_JOBS` of them."""


PROVIDER_REQUESTS, PROVIDER_TOKENS = "~requests", "~tokens"
"""Whose reservations bound what is sent to the provider of a teacher behind an API. No tenant can be called so."""


@dataclass(frozen=True, slots=True)
class QuotaLimits:
    """What one tenant may use at one teacher; 0 is without a limit."""

    tokens_per_minute: int = 0
    in_flight: int = 0

    def __bool__(self) -> bool:
        return bool(self.tokens_per_minute or self.in_flight)


class Verb(StrEnum):
    """What is done with a reservation."""

    RESERVE = "reserve"
    RENEW = "renew"
    SETTLE = "settle"


@dataclass(frozen=True, slots=True)
class Move:
    """One step on one reservation, which is named by its effect. Repeating a move changes nothing.

    Whoever takes a piece of work over reserves the same effect and owns it as well; it is settled when its last owner settles.
    """

    verb: Verb
    effect: str
    tokens: int = 0  # reserve: at most so many; settle: so many it were
    places: int = 0
    owner: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.tokens <= MAX_TOKENS:
            raise InvalidArgument("tokens are out of range", field="tokens", value=self.tokens, limit=f"0..{MAX_TOKENS}")


class Verdict(StrEnum):
    """What became of a move."""

    DONE = "done"
    GONE = "gone"  # it was settled, has expired or is another's: nothing changed
    TOKENS = "tokens"  # refused: the minute is used up
    PLACES = "places"  # refused: too much is in flight


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdict; for a refusal also what is used now and when there is room, as far as that is known."""

    verdict: Verdict
    used: int = 0
    retry_ms: int = 0


class Counter(StrEnum):
    """What is counted for each job."""

    REQUESTS = "requests"
    REFUSALS = "refusals"
    ROWS = "rows"
    COMPUTED = "computed_tokens"
    REUSED = "reused_tokens"
    CACHED = "cached_tokens"
    CHARGED = "charged_tokens"
    PROVIDER_CALLS = "provider_calls"  # of teachers behind an API, and what their providers counted
    PROMPT = "prompt_tokens"
    PROMPT_CACHED = "cached_prompt_tokens"
    COMPLETION = "completion_tokens"
    COST_NANO_USD = "cost_nano_usd"


Usage = Mapping[str, Mapping[Counter, int]]
"""Job -> counts."""


@dataclass(frozen=True, slots=True)
class Payment:
    """What a commit pays along with its rows: a reservation that ends, whoever owns it, and counts of its job."""

    settle: Move | None = None
    counts: Mapping[Counter, int] = field(default_factory=dict[Counter, int])


class Ledger(Protocol):
    """Where quotas and usage are kept: `MemoryLedger` for one process, `RedisLedger` for all that share a server."""

    async def apply(self, teacher: str, tenant: str, limits: QuotaLimits, moves: Sequence[Move]) -> tuple[Answer, ...]:
        """All moves as one step, after everything that has run out by now has expired."""
        ...

    async def add_usage(self, teacher: str, tenant: str, counts: Usage, op: bytes) -> None:
        """Add these counts once, however often this operation is repeated."""
        ...

    async def usage(self, teacher: str, tenant: str) -> Usage:
        """All counts of a tenant."""
        ...
