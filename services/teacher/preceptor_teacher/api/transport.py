"""The way to a provider: resolve, check every address, connect to a checked one.

Names are resolved here, once for each request, and the connection is made to the address that was checked: a second answer of
the same name server reaches nobody. The certificate is still checked against the name. A redirect that somebody follows comes
through here again.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection

import httpx

from preceptor.errors import ConfigurationError
from preceptor_teacher.api.addresses import refusal

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Host and port -> its addresses, the one to be tried first in front."""


async def resolve(host: str, port: int) -> list[str]:
    """What the system says; spellings such as 2130706433 or 0177.1 become the address that a connection would reach."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


class GuardedTransport(httpx.AsyncBaseTransport):
    """`private_hosts`: names and addresses, as they stand in the URL, that may be private; never link-local or metadata."""

    def __init__(
        self, inner: httpx.AsyncBaseTransport, private_hosts: Collection[str] = (), resolve_host: Resolve = resolve
    ) -> None:
        self._inner = inner
        self._private = frozenset(host.lower() for host in private_hosts)
        self._resolve = resolve_host

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The response of the first address that takes a connection; `ConfigurationError` before any where one is forbidden."""
        named = request.url
        port = named.port or {"http": 80, "https": 443}[named.scheme]
        try:
            addresses = await self._resolve(named.host, port)
        except OSError as error:
            raise httpx.ConnectError(f"{named.host} cannot be resolved: {error.strerror}") from error
        self._check(named.host, addresses)
        failed: httpx.ConnectError | None = None
        for address in addresses:
            try:
                return await self._inner.handle_async_request(_to(request, address))
            except httpx.ConnectError as error:
                failed = error
        raise failed or httpx.ConnectError(f"{named.host} has no address")

    async def aclose(self) -> None:
        await self._inner.aclose()

    def _check(self, host: str, addresses: Collection[str]) -> None:
        private = host.lower() in self._private
        for address in addresses:
            if why := refusal(address, private=private):
                raise ConfigurationError(
                    f"{host} is {address}, {why}: no connection is made",
                    field="base_url",
                    value=host,
                    hint=f"if that is meant, name it: private_hosts: [{host}]" if not private else "providers do not live there",
                )


def _to(request: httpx.Request, address: str) -> httpx.Request:
    """The same request to that address; name and certificate stay those of its host."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )
