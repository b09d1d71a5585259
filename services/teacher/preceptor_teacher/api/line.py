"""One attempt: bytes to the provider, and what came back, bounded in time and size.

Nothing of a failed reply's body reaches a log or an error except a known error code: providers echo keys and prompts there.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import httpx
from pydantic import SecretStr

from preceptor.errors import ConfigurationError, Exhausted, PreceptorError, Unavailable
from preceptor_teacher.api.options import ApiOptions
from preceptor_teacher.api.retries import advised_pause_s
from preceptor_teacher.api.transport import GuardedTransport
from preceptor_teacher.api.wires import WIRES, Parsed, Wire
from preceptor_teacher.api.wires.reading import Body, json_object

MAX_REPLY_BYTES = 4 << 20
CONNECT_TIMEOUT_S = 10.0
# The provider's own word for a failure is shown where it is one of these: any other text might hold a part of a key.
SHOWN_CODES = frozenset(
    {
        "api_error",
        "authentication_error",
        "billing_error",
        "context_length_exceeded",
        "dynamic_request_limited",
        "dynamic_token_limited",
        "insufficient_quota",
        "invalid_api_key",
        "invalid_request_error",
        "model_not_found",
        "not_found_error",
        "overloaded_error",
        "permission_error",
        "rate_limit_error",
        "rate_limit_exceeded",
        "request_too_large",
        "server_error",
    }
)


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one attempt: `parsed`, or `error`."""

    parsed: Parsed | None = None
    error: PreceptorError | None = None
    maybe_paid: bool = False  # it failed, and the provider may take money for it all the same
    answered: bool = True  # the provider is there, whatever it says


class Line:
    """Made inside an event loop. `transport` replaces the network in tests."""

    def __init__(
        self,
        options: ApiOptions,
        key: SecretStr | None,
        transport: httpx.AsyncBaseTransport | None,
        most_bytes: int = MAX_REPLY_BYTES,
        wire: Wire | None = None,
    ) -> None:
        self._options, self._key, self._most_bytes = options, key, most_bytes
        self._wire = wire or WIRES[options.wire]
        self._base = options.base_url.rstrip("/")
        self.url = self._base + self._wire.path(options)
        bounds = httpx.Limits(max_connections=options.max_concurrency, max_keepalive_connections=options.max_concurrency)
        network = httpx.AsyncHTTPTransport(limits=bounds, trust_env=False)
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(options.timeout_s, connect=min(CONNECT_TIMEOUT_S, options.timeout_s)),
            follow_redirects=False,
            trust_env=False,  # a proxy would resolve names after they were checked here
            transport=transport or GuardedTransport(network, options.private_hosts),
        )

    async def send(self, body: bytes) -> Sent:
        """How it went; only a cancellation is raised."""
        try:
            response, data = await self._post(body, self.url)
        except (httpx.HTTPError, TimeoutError, PreceptorError) as error:
            return self._failed(error)
        if not response.is_success:
            return Sent(error=_refusal(response, data), answered=response.status_code < 500)
        try:
            return Sent(self._wire.read(json_object(data)))
        except PreceptorError as error:  # without its frames, which hold what the provider sent
            return Sent(error=error.with_traceback(None), maybe_paid=True, answered=False)

    async def ask(self, path: str, body: bytes) -> Body | None:
        """What is answered to a body of any shape under another path; None where that is not served or fails."""
        try:
            return await self.read(path, body)
        except PreceptorError:
            return None

    async def read(self, path: str, body: bytes) -> Body:
        """The same, with the reason where it fails: a `PreceptorError` that is retryable where asking again may help."""
        try:
            response, data = await self._post(body, self._base + path)
        except (httpx.HTTPError, TimeoutError) as error:
            raise self._trouble(error) from None
        if not response.is_success:
            raise _refusal(response, data)
        return json_object(data)

    async def close(self) -> None:
        await self._http.aclose()

    async def _post(self, body: bytes, url: str) -> tuple[httpx.Response, bytes]:
        async with asyncio.timeout(self._options.timeout_s):
            async with self._http.stream("POST", url, content=body, headers=self._headers()) as response:
                return response, await _bounded(response, self._most_bytes)

    def _failed(self, error: httpx.HTTPError | TimeoutError | PreceptorError) -> Sent:
        """Before a connection nothing is paid; after it nobody can say."""
        if isinstance(error, PreceptorError):  # a forbidden address, or a reply beyond its bound
            return Sent(error=error, maybe_paid=error.retryable, answered=not error.retryable)
        return Sent(error=self._trouble(error), maybe_paid=_connected(error), answered=False)

    def _trouble(self, error: httpx.HTTPError | TimeoutError) -> Unavailable:
        if _connected(error) and isinstance(error, httpx.TimeoutException | TimeoutError):
            return Unavailable(f"the provider did not answer within {self._options.timeout_s:g} s")
        return Unavailable(f"the provider cannot be reached: {type(error).__name__}")

    def _headers(self) -> dict[str, str]:
        own = self._wire.key_headers(self._key.get_secret_value()) if self._key is not None else {}
        return {"content-type": "application/json", **dict(self._wire.fixed_headers), **own}


def _connected(error: Exception) -> bool:
    return not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)


async def _bounded(response: httpx.Response, most_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > most_bytes:
            raise Unavailable(f"the provider's reply is longer than {most_bytes} bytes")
        parts.append(part)
    return b"".join(parts)


def _refusal(response: httpx.Response, data: bytes) -> PreceptorError:
    """Overload and failures of the provider may pass; anything else is for the operator to mend."""
    status, said = response.status_code, _error_code(data)
    told = f"the provider answered {status}{f' ({said})' if said else ''}"
    if status == 429:
        return Exhausted(told, retry_after_s=advised_pause_s(response.headers))
    if status in (408, 409, 425) or status >= 500:
        return Unavailable(told, retry_after_s=advised_pause_s(response.headers))
    if status in (401, 403):
        return ConfigurationError(told, field="api_key", hint="give the teacher service a key that the provider accepts")
    hint = "redirects are not followed: name the address that answers" if 300 <= status < 400 else "see base_url and model"
    return ConfigurationError(told, field="base_url", hint=hint)


def _error_code(data: bytes) -> str:
    """The provider's own word for it, where it is a known one."""
    try:
        error = json_object(data).get("error")
    except PreceptorError:
        return ""
    found = [error.get(name) for name in ("code", "type", "error_type")] if isinstance(error, dict) else []
    return next((one for one in found if isinstance(one, str) and one in SHOWN_CODES), "")
