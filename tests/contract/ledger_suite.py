"""What every ledger must do. A module that defines the fixture `open_ledger` and subclasses `LedgerRules` runs it.

The state machine compares a ledger with plain lists over any history of reservations whose holders live, die, repeat themselves
or come too late; and it checks, from the history alone, that no window of a minute ever held more than the limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from preceptor.queue.quotas import MAX_JOBS, OTHER_JOBS, RESERVED_S, Counter, Ledger, Move, QuotaLimits, Verb, Verdict
from tests.contract.queue_rig import TEACHER, TENANT, Clock

T = TypeVar("T")
OpenLedger = Callable[[Clock], AbstractAsyncContextManager[Ledger]]
LIMITS = QuotaLimits(tokens_per_minute=1_000, in_flight=4)
RESERVED_MS = int(RESERVED_S * 1000)
OWNERS = ("", "w1", "w2")


def reserve(effect: str, tokens: int = 0, places: int = 1, owner: str = "") -> Move:
    return Move(Verb.RESERVE, effect, tokens, places, owner)


def settle(effect: str, tokens: int = 0, owner: str = "") -> Move:
    return Move(Verb.SETTLE, effect, tokens, owner=owner)


def renew(effect: str, owner: str = "") -> Move:
    return Move(Verb.RENEW, effect, owner=owner)


class LedgerRules:
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    async def ledger(self, open_ledger: OpenLedger, clock: Clock) -> Any:
        async with open_ledger(clock) as found:
            yield found

    async def verdicts(self, ledger: Ledger, *moves: Move, limits: QuotaLimits = LIMITS, tenant: str = TENANT) -> list[Verdict]:
        return [answer.verdict for answer in await ledger.apply(TEACHER, tenant, limits, moves)]

    async def test_what_is_settled_below_its_reservation_can_be_reserved_again_at_once(self, ledger: Ledger) -> None:
        assert await self.verdicts(ledger, reserve("a", 1_000)) == [Verdict.DONE]
        assert await self.verdicts(ledger, reserve("b", 1)) == [Verdict.TOKENS]
        assert await self.verdicts(ledger, settle("a", 300), reserve("b", 701), reserve("b", 700)) == [
            Verdict.DONE,
            Verdict.TOKENS,
            Verdict.DONE,
        ]

    async def test_a_refusal_says_what_is_used_and_when_there_is_room(self, ledger: Ledger, clock: Clock) -> None:
        await ledger.apply(TEACHER, TENANT, LIMITS, [reserve("a", 400)])
        clock.advance(10.0)
        await ledger.apply(TEACHER, TENANT, LIMITS, [reserve("b", 500)])
        (refused,) = await ledger.apply(TEACHER, TENANT, LIMITS, [reserve("c", 200)])
        assert (refused.verdict, refused.used) == (Verdict.TOKENS, 900)
        clock.advance(refused.retry_ms / 1000 - 0.001)
        assert await self.verdicts(ledger, reserve("c", 200)) == [Verdict.TOKENS]
        clock.advance(0.001)
        assert await self.verdicts(ledger, reserve("c", 200)) == [Verdict.DONE]

    async def test_a_holder_that_died_gives_its_place_back_and_its_tokens_stay_spent(self, ledger: Ledger, clock: Clock) -> None:
        await ledger.apply(TEACHER, TENANT, LIMITS, [reserve("dead", 600, places=4)])
        clock.advance(0.5)
        assert await self.verdicts(ledger, reserve("b", 0)) == [Verdict.PLACES]
        clock.advance(RESERVED_S - 0.501)
        assert await self.verdicts(ledger, reserve("b", 0)) == [Verdict.PLACES]
        clock.advance(0.001)
        assert await self.verdicts(ledger, reserve("b", 401), reserve("b", 400), settle("dead")) == [
            Verdict.TOKENS,
            Verdict.DONE,
            Verdict.GONE,
        ]

    async def test_renewing_keeps_a_place_and_charges_nothing(self, ledger: Ledger, clock: Clock) -> None:
        await ledger.apply(TEACHER, TENANT, LIMITS, [reserve("a", 1_000, places=4)])
        for _ in range(4):
            clock.advance(RESERVED_S / 2)
            assert await self.verdicts(ledger, renew("a"), reserve("b")) == [Verdict.DONE, Verdict.PLACES]
        assert await self.verdicts(ledger, settle("a", 1_000), reserve("b", 1_000)) == [Verdict.DONE, Verdict.DONE]

    async def test_a_takeover_of_the_same_effect_is_the_same_reservation(self, ledger: Ledger) -> None:
        assert await self.verdicts(ledger, reserve("rows 0-8", 900), reserve("rows 0-8", 900)) == [Verdict.DONE] * 2
        assert await self.verdicts(ledger, settle("rows 0-8", 900), settle("rows 0-8", 0)) == [Verdict.DONE, Verdict.GONE]
        assert await self.verdicts(ledger, reserve("other", 101)) == [Verdict.TOKENS]

    @pytest.mark.parametrize("last", ["old", "new"])
    async def test_who_lost_the_work_takes_nothing_from_who_has_it(self, ledger: Ledger, last: str) -> None:
        """Whichever of the two reserved last: a worker that stood still may come to it after its successor."""
        first = "new" if last == "old" else "old"
        assert await self.verdicts(
            ledger, reserve("rows", 900, owner=first), reserve("rows", 900, owner=last), settle("rows", 0, owner="stranger")
        ) == [Verdict.DONE, Verdict.DONE, Verdict.GONE]
        assert await self.verdicts(
            ledger, settle("rows", 0, owner="old"), settle("rows", 0, owner="old"), renew("rows", "old"), reserve("more", 101)
        ) == [Verdict.DONE, Verdict.GONE, Verdict.GONE, Verdict.TOKENS]
        assert await self.verdicts(
            ledger, renew("rows", "new"), settle("rows", 700, owner="new"), reserve("more", 301), reserve("more", 300)
        ) == [Verdict.DONE, Verdict.DONE, Verdict.TOKENS, Verdict.DONE]

    async def test_tenants_and_limits_are_apart(self, ledger: Ledger) -> None:
        await ledger.apply(TEACHER, TENANT, LIMITS, [reserve("a", 1_000, places=4)])
        assert await self.verdicts(ledger, reserve("a", 1_000, places=4), tenant="other") == [Verdict.DONE]
        tokens_only, places_only = QuotaLimits(tokens_per_minute=2_000), QuotaLimits(in_flight=5)
        assert await self.verdicts(ledger, reserve("b", 1_000, places=99), limits=tokens_only) == [Verdict.DONE]
        assert await self.verdicts(ledger, settle("b", 0), reserve("c", 10**9), limits=places_only) == [Verdict.DONE] * 2

    async def test_a_clock_that_went_back_keeps_no_place_for_longer_than_a_reservation(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        await ledger.apply(TEACHER, TENANT, LIMITS, [reserve("a", 1_000, places=4)])
        clock.advance(-86_400.0)
        assert await self.verdicts(ledger, reserve("b")) == [Verdict.PLACES]
        clock.advance(RESERVED_S)
        assert await self.verdicts(ledger, reserve("b", 1_000, places=4)) == [Verdict.DONE]

    async def test_usage_is_counted_once_for_each_operation_and_job(self, ledger: Ledger) -> None:
        counts = {"job-1": {Counter.ROWS: 5, Counter.REQUESTS: 1}, "job-2": {Counter.ROWS: 2}}
        for op in (b"a" * 16, b"b" * 16, b"a" * 16):
            await ledger.add_usage(TEACHER, TENANT, counts, op)
        assert await ledger.usage(TEACHER, TENANT) == {
            "job-1": {Counter.ROWS: 10, Counter.REQUESTS: 2},
            "job-2": {Counter.ROWS: 4},
        }
        assert await ledger.usage(TEACHER, "other") == {}

    async def test_jobs_beyond_the_bound_are_counted_together(self, ledger: Ledger) -> None:
        many = {f"job-{number}": {Counter.ROWS: 1} for number in range(MAX_JOBS + 7)}
        await ledger.add_usage(TEACHER, TENANT, many, b"a" * 16)
        await ledger.add_usage(TEACHER, TENANT, {"job-0": {Counter.ROWS: 1}, "new": {Counter.ROWS: 1}}, b"b" * 16)
        usage = await ledger.usage(TEACHER, TENANT)
        assert len(usage) == MAX_JOBS + 1
        assert (usage["job-0"][Counter.ROWS], usage[OTHER_JOBS][Counter.ROWS]) == (2, 8)


@dataclass
class Record:
    """One reservation that was granted, as plain history knows it."""

    effect: str
    at_ms: int
    tokens: int  # reserved, or the truth once it is settled
    places: int
    expires_ms: int
    owners: set[str]


def make_ledger_machine(open_ledger: OpenLedger) -> type[RuleBasedStateMachine]:
    """The machine for one implementation."""

    class LedgerMachine(RuleBasedStateMachine):
        effects: Bundle[str] = Bundle("effects")

        def __init__(self) -> None:
            super().__init__()
            self.runner = asyncio.Runner()
            self.clock = Clock()
            self.door = open_ledger(self.clock)
            self.ledger = self.run(self.door.__aenter__())
            self.granted: list[Record] = []
            self.live: dict[str, Record] = {}

        def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
            return self.runner.run(coroutine)

        def apply(self, move: Move) -> Verdict:
            (answer,) = self.run(self.ledger.apply(TEACHER, TENANT, LIMITS, [move]))
            return answer.verdict

        @property
        def now_ms(self) -> int:
            return int(self.clock() * 1000)

        # -------------------------------------------------------- holders

        @initialize(target=effects)
        def begin(self) -> Any:
            return multiple("e0", "e1")

        @rule(
            target=effects,
            tokens=st.sampled_from([0, 1, 250, 400, 999, 1_000]),
            places=st.integers(0, 4),
            replies_lost=st.integers(0, 2),
        )
        def reserve_new(self, tokens: int, places: int, replies_lost: int) -> str:
            effect = f"e{len(self.granted) + 2}"
            self.reserve(effect, tokens, places)
            for _ in range(replies_lost):
                self.reserve(effect, tokens, places)
            return effect

        @rule(effect=effects, tokens=st.sampled_from([0, 300, 1_000]), owner=st.sampled_from(OWNERS))
        def reserve_again(self, effect: str, tokens: int, owner: str) -> None:
            """Another worker takes the same rows over, or comes to them after the first has settled or expired."""
            self.reserve(effect, tokens, 1, owner)

        def reserve(self, effect: str, tokens: int, places: int, owner: str = "") -> None:
            held, now_ms = self.live.get(effect), self.now_ms
            in_window = sum(one.tokens for one in self.granted if now_ms // 1000 - one.at_ms // 1000 <= 60)
            if held is not None:
                held.expires_ms = now_ms + RESERVED_MS
                held.owners.add(owner)
                expected = Verdict.DONE
            elif sum(one.places for one in self.live.values()) + places > LIMITS.in_flight:
                expected = Verdict.PLACES
            elif in_window + tokens > LIMITS.tokens_per_minute:
                expected = Verdict.TOKENS
            else:
                expected = Verdict.DONE
                self.live[effect] = Record(effect, now_ms, tokens, places, now_ms + RESERVED_MS, {owner})
                self.granted.append(self.live[effect])
            assert self.apply(reserve(effect, tokens, places, owner)) is expected

        @rule(effect=effects, share=st.sampled_from([0.0, 0.5, 1.0]), times=st.integers(1, 3))
        def settle(self, effect: str, share: float, times: int) -> None:
            """Once, again because the reply was lost, or long after it has expired."""
            if effect in self.live and self.live[effect].owners != {""}:
                return  # `let_go`
            for _ in range(times):
                held = self.live.pop(effect, None)
                truth = int(held.tokens * share) if held else 777
                assert self.apply(settle(effect, truth)) is (Verdict.DONE if held else Verdict.GONE)
                if held:
                    held.tokens = truth

        @rule(effect=effects, owner=st.sampled_from(OWNERS[1:]), share=st.sampled_from([0.0, 1.0]), times=st.integers(1, 2))
        def let_go(self, effect: str, owner: str, share: float, times: int) -> None:
            """One owner of several, the last one, or somebody who owns nothing."""
            for _ in range(times):
                held = self.live.get(effect)
                owned = held is not None and owner in held.owners
                truth = int(held.tokens * share) if held else 777
                assert self.apply(settle(effect, truth, owner)) is (Verdict.DONE if owned else Verdict.GONE)
                if held and owned:
                    held.owners.remove(owner)
                    if not held.owners:
                        self.live.pop(effect).tokens = truth

        @rule(effect=effects, owner=st.sampled_from(OWNERS))
        def renew(self, effect: str, owner: str) -> None:
            held = self.live.get(effect)
            owned = held is not None and owner in held.owners
            assert self.apply(renew(effect, owner)) is (Verdict.DONE if owned else Verdict.GONE)
            if held and owned:
                held.expires_ms = self.now_ms + RESERVED_MS

        # -------------------------------------------------------- time, and holders that die in it

        @rule(passed_ms=st.sampled_from([1, 999, 1_000, 20_000, RESERVED_MS - 1, RESERVED_MS, RESERVED_MS + 1, 61_000]))
        def pass_time(self, passed_ms: int) -> None:
            self.clock.now_s = (self.now_ms + passed_ms) / 1000
            self.live = {effect: one for effect, one in self.live.items() if one.expires_ms > self.now_ms}

        @invariant()
        def no_minute_holds_more_than_the_limit(self) -> None:
            for last in self.granted:
                within = [one.tokens for one in self.granted if 0 <= last.at_ms - one.at_ms < 60_000]
                assert sum(within) <= LIMITS.tokens_per_minute

        @invariant()
        def no_moment_holds_more_places_than_the_limit(self) -> None:
            assert sum(one.places for one in self.live.values()) <= LIMITS.in_flight

        def teardown(self) -> None:
            """Everybody dies; after a reservation and a window nothing is left of anybody."""
            try:
                self.pass_time(RESERVED_MS + 61_000)
                assert self.apply(reserve("everything", LIMITS.tokens_per_minute, LIMITS.in_flight)) is Verdict.DONE
            finally:
                self.run(self.door.__aexit__(None, None, None))
                self.runner.close()

    return LedgerMachine
