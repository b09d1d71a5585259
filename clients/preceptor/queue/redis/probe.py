"""Whether a server can hold the queue: its version, what it does when memory ends, whether it is the primary."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from preceptor.errors import ConfigurationError
from preceptor.queue.redis.link import Link

OLDEST_REDIS = (7, 0)
POLICY = "noeviction"


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the server says of itself."""

    product: str  # redis or valkey
    version: tuple[int, ...]
    policy: str  # maxmemory-policy; empty where the server does not tell
    max_memory_bytes: int  # 0: no limit
    append_only: bool
    primary: bool

    @property
    def told(self) -> str:
        return f"{self.product} {'.'.join(map(str, self.version))}"

    def warnings(self) -> list[str]:
        """What an operator should know, though the queue works."""
        found: list[str] = []
        if self.policy not in {"", POLICY}:
            found.append(f"maxmemory-policy is {self.policy}: set it to {POLICY} before a maxmemory is set")
        if not self.append_only:
            found.append("appendonly is off: after a restart learners open all their tasks again")
        return found


async def probe(link: Link) -> ServerFacts:
    """The facts of a server that can hold the queue; `ConfigurationError` that says what to change on any other."""
    return check(facts_of(await link.insist(lambda _: _info(link.client))))


def facts_of(info: Mapping[str, Any]) -> ServerFacts:
    """Read off INFO, which also those may ask that may not ask for CONFIG."""
    valkey = str(info.get("valkey_version", ""))
    version = valkey or str(info.get("redis_version", ""))
    return ServerFacts(
        product="valkey" if valkey else "redis",
        version=tuple(int(part) for part in re.findall(r"\d+", version)[:3]),
        policy=str(info.get("maxmemory_policy", "")),
        max_memory_bytes=int(info.get("maxmemory", 0)),
        append_only=bool(int(info.get("aof_enabled", 0))),
        primary=info.get("role", "master") == "master",
    )


def check(facts: ServerFacts) -> ServerFacts:
    """The facts themselves, or a refusal."""
    if facts.product == "redis" and facts.version < OLDEST_REDIS:
        raise ConfigurationError(
            f"{facts.told} is too old for the queue", field="redis_url", value=facts.told, limit="Redis >= 7.0 or Valkey"
        )
    if facts.max_memory_bytes and facts.policy not in {"", POLICY}:
        raise ConfigurationError(
            f"this server throws keys away when memory ends (maxmemory-policy {facts.policy}): the queue would lose work",
            field="maxmemory-policy",
            value=facts.policy,
            limit=POLICY,
            hint=f"redis-cli CONFIG SET maxmemory-policy {POLICY}, and the same in its configuration file",
        )
    if not facts.primary:
        raise ConfigurationError(
            "this server is a replica and takes no writes", field="redis_url", value="replica", limit="the primary's address"
        )
    return facts


async def _info(client: Redis) -> dict[str, Any]:
    return await client.info()  # pyright: ignore[reportUnknownMemberType]
