"""No connection to an address that the operator did not mean: counted at the socket of a real listener."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from preceptor.errors import ConfigurationError
from preceptor_teacher.api import ApiOptions, ChatClient, Message
from preceptor_teacher.api.addresses import refusal
from preceptor_teacher.api.transport import GuardedTransport, resolve

ASK: list[Message] = [{"role": "user", "content": "hi"}]


@dataclass
class Listener:
    """Counts the connections that it takes, and answers each with one reply."""

    port: int = 0
    connections: int = 0
    reply: bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"

    async def met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.reply)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening() -> AsyncGenerator[Listener]:
    """On every address of this machine, of both families where it has them."""
    seen, both = Listener(), socket.has_dualstack_ipv6()
    family, address = (socket.AF_INET6, "::") if both else (socket.AF_INET, "0.0.0.0")
    server = await asyncio.start_server(seen.met, sock=socket.create_server((address, 0), family=family, dualstack_ipv6=both))
    async with server:
        seen.port = server.sockets[0].getsockname()[1]
        yield seen


def guarded(private: tuple[str, ...] = (), resolve_host=resolve, **client) -> httpx.AsyncClient:
    inner = httpx.AsyncHTTPTransport(trust_env=False)
    return httpx.AsyncClient(transport=GuardedTransport(inner, private, resolve_host), trust_env=False, timeout=5, **client)


HERE = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "0",
    "0.0.0.0",
    "127.255.255.254",
    "localhost",
    "LOCALHOST",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:0:0:1]",
]
"""Spellings of this machine."""


@pytest.mark.parametrize("host", HERE)
async def test_no_spelling_of_this_machine_is_connected_to(host):
    async with listening() as seen, guarded() as http:
        with pytest.raises((ConfigurationError, httpx.ConnectError, httpx.InvalidURL)):
            await http.get(f"http://{host}:{seen.port}/v1/models")
        assert seen.connections == 0


async def test_the_listener_would_have_counted_a_connection():
    async with listening() as seen, httpx.AsyncClient(trust_env=False) as http:
        await http.get(f"http://127.0.0.1:{seen.port}/")
        assert seen.connections == 1


@pytest.mark.parametrize(
    ("address", "private", "allowed"),
    [
        ("93.184.216.34", False, True),
        ("2606:4700::1111", False, True),
        ("10.0.0.5", False, False),
        ("172.16.0.1", False, False),
        ("192.168.1.1", False, False),
        ("100.64.0.1", False, False),
        ("198.18.0.1", False, False),
        ("fd12::1", False, False),
        ("::ffff:10.0.0.5", False, False),
        ("::ffff:93.184.216.34", False, True),
        ("64:ff9b::10.0.0.5", False, False),
        ("64:ff9b::a9fe:a9fe", True, False),
        ("2002:7f00:1::", False, False),
        ("2002:a9fe:a9fe::1", True, False),
        ("::7f00:1", False, False),
        ("10.0.0.5", True, True),
        ("127.0.0.1", True, True),
        ("::1", True, True),
        ("fd12::1", True, True),
        ("169.254.169.254", True, False),
        ("169.254.170.2", True, False),
        ("100.100.100.200", True, False),
        ("fd00:ec2::254", True, False),
        ("169.254.1.1", True, False),
        ("fe80::1", True, False),
        ("fe80::1%eth0", True, False),
        ("::ffff:169.254.169.254", True, False),
        ("0.0.0.0", True, False),
        ("::", True, False),
        ("255.255.255.255", True, False),
        ("224.0.0.1", True, False),
        ("ff02::1", True, False),
        ("not-an-address", True, False),
    ],
)
def test_addresses(address, private, allowed):
    assert (refusal(address, private=private) == "") is allowed


async def test_a_host_that_the_operator_names_is_reached_and_no_other():
    async with listening() as seen, guarded(("127.0.0.1",)) as http:
        assert (await http.get(f"http://127.0.0.1:{seen.port}/")).status_code == 200
        for other in ("localhost", "127.0.0.2", "2130706433"):
            with pytest.raises(ConfigurationError, match="no connection is made"):
                await http.get(f"http://{other}:{seen.port}/")
        assert seen.connections == 1


async def test_a_name_is_resolved_once_and_its_second_answer_reaches_nobody():
    """A rebinding name server says something harmless first, and this machine from then on."""
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["192.0.2.1" if len(asked) == 1 else "127.0.0.1"]

    async with listening() as seen, guarded(resolve_host=rebinding) as http:
        for _ in range(3):
            with pytest.raises((ConfigurationError, httpx.ConnectError, httpx.ConnectTimeout)):
                await http.get(f"http://rebind.example:{seen.port}/", timeout=0.2)
        assert (seen.connections, len(asked)) == (0, 3)


async def test_one_forbidden_address_among_several_forbids_the_name():
    async def several(host: str, port: int) -> list[str]:
        return ["93.184.216.34", "127.0.0.1"]

    async with listening() as seen, guarded(resolve_host=several) as http:
        with pytest.raises(ConfigurationError):
            await http.get(f"http://both.example:{seen.port}/")
        assert seen.connections == 0


async def test_the_next_address_is_tried_where_one_takes_no_connection():
    async def several(host: str, port: int) -> list[str]:
        return ["127.0.0.99", "127.0.0.1"]

    seen = Listener()
    server = await asyncio.start_server(seen.met, "127.0.0.1", 0)
    async with server, guarded(("two.example",), several) as http:
        port = server.sockets[0].getsockname()[1]
        reply = await http.get(f"http://two.example:{port}/")
        assert (reply.status_code, seen.connections, reply.request.url.host) == (200, 1, "two.example")


async def test_a_redirect_to_this_machine_is_not_followed_and_could_not_be():
    async with listening() as seen, listening() as inside:
        seen.reply = f"HTTP/1.1 307 x\r\nlocation: http://127.0.0.1:{inside.port}/\r\ncontent-length: 0\r\n\r\n".encode()

        async def known(host: str, port: int) -> list[str]:
            return ["127.0.0.1"]

        async with guarded(("named.example",), known, follow_redirects=True) as http:
            with pytest.raises(ConfigurationError):
                await http.get(f"http://named.example:{seen.port}/")
        options = ApiOptions(base_url=f"http://127.0.0.1:{seen.port}/v1", model="m", private_hosts=("127.0.0.1",))
        client = ChatClient(options)
        with pytest.raises(ConfigurationError, match="307"):
            await client.complete(ASK)
        await client.close()
        assert (seen.connections, inside.connections) == (2, 0)


async def test_a_client_refuses_a_private_provider_by_its_field_and_sends_nothing():
    async with listening() as seen:
        client = ChatClient(ApiOptions(base_url=f"http://localhost:{seen.port}/v1", model="m"))
        with pytest.raises(ConfigurationError) as refused:
            await client.complete(ASK)
        await client.close()
        assert (refused.value.field, seen.connections) == ("base_url", 0)
        assert "private_hosts: [localhost]" in refused.value.hint
