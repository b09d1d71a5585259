"""The client of a provider: what is tried again and for how long, what is final, and that no secret comes out of it."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable

import httpx
import pytest

from preceptor.errors import ConfigurationError, Exhausted, PreceptorError, Unavailable
from preceptor.logs import configure_logs, get_logger
from preceptor_teacher.api import ApiOptions, ChatClient, Message, read_api_options
from preceptor_teacher.api.line import MAX_REPLY_BYTES
from preceptor_teacher.api.retries import FIRST_PAUSE_S, RetryBudget, advised_pause_s, retry_after_s

KEY = "sk-canary-0123456789abcdef"
GOOD = {
    "choices": [{"message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2},
}
ASK: list[Message] = [{"role": "user", "content": "hi"}]
Answer = httpx.Response | Exception


def options(**more) -> ApiOptions:
    return ApiOptions(base_url="https://provider.example/v1", model="m", **more)


class Script:
    """Answers requests in order; the last answer again and again."""

    def __init__(self, *answers: Answer | Callable[[], Answer]) -> None:
        self.answers, self.requests = list(answers), []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        answer = answer() if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses are told instead of slept."""
    taken: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        taken.append(seconds)
        await real(0)

    monkeypatch.setattr("preceptor_teacher.api.chat.asyncio.sleep", sleep)
    return taken


async def ask(script: Script, **more):
    from pydantic import SecretStr

    client = ChatClient(options(**more), SecretStr(KEY), httpx.MockTransport(script))
    try:
        return await client.complete(ASK, {"type": "object"})
    finally:
        await client.close()


async def test_a_request_carries_what_the_operator_configured_and_the_reply_is_counted():
    script = Script(httpx.Response(200, json=GOOD))
    reply = await ask(script, max_reply_tokens=33)
    assert (reply.text, reply.finish_reason, reply.calls, reply.prompt_tokens, reply.completion_tokens) == (
        "hello",
        "stop",
        1,
        5,
        2,
    )
    [request] = script.requests
    assert str(request.url) == "https://provider.example/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    body = json.loads(request.content)
    assert (body["model"], body["messages"], body["temperature"], body["max_tokens"]) == ("m", ASK, 0, 33)
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    await ask(script, structured_output=False)
    assert "response_format" not in json.loads(script.requests[-1].content)


async def test_what_may_pass_is_tried_again_after_the_advised_time(pauses):
    script = Script(
        httpx.Response(429, headers={"retry-after": "7"}),
        httpx.Response(503),
        httpx.ConnectError("no route"),
        httpx.ReadTimeout("slow"),
        httpx.Response(200, content=b"<html>"),
        httpx.Response(200, json=GOOD),
    )
    assert (await ask(script, max_attempts=9)).calls == 6
    assert 7.0 <= pauses[0] <= 7.7
    backed_off = [pause for pause in pauses[1:] if pause < 6.9]  # the others wait for the same advice, as all requests do
    assert len(backed_off) == 4
    assert all(0 <= pause <= FIRST_PAUSE_S * 2**attempt for attempt, pause in enumerate(backed_off, 1))


@pytest.mark.parametrize(("status", "error"), [(429, Exhausted), (500, Unavailable), (503, Unavailable)])
async def test_attempts_end(pauses, status, error):
    script = Script(httpx.Response(status))
    with pytest.raises(error, match=str(status)):
        await ask(script, max_attempts=3)
    assert len(script.requests) == 3


async def test_an_advised_wait_beyond_the_budget_ends_it_at_once(pauses):
    script = Script(httpx.Response(429, headers={"retry-after": "61"}))
    with pytest.raises(Exhausted) as failed:
        await ask(script, retry_budget_s=60)
    assert (len(script.requests), failed.value.retry_after_s, pauses) == (1, 61.0, [])


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 422])
async def test_what_cannot_pass_is_told_once(pauses, status):
    script = Script(httpx.Response(status, headers={"location": "http://169.254.169.254/"}))
    with pytest.raises(ConfigurationError):
        await ask(script)
    assert [str(request.url.host) for request in script.requests] == ["provider.example"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"message": 3}]}',
        b"[" * 100_000,
        b" " * (MAX_REPLY_BYTES + 1),
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_a_reply_of_another_shape_is_a_failure_of_the_provider(pauses, body):
    with pytest.raises(Unavailable):
        await ask(Script(httpx.Response(200, content=body)), max_attempts=2)


async def test_refusals_are_recognised_and_missing_counts_are_zero():
    refused = {"choices": [{"message": {"content": None, "refusal": "I cannot"}, "finish_reason": "stop"}]}
    filtered = {"choices": [{"message": {"content": "x"}, "finish_reason": "content_filter"}], "usage": {"prompt_tokens": -1}}
    for body in (refused, filtered):
        reply = await ask(Script(httpx.Response(200, json=body)))
        assert (reply.refused, reply.prompt_tokens) == (True, 0)


async def test_no_more_requests_are_under_way_than_configured():
    running, most = 0, 0

    async def handler(_request: httpx.Request) -> httpx.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return httpx.Response(200, json=GOOD)

    client = ChatClient(options(max_concurrency=3), None, httpx.MockTransport(handler))
    await asyncio.gather(*(client.complete([{"role": "user", "content": str(i)}]) for i in range(12)))
    await client.close()
    assert most == 3


async def test_a_provider_that_does_not_answer_is_not_waited_for():
    async def handler(_request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    client = ChatClient(options(timeout_s=0.05, max_attempts=1), None, httpx.MockTransport(handler))
    with pytest.raises(Unavailable, match=r"within 0\.05 s"):
        await client.complete(ASK)
    assert client.trouble is not None
    await client.close()


# ---------------------------------------------------------------- budgets and dates


def test_pauses_grow_and_stay_within_the_budget():
    budget, away = RetryBudget(100, 60.0, dice=lambda low, high: high), Unavailable("away")
    pauses = [budget.next_pause_s(away) for _ in range(11)]
    with pytest.raises(Unavailable):
        budget.next_pause_s(away)
    assert pauses[:3] == [0.25, 0.5, 1.0]
    assert max(pauses) == 8.0
    assert 52.0 < sum(pauses) <= 60.0


def test_retry_after_is_read_in_both_forms():
    assert retry_after_s("12") == 12.0
    assert retry_after_s("Wed, 21 Oct 2015 07:28:10 GMT", now_unix_s=1445412480.0) == 10.0
    assert retry_after_s("Wed, 21 Oct 2015 07:28:10 GMT", now_unix_s=1445412580.0) == 0.0
    assert [retry_after_s(text) for text in (None, "soon", "-3", "1e9", "9" * 30)] == [None] * 5


def test_a_limit_that_says_when_it_is_whole_again_is_waited_for_and_a_date_in_its_place_is_not():
    assert advised_pause_s({"retry-after": "2", "x-ratelimit-reset": "30"}) == 2.0
    assert advised_pause_s({"retry-after": "soon", "x-ratelimit-reset": "0.5"}) == 0.5
    assert [advised_pause_s({"x-ratelimit-reset": text}) for text in ("1797000000", "-1", "nan", "1s", "")] == [None] * 5
    assert advised_pause_s({}) is None


async def test_a_server_of_togethers_kind_is_read_waited_for_and_its_words_for_limits_are_shown(pauses):
    """Their shape: a prompt beside the choices, finish_reason eos, log-probabilities as lists, error_type, x-ratelimit-reset."""
    logprobs = {"tokens": ["hello"], "token_logprobs": [-0.1]}
    choice = {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "eos", "logprobs": logprobs}
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    good = {"object": "chat.completion", "prompt": [], "choices": [choice], "usage": usage}
    limited = {
        "error": {"message": "slow down", "type": None, "error_type": "dynamic_token_limited", "param": None, "code": None}
    }
    script = Script(
        httpx.Response(429, json=limited, headers={"x-ratelimit-limit": "10", "x-ratelimit-reset": "7"}),
        httpx.Response(200, json=good),
    )
    client = ChatClient(options(), transport=httpx.MockTransport(script))
    reply = await client.complete(ASK)
    assert (reply.text, reply.finish_reason, reply.calls, reply.prompt_tokens, reply.completion_tokens) == (
        "hello",
        "eos",
        2,
        5,
        2,
    )
    assert 7 <= pauses[0] <= 7.7
    await client.close()
    client = ChatClient(options(max_attempts=1), transport=httpx.MockTransport(Script(httpx.Response(429, json=limited))))
    with pytest.raises(Exhausted, match=r"429 \(dynamic_token_limited\)"):
        await client.complete(ASK)
    await client.close()


# ---------------------------------------------------------------- secrets and addresses


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(401, json={"error": {"message": f"Incorrect API key provided: {KEY}.", "code": KEY}}),
        httpx.Response(401, json={"error": {"message": KEY, "code": "invalid_api_key"}}),
        httpx.Response(500, content=KEY.encode()),
        httpx.Response(200, content=KEY.encode()),
        httpx.ConnectError(f"failed with Bearer {KEY}"),
    ],
    ids=range(5),
)
async def test_no_key_reaches_an_error_or_a_log(pauses, answer):
    stream = io.StringIO()
    configure_logs("teacher", log_format="json", level="debug", stream=stream)
    with pytest.raises(PreceptorError) as failed:
        await ask(Script(answer), max_attempts=2)
    get_logger("test").error("grading_failed", exc_info=failed.value)
    error = failed.value
    seen = [repr(error), str(error), error.field, error.value, error.hint, stream.getvalue()]
    assert not any(KEY in text for text in seen)
    assert "grading_failed" in stream.getvalue()


def test_keys_come_from_the_environment_or_a_file_and_are_redacted_from_then_on(tmp_path, monkeypatch):
    (tmp_path / "key").write_text(f"{KEY}-file\n")
    by_file = read_api_options("j", {"base_url": "http://h/v1", "model": "m", "api_key_file": "key"}, tmp_path)
    from_file = by_file.key()
    assert from_file is not None
    assert from_file.get_secret_value() == f"{KEY}-file"
    by_env = options(api_key_env="PROVIDER_KEY")
    from_env = by_env.key({"PROVIDER_KEY": f" {KEY}-env "})
    assert from_env is not None
    assert from_env.get_secret_value() == f"{KEY}-env"
    assert options().key() is None
    stream = io.StringIO()
    configure_logs("teacher", log_format="json", level="info", stream=stream)
    get_logger("test").info("seen", a=f"{KEY}-file", b=f"x{KEY}-envx", c=repr((by_file, by_env.key({"PROVIDER_KEY": KEY}))))
    assert KEY not in stream.getvalue()


@pytest.mark.parametrize(
    ("more", "environ"),
    [({"api_key_env": "NO_SUCH"}, {}), ({"api_key_env": "EMPTY"}, {"EMPTY": " "}), ({"api_key_file": "no"}, {})],
)
def test_a_key_that_was_promised_and_is_missing_is_told_at_the_start(more, environ):
    with pytest.raises(ConfigurationError):
        options(**more).key(environ)


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"base_url": "ftp://h/v1"}, "base_url"),
        ({"base_url": "https://user:pw@h/v1"}, "base_url"),
        ({"base_url": "https://h/v1?key=3"}, "base_url"),
        ({"base_url": "file:///etc/passwd"}, "base_url"),
        ({"base_url": ""}, "base_url"),
        ({"base_url": "https://0177.0.0.1/v1"}, "base_url"),
        ({"wire": "azure"}, ""),
        ({"api_version": "2026-01-01"}, ""),
        ({"job_budget_usd": 1}, ""),
        ({"model": ""}, "model"),
        ({"api_key": KEY}, "api_key"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"api_key_env": "A", "api_key_file": "b"}, ""),
    ],
)
def test_wrong_options_are_refused_by_field_without_showing_them(entry, field, tmp_path):
    with pytest.raises(ConfigurationError) as refused:
        read_api_options("judge", {"base_url": "https://h/v1", "model": "m", **entry}, tmp_path)
    assert refused.value.field == f"teachers.judge.{field}".rstrip(".")
    assert KEY not in str(refused.value)
    assert "pw" not in str(refused.value)
