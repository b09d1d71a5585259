"""`make bench-provider`: what a provider's bad days cost, counted at the provider's socket.

The stand-in over the bundled teacher fails at random, by a fixed seed: 30% of requests with 5xx, 10% with 429 and Retry-After,
5% with half a reply, 2% never answer. Callers ask again until they are answered, as a learner does. One side has the bound on
retries of all requests together, the other has none; everything else is the same.

Retry traffic is what the client sends over what it was asked to send: a request that its caller brings again is a new request.
What is sent over what is answered cannot be lower than 1 / (1 - 0.47) = 1.89 where failures do not depend on each other,
whoever tries again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results import Result, write_results
from preceptor.errors import BudgetSpent, PreceptorError
from preceptor.planning import Price
from preceptor_teacher.api import ApiOptions, ChatClient, Payer
from preceptor_teacher.api.calls.records import NANO, cost_nano
from preceptor_teacher.api.messages import Tokens
from preceptor_teacher.testing import FaultPlan, standing_in

TEACHER = Path("examples/tiny/teacher")
STORM = {"server_error": 0.3, "rate_limited": 0.1, "truncated": 0.05, "hang": 0.02}
NEVER_PAID = ("server_error", "rate_limited")
QUESTIONS, IN_FLIGHT = 300, 16
TIMEOUT_S, DEADLINE_S, ASK_AGAIN_S = 1.0, 300.0, 0.5
UNBOUNDED = 10.0  # retries a request: more than its other bounds admit
PRICE = Price(prompt_usd_per_million=1000.0, completion_usd_per_million=1000.0)
BUDGET_CALLS = 60
PAYER = Payer("local", "bench")
RETRY_BAR = 1.2


@dataclass(frozen=True, slots=True)
class Storm:
    """What one side went through."""

    seen: Counter[str]
    asked: int
    answered: int
    asked_again: int
    opened: int
    closed: int
    unknown: int
    took_s: float
    spent_nano: int
    one_nano: int

    @property
    def sent(self) -> int:
        return self.seen["chat"]


async def weather(**options: Any) -> Storm:
    """All questions, each until it is answered or the budget is spent."""
    async with standing_in(TEACHER, faults=FaultPlan(STORM, seed=7)) as served:
        known: dict[str, Any] = {
            "timeout_s": TIMEOUT_S,
            "breaker_open_s": 0.5,
            "max_concurrency": IN_FLIGHT,
            "reply_cache_bytes": 0,
        }
        where = {"base_url": served.base_url, "model": "m", "private_hosts": ("127.0.0.1",)}
        api = ChatClient(ApiOptions(**{**known, **where, "price": PRICE, **options}))
        began_s = time.perf_counter()
        again = Counter[str]()
        room = asyncio.Semaphore(IN_FLIGHT)
        async with asyncio.timeout(DEADLINE_S):
            answered = await asyncio.gather(*(_answered(api, number, room, again) for number in range(QUESTIONS)))
        spent = await api.calls.spent(PAYER)
        storm = Storm(
            seen=served.provider.seen,
            asked=api.allowance.first,
            answered=sum(answered),
            asked_again=again["asked"],
            opened=api.breaker.opened,
            closed=api.breaker.closed,
            unknown=await api.calls.unknown_calls(),
            took_s=time.perf_counter() - began_s,
            spent_nano=spent.cost_nano,
            one_nano=_one_call(spent.tokens, sum(answered)),
        )
        await api.close()
        return storm


async def _answered(api: ChatClient, number: int, room: asyncio.Semaphore, again: Counter[str]) -> bool:
    async with room:
        while True:
            try:
                await api.complete([{"role": "user", "content": f"{number:03}+1"}], max_tokens=4, payer=PAYER)
            except BudgetSpent:
                return False
            except PreceptorError as error:
                if not error.retryable:
                    raise
                again["asked"] += 1
                await asyncio.sleep(error.retry_after_s or ASK_AGAIN_S)
            else:
                return True


def _one_call(tokens: Tokens, calls: int) -> int:
    return cost_nano(PRICE, tokens) // max(calls, 1)


async def measure() -> tuple[list[Result], list[str]]:
    bounded = await weather()
    unbounded = await weather(retry_share=UNBOUNDED)
    one = bounded.one_nano
    budget_usd = BUDGET_CALLS * one / NANO
    stopped = await weather(job_budget_usd=budget_usd)
    billed = (stopped.sent - sum(stopped.seen[fault] for fault in NEVER_PAID)) * one
    overshoot = max(0.0, billed / one - BUDGET_CALLS)
    detail = {"storm": STORM, "questions": QUESTIONS, "in_flight": IN_FLIGHT, "engine": "stand-in over the bundled teacher, hf"}
    rows = [
        Result(
            "H.retries",
            "sent over asked of the client",
            bounded.sent / bounded.asked,
            RETRY_BAR,
            "lower",
            {**detail, **_told(bounded)},
        ),
        Result("H.completed", "questions answered", bounded.answered / QUESTIONS, 1.0, "higher"),
        Result("H.breaker", "times the circuit closed again", bounded.closed, 1, "higher", {"opened": bounded.opened}),
        Result(
            "H.overshoot",
            "calls paid beyond the budget",
            overshoot,
            IN_FLIGHT,
            "lower",
            {"budget_calls": BUDGET_CALLS, **_told(stopped)},
        ),
    ]
    lost = f"{bounded.took_s:.0f} s and {bounded.asked_again} errors to callers, against {unbounded.took_s:.0f} s and"
    least = 1 / (1 - sum(STORM.values()))
    ratios = f"{bounded.sent / bounded.answered:.2f}, without the bound {unbounded.sent / unbounded.answered:.2f}"
    return rows, [
        f"sent over answered: {ratios}; by arithmetic {least:.2f} for any client whose callers insist",
        f"without the bound the client sends {unbounded.sent / unbounded.asked:.2f}x what it is asked",
        f"where we lose: {lost} {unbounded.asked_again} without the bound",
    ]


def _told(storm: Storm) -> dict[str, Any]:
    seen = {name: storm.seen[name] for name in ("chat", *STORM)}
    counts = {"asked": storm.asked, "answered": storm.answered, "asked_again_by_callers": storm.asked_again}
    circuit = {"opened": storm.opened, "closed": storm.closed}
    return {**counts, **circuit, "seen_at_the_socket": seen, "maybe_paid": storm.unknown, "took_s": round(storm.took_s, 1)}


def main() -> None:
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # requests that hang are cut off at each end
    rows, notes = asyncio.run(measure())
    write_results("provider", rows, notes)


if __name__ == "__main__":
    main()
