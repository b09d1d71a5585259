"""Scripts say nothing that Redis 7.0 does not understand: a newer server tells since when it knows each command and option."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from preceptor.local.valkey import EmbeddedValkey
from preceptor.queue.redis import RedisQueue
from preceptor.queue.redis.loading import FOLDER
from preceptor_serving.auth.redis_acl import acl_user

OLDEST = (7, 0, 0)
CALLS = re.compile(r"redis\.p?call\(('[A-Z]+'[^)]*(?:\([^)]*\)[^)]*)*)\)")
WORD = re.compile(r"'([A-Z]{2,})'")


def spoken() -> set[tuple[str, str]]:
    """(command, option) of every call in every script; the option is empty for the command itself."""
    found: set[tuple[str, str]] = set()
    for script in FOLDER.iterdir():
        if script.name.endswith(".lua"):
            for call in CALLS.findall(script.read_text(encoding="utf-8")):
                command, *options = WORD.findall(call)
                found |= {(command, ""), *((command, option) for option in options)}
    return found


def flat(reply: list[Any] | dict[Any, Any]) -> dict[str, Any]:
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {key.decode(): value for key, value in pairs}


def since(text: bytes) -> tuple[int, ...]:
    return tuple(int(part) for part in text.decode().split("."))


def options(arguments: list[Any], known: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every token below these arguments, and since when it is understood."""
    for each in map(flat, arguments):
        own = since(each["since"]) if "since" in each else known
        if "token" in each:
            yield each["token"].decode().upper(), own
        yield from options(each.get("arguments", []), own)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as valkey:
        yield valkey


@pytest.fixture(scope="module")
def docs(server: EmbeddedValkey) -> dict[str, dict[str, Any]]:
    return told(server, sorted({command for command, _ in spoken()}))


def told(server: EmbeddedValkey, commands: list[str]) -> dict[str, dict[str, Any]]:
    """What the server says of commands, and of subcommands as `client|setname`."""
    client: Any = redis.Redis(port=server.port, password=server.password, socket_timeout=5)
    client.response_callbacks.pop("COMMAND", None)  # it reads only the replies of COMMAND itself
    reply = flat(client.execute_command("COMMAND", "DOCS", *commands))
    client.close()
    return {name.upper(): flat(found) for name, found in reply.items()}


def test_every_command_and_option_is_as_old_as_redis_7_0(docs: dict[str, dict[str, Any]]) -> None:
    said = spoken()
    assert len(said) > 25, "the scripts' calls are not found any more"
    for command, option in sorted(said):
        about = docs[command]
        known = since(about["since"])
        if option:
            known = min(age for token, age in options(about["arguments"], known) if token == option)
        assert known <= OLDEST, f"{command} {option} is known since {known}"


def test_every_right_of_a_tenants_user_is_of_a_command_as_old_as_redis_7_0(server: EmbeddedValkey) -> None:
    """A server refuses a whole line for one word that it does not know."""
    words = {word for rule in acl_user("acme", "secret").rules for word in re.findall(r"\+([a-z|]+)", rule)}
    assert {"evalsha", "client|setname", "xrange"} <= words
    known = told(server, sorted(words))
    assert {word for word in words if since(known[word.upper()]["since"]) > OLDEST} == set()


async def test_nothing_else_is_said_on_the_way(server: EmbeddedValkey) -> None:
    """Whatever the client's library likes to say of itself: a connection that has run a script has said no newer command."""
    client: Any = redis.Redis(port=server.port, password=server.password, socket_timeout=5)
    client.config_resetstat()
    queue = await RedisQueue.connect(server.url, password=server.password)
    await queue.ready_bands("teacher")
    await queue.close()
    said = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
    client.close()
    assert "evalsha" in said
    known = told(server, sorted(said))
    assert {name for name in said if since(known[name.upper()]["since"]) > OLDEST} == set()


def test_the_check_would_find_a_newer_option(docs: dict[str, dict[str, Any]]) -> None:
    ages = dict(options(docs["PEXPIRE"]["arguments"], (1, 0, 0)))
    assert ages["NX"] == OLDEST
    assert any(age > (6, 0, 0) for age in ages.values())


def test_scripts_are_where_they_are_looked_for() -> None:
    assert len(list(Path(str(FOLDER)).glob("*.lua"))) > 30
