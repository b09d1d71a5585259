"""A client of chat completions in the OpenAI shape: bounded concurrency, bounded time, retries inside a budget.

Nothing of a failed reply's body reaches a log or an error except a known error code: providers echo keys and prompts there.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Literal, TypedDict

import httpx
from pydantic import SecretStr

from preceptor.errors import ConfigurationError, Exhausted, PreceptorError, Unavailable
from preceptor_teacher.api.options import ApiOptions
from preceptor_teacher.api.retries import RetryBudget, retry_after_s

MAX_REPLY_BYTES = 4 << 20
CONNECT_TIMEOUT_S = 10.0
# The provider's own word for a failure is shown where it is one of these: any other text might hold a part of a key.
SHOWN_CODES = frozenset(
    {
        "context_length_exceeded",
        "insufficient_quota",
        "invalid_api_key",
        "invalid_request_error",
        "model_not_found",
        "rate_limit_exceeded",
        "server_error",
    }
)


class Message(TypedDict):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What the provider wrote, and what it counted."""

    text: str
    finish_reason: str
    refused: bool
    calls: int
    prompt_tokens: int
    completion_tokens: int


class ChatClient:
    """Made inside an event loop. `transport` replaces the network in tests."""

    def __init__(
        self, options: ApiOptions, key: SecretStr | None = None, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._options, self._key = options, key
        self._slots = asyncio.Semaphore(options.max_concurrency)
        self._open_at_s = 0.0  # a provider that asks one caller to wait means all of them
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(options.timeout_s, connect=min(CONNECT_TIMEOUT_S, options.timeout_s)),
            limits=httpx.Limits(max_connections=options.max_concurrency),
            follow_redirects=False,
            trust_env=not _is_here(options.base_url),
            transport=transport,
        )
        self.trouble: str | None = None

    async def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None = None, max_tokens: int | None = None
    ) -> ChatReply:
        """The reply, or the `PreceptorError` of the last attempt: `ConfigurationError` where sending again cannot help."""
        body = self._body(messages, schema, max_tokens or self._options.max_reply_tokens)
        async with self._slots:
            budget = RetryBudget(self._options.max_attempts, self._options.retry_budget_s)
            while True:
                await self._until_open()
                try:
                    reply = _read(await self._send(body), budget.attempts + 1)
                except PreceptorError as error:
                    self.trouble = error.message
                    await self._pause(error, budget)
                else:
                    self.trouble = None
                    return reply

    async def close(self) -> None:
        await self._http.aclose()

    # ---------------------------------------------------------------- one attempt

    def _body(self, messages: Sequence[Message], schema: Mapping[str, Any] | None, max_tokens: int) -> bytes:
        body: dict[str, Any] = {
            "model": self._options.model,
            "messages": list(messages),
            "temperature": 0,
            "max_tokens": max_tokens,
        }
        if schema is not None and self._options.structured_output:
            named = {"name": "verdict", "strict": True, "schema": dict(schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        return json.dumps(body, ensure_ascii=False).encode("utf-8", errors="replace")

    async def _send(self, body: bytes) -> Mapping[str, Any]:
        headers = {"content-type": "application/json"}
        if self._key is not None:
            headers["authorization"] = f"Bearer {self._key.get_secret_value()}"
        url = f"{self._options.base_url.rstrip('/')}/chat/completions"
        try:
            async with asyncio.timeout(self._options.timeout_s):
                async with self._http.stream("POST", url, content=body, headers=headers) as response:
                    data = await _bounded(response)
        except (httpx.TimeoutException, TimeoutError):
            raise Unavailable(f"the provider did not answer within {self._options.timeout_s:g} s") from None
        except httpx.HTTPError as error:
            raise Unavailable(f"the provider cannot be reached: {type(error).__name__}") from None
        if not response.is_success:
            raise _refusal(response, data)
        return _object(data)

    # ---------------------------------------------------------------- waiting

    async def _until_open(self) -> None:
        wait_s = self._open_at_s - asyncio.get_running_loop().time()
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    async def _pause(self, error: PreceptorError, budget: RetryBudget) -> None:
        """Sleeps as advised or backs off; raises the error where it is final or the budget is spent."""
        pause_s = budget.next_pause_s(error)
        if error.retry_after_s is not None:
            self._open_at_s = max(self._open_at_s, asyncio.get_running_loop().time() + error.retry_after_s)
        await asyncio.sleep(pause_s * random.uniform(1.0, 1.1))  # noqa: S311 - spreads load, guards nothing


# ---------------------------------------------------------------- reading


async def _bounded(response: httpx.Response) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > MAX_REPLY_BYTES:
            raise Unavailable(f"the provider's reply is longer than {MAX_REPLY_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _refusal(response: httpx.Response, data: bytes) -> PreceptorError:
    """Overload and failures of the provider may pass; anything else is for the operator to mend."""
    status, said = response.status_code, _error_code(data)
    told = f"the provider answered {status}{f' ({said})' if said else ''}"
    if status == 429:
        return Exhausted(told, retry_after_s=retry_after_s(response.headers.get("retry-after")))
    if status in (408, 409, 425) or status >= 500:
        return Unavailable(told, retry_after_s=retry_after_s(response.headers.get("retry-after")))
    if status in (401, 403):
        return ConfigurationError(told, field="api_key", hint="give the teacher service a key that the provider accepts")
    hint = "redirects are not followed: name the address that answers" if 300 <= status < 400 else "see base_url and model"
    return ConfigurationError(told, field="base_url", hint=hint)


def _error_code(data: bytes) -> str:
    """The provider's own word for it, where it is a known one."""
    try:
        error = _object(data).get("error")
    except PreceptorError:
        return ""
    found = [error.get(name) for name in ("code", "type")] if isinstance(error, dict) else []
    return next((one for one in found if isinstance(one, str) and one in SHOWN_CODES), "")


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise Unavailable("the provider's reply is no JSON") from None
    if not isinstance(value, dict):
        raise Unavailable("the provider's reply is no JSON object")
    return value


def _read(body: Mapping[str, Any], calls: int) -> ChatReply:
    try:
        choice = body["choices"][0]
        message = choice["message"]
        content, refusal = message.get("content"), message.get("refusal")
        reason = str(choice.get("finish_reason") or "")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Unavailable("the provider's reply has no message") from None
    return ChatReply(
        text=content if isinstance(content, str) else "",
        finish_reason=reason,
        refused=bool(refusal) or reason == "content_filter",
        calls=calls,
        prompt_tokens=_count(body, "prompt_tokens"),
        completion_tokens=_count(body, "completion_tokens"),
    )


def _count(body: Mapping[str, Any], name: str) -> int:
    usage = body.get("usage")
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _is_here(base_url: str) -> bool:
    """Proxies of the environment are for providers elsewhere."""
    host = httpx.URL(base_url).host
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
