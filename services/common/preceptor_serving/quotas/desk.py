"""Reservations of one process: made before work is taken, renewed while it lasts, settled to the truth when it ends.

Where the shared ledger does not answer, work goes on against a ledger of this process, and `trouble` says so: limits then hold
for each process by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from preceptor.errors import Exhausted, PreceptorError, TooLarge
from preceptor.logs import get_logger
from preceptor.queue.ledger import MemoryLedger
from preceptor.queue.quotas import RESERVED_S, Answer, Ledger, Move, QuotaLimits, Verb, Verdict

RENEW_S = RESERVED_S / 3
AWAY_S = 1.0  # before a shared ledger that did not answer is asked again
PLACES_RETRY_S = 0.5  # nobody knows when a place is given back
CLOSE_S = 3.0
log = get_logger("preceptor.quotas")


@dataclass(frozen=True, slots=True)
class Account:
    """One tenant at one teacher."""

    ledger: Ledger
    teacher: str
    tenant: str
    limits: QuotaLimits

    async def apply(self, moves: Sequence[Move]) -> tuple[Answer, ...]:
        return await self.ledger.apply(self.teacher, self.tenant, self.limits, moves)


@dataclass(slots=True)
class Hold:
    """What is reserved for one piece of work. The first of `settle` and `abandon` ends it."""

    desk: Desk
    account: Account | None  # None: this tenant has no limits
    effect: str
    owner: str = ""

    async def settle(self, tokens: int) -> None:
        """It took so many tokens. Returns when the ledger knows, also where the caller is cancelled meanwhile."""
        account, self.account = self.account, None
        if account is not None:
            await self.desk.settle(self, account, tokens)

    def in_commit(self, teacher: str, tokens: int) -> Move | None:
        """The move by which a commit on this teacher's keys settles it; None where the ledger must be asked by itself."""
        if self.account is None or self.account.teacher != teacher or not self.desk.shares(self.account.ledger):
            return None
        return Move(Verb.SETTLE, self.effect, tokens, owner=self.owner)

    def abandon(self) -> None:
        """It went with its commit; or nobody knows whether it did, and it is taken over with its work, or expires."""
        self.account = None
        self.desk.forget(self)


class Desk:
    """The holds of one process."""

    def __init__(self, shared: Ledger | None, own: Ledger | None = None) -> None:
        self._shared, self._own = shared, own or MemoryLedger()
        self._held: dict[int, tuple[Hold, Account]] = {}
        self._settling: set[asyncio.Task[None]] = set()
        self._closed_until_s: dict[tuple[str, str], float] = {}
        self._again_s = 0.0
        self._renewing: asyncio.Task[None] | None = None
        self.trouble: str | None = None

    @property
    def is_shared(self) -> bool:
        """True where the reservations of several workers are kept together."""
        return self._shared is not None

    def start(self) -> None:
        self._renewing = asyncio.create_task(self._renew_loop(), name="quota-renewals")

    async def close(self) -> None:
        """Waits a moment for settlements; what is not settled expires."""
        if self._settling:
            await asyncio.wait(self._settling, timeout=CLOSE_S)
        if self._renewing is not None:
            self._renewing.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewing

    def closed(self, teacher: str, tenant: str) -> bool:
        """True while a refusal's advice to wait still holds."""
        return _now_s() < self._closed_until_s.get((teacher, tenant), 0.0)

    async def reserve(
        self, teacher: str, tenant: str, limits: QuotaLimits, *, tokens: int, places: int, effect: str, owner: str = ""
    ) -> Hold:
        """The hold, or `Exhausted` with what is used, the limit and when to come back; `TooLarge` for what can never fit."""
        if not limits:
            return Hold(self, None, effect, owner)
        _check_fits(limits, tokens, places)
        account = Account(self._ledger(), teacher, tenant, limits)
        hold = Hold(self, account, effect, owner)
        try:
            account, answer = await self._reserve(account, Move(Verb.RESERVE, effect, tokens, places, owner))
        except asyncio.CancelledError:  # it may have been reserved
            self._start_settling(hold, account, 0)
            raise
        if answer.verdict is not Verdict.DONE:
            raise self._refusal(account, answer, tokens, places)
        self._closed_until_s.pop((teacher, tenant), None)
        hold.account = account
        self._held[id(hold)] = (hold, account)
        return hold

    async def settle(self, hold: Hold, account: Account, tokens: int) -> None:
        """See `Hold.settle`."""
        self.forget(hold)
        await asyncio.shield(self._start_settling(hold, account, tokens))

    def shares(self, ledger: Ledger) -> bool:
        """True for the ledger of all workers, which is kept where the queue is."""
        return ledger is self._shared

    def forget(self, hold: Hold) -> None:
        """It is renewed no more."""
        self._held.pop(id(hold), None)

    # ---- inside

    def _ledger(self) -> Ledger:
        away = self._shared is None or _now_s() < self._again_s
        return self._own if away or self._shared is None else self._shared

    async def _reserve(self, account: Account, move: Move) -> tuple[Account, Answer]:
        """The answer, and the account that gave it."""
        try:
            (answer,) = await account.apply([move])
        except PreceptorError as error:
            self._lost(error)
            account = Account(self._own, account.teacher, account.tenant, account.limits)
            (answer,) = await account.apply([move])
        else:
            self._found(account)
        return account, answer

    def _start_settling(self, hold: Hold, account: Account, tokens: int) -> asyncio.Task[None]:
        move = Move(Verb.SETTLE, hold.effect, tokens, owner=hold.owner)
        task = asyncio.create_task(self._settle(account, move), name="quota-settle")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        return task

    async def _settle(self, account: Account, move: Move) -> None:
        if account.ledger is not self._own and self._ledger() is self._own:
            return  # it is away: the reservation expires there, charged in full
        try:
            await account.apply([move])
        except PreceptorError as error:
            self._lost(error)
        else:
            self._found(account)

    async def _renew_loop(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            await self.renew()

    async def renew(self) -> None:
        """Everything that is held stands for another while."""
        moves: dict[Account, list[Move]] = {}
        for hold, account in self._held.values():
            moves.setdefault(account, []).append(Move(Verb.RENEW, hold.effect, owner=hold.owner))
        for account, renewals in moves.items():
            try:
                answers = await account.apply(renewals)
            except PreceptorError as error:
                self._lost(error)
            else:
                gone = sum(answer.verdict is Verdict.GONE for answer in answers)
                if gone:  # this process stood still for longer than a reservation, or the server lost it
                    log.warning("reservations_expired", teacher=account.teacher, tenant=account.tenant, count=gone)

    def _lost(self, error: PreceptorError) -> None:
        self._again_s = _now_s() + AWAY_S
        if self.trouble is None:
            log.warning("quotas_are_local", error=error.message)
        self.trouble = f"quotas are counted in this process alone: {error.message}"

    def _found(self, account: Account) -> None:
        if self.trouble is not None and account.ledger is self._shared:
            self.trouble = None
            log.info("quotas_are_shared_again")

    def _refusal(self, account: Account, answer: Answer, tokens: int, places: int) -> Exhausted:
        retry_s = answer.retry_ms / 1000 if answer.retry_ms > 0 else PLACES_RETRY_S
        self._closed_until_s[account.teacher, account.tenant] = _now_s() + retry_s
        by_tokens = answer.verdict is Verdict.TOKENS
        name, asked, limit = (
            ("tokens_per_minute", tokens, account.limits.tokens_per_minute)
            if by_tokens
            else ("in_flight", places, account.limits.in_flight)
        )
        unit = "tokens of the last minute" if by_tokens else "sequences in flight"
        return Exhausted(
            f"the tenant's quota is used up: {answer.used} {unit} and {asked} more would exceed {limit}",
            field=f"quota.{name}",
            value=answer.used + asked,
            limit=limit,
            hint=f"retry in {retry_s:.1f} s, send less at once, or ask the operator for more",
            retry_after_s=retry_s,
        )


def _check_fits(limits: QuotaLimits, tokens: int, places: int) -> None:
    for name, asked, limit in (
        ("tokens_per_minute", tokens, limits.tokens_per_minute),
        ("in_flight", places, limits.in_flight),
    ):
        if limit and asked > limit:
            raise TooLarge(
                f"this asks for {asked}, more than the tenant's whole quota of {limit}",
                field=f"quota.{name}",
                value=asked,
                limit=limit,
                hint="send less at once, or ask the operator for more",
            )


def _now_s() -> float:
    return asyncio.get_running_loop().time()
