"""What a call costs, what a budget stops, what is remembered, and what a kill leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor.errors import BudgetSpent, Unavailable
from preceptor.planning import Price
from preceptor_teacher.api import ApiOptions, ChatClient, Payer
from preceptor_teacher.api.calls import CallStore, Spent
from preceptor_teacher.api.calls.database import FILE
from preceptor_teacher.api.calls.records import NANO, Budgets, cost_nano, most_nano, most_tokens
from preceptor_teacher.api.messages import ChatReply, Message, Question, Tokens
from preceptor_teacher.api.points import POINTS

PRICE = Price(
    prompt_usd_per_million=2.0,
    completion_usd_per_million=8.0,
    cached_prompt_usd_per_million=0.5,
    cache_write_usd_per_million=2.5,
)
PAYER, OTHER = Payer("acme", "run"), Payer("acme", "other")
USAGE = {"prompt_tokens": 100, "completion_tokens": 10}


def ask(text: str = "hi") -> list[Message]:
    return [{"role": "user", "content": text}]


def good(request: httpx.Request) -> httpx.Response:
    said = json.loads(request.content)["messages"][-1]["content"]
    choice = {"message": {"role": "assistant", "content": f"re: {said}"}, "finish_reason": "stop"}
    return httpx.Response(200, json={"choices": [choice], "usage": USAGE})


class Provider:
    """Counts what it is asked."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response] = good, pause_s: float = 0.0) -> None:
        self.answer, self.pause_s, self.asked = answer, pause_s, 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        await asyncio.sleep(self.pause_s)
        return self.answer(request)


def client(provider: Provider, **options) -> ChatClient:
    known = {"base_url": "https://provider.example/v1", "model": "m", "price": PRICE}
    return ChatClient(ApiOptions(**{**known, **options}), transport=httpx.MockTransport(provider))


# ---------------------------------------------------------------- money


def test_tokens_of_the_providers_prompt_cache_cost_less_and_writing_it_costs_more():
    assert cost_nano(PRICE, Tokens(1_000_000, 0)) == 2 * NANO
    assert cost_nano(PRICE, Tokens(1_000_000, 0, cached=600_000)) == int((0.4 * 2 + 0.6 * 0.5) * NANO)
    assert cost_nano(PRICE, Tokens(1_000_000, 1_000_000, cache_written=1_000_000)) == int(10.5 * NANO)
    plain = Price(prompt_usd_per_million=2.0, completion_usd_per_million=8.0)
    assert cost_nano(plain, Tokens(100, 10, 50, 50)) == cost_nano(plain, Tokens(100, 10))
    assert cost_nano(None, Tokens(10, 10)) == 0


@given(st.text(max_size=200), st.integers(1, 300), st.integers(0, 100))
def test_no_call_costs_more_than_was_reserved_for_it(text, completion, cached):
    question = Question(({"role": "user", "content": text},), completion)
    read = len(text.encode(errors="replace"))  # a tokenizer of bytes, the worst there is
    for tokens in (Tokens(read, completion, min(read, cached)), Tokens(read, completion, cache_written=read)):
        assert cost_nano(PRICE, tokens) <= most_nano(PRICE, question)
    assert most_tokens(question).prompt >= read


async def test_a_reply_says_what_it_cost_and_the_job_adds_up():
    provider = Provider()
    api = client(provider)
    replies = [await api.complete(ask(str(i)), payer=PAYER) for i in range(3)]
    one = cost_nano(PRICE, Tokens(100, 10))
    assert [reply.cost_usd for reply in replies] == [one / NANO] * 3
    assert await api.calls.spent(PAYER) == Spent(3, Tokens(300, 30), 3 * one)
    assert await api.calls.spent(OTHER) == Spent()
    await api.close()


async def test_the_discount_of_the_providers_prompt_cache_reaches_the_jobs_cost():
    usage = {**USAGE, "prompt_tokens_details": {"cached_tokens": 60}}
    choice = {"message": {"role": "assistant", "content": "re"}, "finish_reason": "stop"}
    api = client(Provider(lambda _: httpx.Response(200, json={"choices": [choice], "usage": usage})))
    reply = await api.complete(ask(), payer=PAYER)
    discounted = cost_nano(PRICE, Tokens(100, 10, cached=60))
    assert (reply.prompt_tokens, reply.cached_tokens, reply.cost_usd) == (100, 60, discounted / NANO)
    assert await api.calls.spent(PAYER) == Spent(1, Tokens(100, 10, cached=60), discounted)
    assert discounted < cost_nano(PRICE, Tokens(100, 10))
    await api.close()


@pytest.mark.parametrize("field", ["job_budget_usd", "budget_usd"])
async def test_a_budget_stops_before_the_call_that_might_exceed_it_and_says_so(field):
    provider = Provider()
    most = most_nano(PRICE, Question(tuple(ask("0")), 256))
    one = cost_nano(PRICE, Tokens(100, 10))
    budget = 3 * one + most
    api = client(provider, **{field: budget / NANO})
    outcomes = [await told(api, str(i), PAYER) for i in range(8)]
    assert [isinstance(one, BudgetSpent) for one in outcomes] == [False] * 4 + [True] * 4
    assert provider.asked == 4
    assert (outcomes[-1].code, outcomes[-1].field, outcomes[-1].retryable) == ("BUDGET_SPENT", field, False)
    assert isinstance(await told(api, "0", PAYER), ChatReply), "what was answered before costs nothing"
    free = await told(api, "9", OTHER)
    assert isinstance(free, ChatReply) is (field == "job_budget_usd")
    await api.close()


async def told(api: ChatClient, text: str, payer: Payer) -> Any:
    try:
        return await api.complete(ask(text), payer=payer)
    except (BudgetSpent, Unavailable) as error:
        return error


async def test_calls_in_flight_never_exceed_the_budget_together():
    provider = Provider(pause_s=0.01)
    one = cost_nano(PRICE, Tokens(100, 10))
    api = client(provider, job_budget_usd=40 * one / NANO, max_concurrency=16)
    outcomes = await asyncio.gather(*(told(api, f"{i:04}", PAYER) for i in range(60)))
    spent = await api.calls.spent(PAYER)
    assert spent.cost_nano <= 40 * one
    assert provider.asked == spent.calls == sum(isinstance(one, ChatReply) for one in outcomes)
    assert 30 <= spent.calls <= 40, "and most of it is used"
    await api.close()


async def test_a_reply_that_nobody_could_read_counts_as_paid_against_the_budget():
    provider = Provider(lambda request: httpx.Response(200, content=b'{"choi'))
    most = most_nano(PRICE, Question(tuple(ask("0")), 256))
    api = client(provider, job_budget_usd=2.5 * most / NANO, max_attempts=1)
    outcomes = [await told(api, str(i), PAYER) for i in range(4)]
    assert [type(one) for one in outcomes] == [Unavailable, Unavailable, BudgetSpent, BudgetSpent]
    assert (provider.asked, await api.calls.unknown_calls()) == (2, 2)
    await api.close()


# ---------------------------------------------------------------- remembered, and asked together


async def test_equal_requests_are_one_call_now_and_later_and_each_tenant_has_its_own():
    provider = Provider(pause_s=0.01)
    api = client(provider)
    together = await asyncio.gather(*(api.complete(ask(), payer=PAYER) for _ in range(5)))
    assert (provider.asked, sum(reply.calls for reply in together)) == (1, 1)
    later = await api.complete(ask(), payer=OTHER)
    assert (later.text, later.calls, later.cost_usd, later.remembered, provider.asked) == ("re: hi", 0, 0.0, True, 1)
    await api.complete(ask(), payer=PAYER, sample=1)
    await api.complete(ask(), payer=Payer("globex", "run"))
    await api.complete(ask(), max_tokens=7, payer=PAYER)
    assert provider.asked == 4
    await api.close()


async def test_who_waits_for_an_equal_request_keeps_it_alive_and_the_last_to_leave_ends_it():
    provider = Provider(pause_s=0.05)
    api = client(provider)
    first, second = (asyncio.create_task(api.complete(ask(), payer=PAYER)) for _ in range(2))
    await asyncio.sleep(0.02)
    first.cancel()
    assert (await second).text == "re: hi"
    alone = asyncio.create_task(api.complete(ask("alone"), payer=PAYER))
    await asyncio.sleep(0.02)
    alone.cancel()
    await asyncio.wait([alone])
    await asyncio.sleep(0.02)
    assert await api.calls.unknown_calls() == 1, "it may have been paid"
    await api.close()


async def test_replies_and_costs_outlive_the_process_and_the_oldest_replies_leave(tmp_path):
    provider = Provider()
    for _ in range(2):
        api = client(provider, ledger_folder=tmp_path)
        await api.complete(ask("kept"), payer=PAYER)
        await api.close()
    assert provider.asked == 1
    assert oct((tmp_path / "secret").stat().st_mode)[-3:] == "600"
    api = client(provider, ledger_folder=tmp_path, reply_cache_bytes=300)
    for i in range(12):
        await api.complete(ask(f"{i:03}"), payer=PAYER)
    assert (await api.calls.spent(PAYER)).calls == 13
    kept = sqlite3.connect(tmp_path / FILE).execute("SELECT COUNT(*), SUM(LENGTH(body)) FROM replies").fetchone()
    assert 1 <= kept[0] < 12
    assert kept[1] <= 300
    before = provider.asked
    await api.complete(ask("011"), payer=PAYER)
    assert provider.asked == before
    await api.complete(ask("kept"), payer=PAYER)
    assert provider.asked == before + 1
    await api.close()


@pytest.mark.slow
async def test_a_damaged_ledger_is_refused_and_nothing_is_sent(tmp_path):
    provider = Provider()
    api = client(provider, ledger_folder=tmp_path)
    await api.complete(ask(), payer=PAYER)
    await api.calls._run(lambda: api.calls._database._db.execute("DROP TABLE calls"))
    with pytest.raises(Unavailable, match="ledger of calls"):
        await api.complete(ask("more"), payer=PAYER)
    assert provider.asked == 1
    await api.close()


async def test_two_processes_share_one_budget(tmp_path):
    most = 10 * NANO
    stores = [CallStore(tmp_path, 0, Budgets(job=25 * NANO)) for _ in range(2)]
    assert stores[0].secret_of("acme") == stores[1].secret_of("acme")
    calls = [await store.begin(PAYER, most, 60) for store in stores]
    await stores[0].settle(calls[0], PAYER, Spent(1, Tokens(1, 1), most))
    await stores[1].lose(calls[1], PAYER)
    for store in stores:
        with pytest.raises(BudgetSpent):
            await store.begin(PAYER, most, 60)
        await store.close()


# ---------------------------------------------------------------- kills

CHILD = """
import asyncio, os, signal, sys
from preceptor_teacher.api import ApiOptions, ChatClient, Payer

class Die:
    def __init__(self, point, after): self.point, self.left = point, after
    def reached(self, point):
        if point == self.point:
            self.left -= 1
            if self.left < 0: os.kill(os.getpid(), signal.SIGKILL)

async def main(url, folder, point, after):
    options = ApiOptions(base_url=url, model="m", ledger_folder=folder, private_hosts=["127.0.0.1"], max_concurrency=4)
    api = ChatClient(options, hooks=Die(point, int(after)))
    await asyncio.gather(*(api.complete([{"role": "user", "content": f"q{i}"}], payer=Payer("acme", "run")) for i in range(12)))
    await api.close()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
async def test_after_a_kill_no_more_is_paid_twice_than_was_under_way(point, tmp_path):
    served: list[str] = []

    async def provider(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := (await reader.readuntil(b"\r\n\r\n")).decode():
            size = int(head.lower().split("content-length:")[1].split("\r\n")[0])
            request = httpx.Request("POST", "http://h/", content=await reader.readexactly(size))
            served.append(json.loads(request.content)["messages"][0]["content"])
            body = good(request).content
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()

    async def quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await provider(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(quiet, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        codes = [await run_child(url, tmp_path, point, after) for after in (3, 99)]
    assert codes == [-signal.SIGKILL, 0]
    assert set(served) == {f"q{i}" for i in range(12)}
    paid_twice = len(served) - 12
    assert paid_twice <= 4, "calls in flight"
    with sqlite3.connect(tmp_path / FILE) as ledger:
        (settled,) = ledger.execute("SELECT calls FROM spent").fetchone()
        (unknown,) = ledger.execute("SELECT COUNT(*) FROM calls").fetchone()
        (kept,) = ledger.execute("SELECT COUNT(*) FROM replies").fetchone()
    assert (settled, kept) == (12, 12)
    assert paid_twice <= unknown <= 4, "nothing was paid that is not written down"


async def run_child(url: str, folder: Path, point: str, after: int) -> int:
    where = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, url, str(folder), point, str(after), env=where, stderr=subprocess.DEVNULL
    )
    async with asyncio.timeout(60):
        return await child.wait()
