"""What bounds a client as a whole: retries of all requests, the circuit, room in the minute; and what it tells of itself."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor.errors import PreceptorError, Unavailable
from preceptor.local.valkey import EmbeddedValkey
from preceptor.queue.redis import RedisLedger
from preceptor_serving.quotas import Desk
from preceptor_teacher.api import ApiOptions, ChatClient, Message
from preceptor_teacher.api.breaker import Circuit
from preceptor_teacher.api.meters import ProviderCollector
from preceptor_teacher.api.retries import IN_HAND, RetryAllowance

PAGE = Path(__file__).parents[4] / "docs" / "api-teachers.md"
ROW = re.compile(r"^\| (preceptor_\w+) \| (\w+) \| ([\w,]+) \| .+ \|$", re.MULTILINE)
GOOD = {
    "choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 1},
}


def ask(number: int) -> list[Message]:
    return [{"role": "user", "content": str(number)}]


class Provider:
    """Answers as it is told, after a moment; counts what is under way."""

    def __init__(self, answer: Callable[[int], int] = lambda number: 200, pause_s: float = 0.0) -> None:
        self.answer, self.pause_s = answer, pause_s
        self.asked = self.flying = self.most = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked, self.flying = self.asked + 1, self.flying + 1
        self.most = max(self.most, self.flying)
        number = self.asked
        await asyncio.sleep(self.pause_s)
        self.flying -= 1
        return httpx.Response(self.answer(number), json=GOOD)


def client(provider: Provider, desk: Desk | None = None, **options) -> ChatClient:
    known = {"base_url": "https://provider.example/v1", "model": "m", "reply_cache_bytes": 0}
    return ChatClient(ApiOptions(**{**known, **options}), transport=httpx.MockTransport(provider), desk=desk)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preceptor_teacher.api.retries.FIRST_PAUSE_S", 0.0)


@given(st.lists(st.booleans(), max_size=200), st.sampled_from([0.0, 0.2, 1.0]))
def test_further_attempts_are_at_most_their_share_of_the_first_ones_at_any_time(wishes, share):
    allowance = RetryAllowance(share)
    for wants_again in wishes:
        allowance.begin()
        while wants_again and allowance.take():
            pass
        assert allowance.again <= max(IN_HAND, share * allowance.first) + 1e-9


def test_long_good_times_pay_for_no_storm():
    allowance = RetryAllowance(0.2)
    for _ in range(10_000):
        allowance.begin()
    assert sum(allowance.take() for _ in range(1000)) == IN_HAND


async def test_a_provider_that_is_down_is_asked_little_more_than_once_for_each_request(no_pauses):
    provider = Provider(lambda number: 503)
    api = client(provider, breaker_failures=1000, max_attempts=100)
    for number in range(100):
        with pytest.raises(Unavailable, match="503"):
            await api.complete(ask(number))
    assert provider.asked == 100 + api.allowance.again
    assert 15 <= api.allowance.again <= 100 * 0.2
    await api.close()


async def test_the_circuit_opens_under_failures_and_one_request_finds_the_provider_back(no_pauses):
    provider = Provider(lambda number: 503 if number <= 3 else 200)
    api = client(provider, breaker_failures=3, breaker_open_s=0.05, max_attempts=10)
    assert (await api.complete(ask(0))).calls == 4
    assert (api.breaker.state, api.breaker.opened, api.breaker.closed) == (Circuit.CLOSED, 1, 1)
    await api.close()


async def test_while_the_circuit_is_open_nothing_is_sent_and_callers_are_told_until_when(no_pauses):
    provider = Provider(lambda number: 503)
    api = client(provider, breaker_failures=2, breaker_open_s=50, max_attempts=10, retry_budget_s=1.0)
    with pytest.raises(Unavailable, match="nothing is sent") as told:
        await api.complete(ask(0))
    assert provider.asked == 2
    assert told.value.retry_after_s is not None
    assert 40 < told.value.retry_after_s <= 50
    assert "the circuit is open" in str(api.trouble)
    await api.close()


async def test_only_one_of_many_waiting_requests_tries_an_open_circuit(no_pauses):
    provider = Provider(lambda number: 503 if number <= 2 else 200, pause_s=0.05)
    api = client(provider, breaker_failures=2, breaker_open_s=0.1, max_attempts=10, max_concurrency=2)
    first = await asyncio.gather(api.complete(ask(0)), api.complete(ask(1)))
    assert [reply.text for reply in first] == ["ok", "ok"]
    assert provider.asked == 4
    assert api.breaker.closed == 1
    await api.close()


async def test_overload_is_an_answer_and_opens_nothing(no_pauses):
    provider = Provider(lambda number: 429)
    api = client(provider, breaker_failures=2, max_attempts=5)
    with pytest.raises(PreceptorError, match="429"):
        await api.complete(ask(0))
    assert (api.breaker.state, provider.asked) == (Circuit.CLOSED, 5)
    await api.close()


async def test_one_answer_has_a_deadline_whatever_keeps_it():
    provider = Provider(pause_s=60)
    api = client(provider, deadline_s=0.1)
    with pytest.raises(Unavailable, match=r"within 0\.1 s"):
        await api.complete(ask(0))
    assert await api.calls.unknown_calls() == 1
    await api.close()
    crowded = client(Provider(), requests_per_minute=1, deadline_s=0.3)
    await crowded.complete(ask(0))
    with pytest.raises(Unavailable, match="there was no room"):
        await crowded.complete(ask(1))
    await crowded.close()


@pytest.mark.slow
@pytest.mark.parametrize(("bound", "value", "sent"), [("requests_per_minute", 3, 3), ("tokens_per_minute", 30, 2)])
async def test_a_minute_holds_so_many_requests_and_so_many_tokens(bound, value, sent):
    """Each request may take 18 tokens and takes 10: the third finds 10 left of 30."""
    provider = Provider()
    api = client(provider, None, deadline_s=1.5, max_reply_tokens=1, **{bound: value})
    results = await asyncio.gather(*(api.complete(ask(number)) for number in range(6)), return_exceptions=True)
    assert sum(isinstance(one, Unavailable) for one in results) == 6 - sent
    assert provider.asked == sent
    await api.close()


@pytest.mark.slow
async def test_services_with_one_server_share_the_minute_and_the_places(tmp_path):
    with EmbeddedValkey(tmp_path / "valkey") as valkey:
        ledgers = [RedisLedger.open(valkey.url, valkey.password) for _ in range(2)]
        desks = [Desk(ledger) for ledger in ledgers]
        provider = Provider(pause_s=0.05)
        apis = [client(provider, desk, deadline_s=4, requests_per_minute=7, max_concurrency=2) for desk in desks]
        asked = [apis[number % 2].complete(ask(number)) for number in range(10)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(one, Unavailable) for one in results].count(True) == 3
        assert (provider.asked, provider.most) == (7, 2)
        for api, desk, ledger in zip(apis, desks, ledgers, strict=True):
            await api.close()
            await desk.close()
            await ledger.close()


def test_the_page_and_the_collector_agree():
    async def families():
        api = client(Provider())
        await api.complete(ask(0))
        found = list(ProviderCollector({"judge": api}).collect())
        await api.close()
        return found

    told = {}
    for family in asyncio.run(families()):
        first = family.samples[0]
        assert len(family.samples) == len({tuple(sample.labels.items()) for sample in family.samples})
        told[first.name] = (family.type, ",".join(first.labels))
        if first.name == "preceptor_provider_tokens_total":
            assert [sample.value for sample in family.samples] == [9, 1, 0]
    assert told == {name: (kind, labels) for name, kind, labels in ROW.findall(PAGE.read_text(encoding="utf-8"))}
