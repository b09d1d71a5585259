"""Which servers can hold the queue."""

from __future__ import annotations

import pytest

from preceptor.errors import ConfigurationError
from preceptor.queue.redis.probe import check, facts_of

GOOD = {
    "redis_version": "7.2.4",
    "maxmemory_policy": "noeviction",
    "maxmemory": 1 << 30,
    "aof_enabled": 1,
    "role": "master",
}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({}, "redis 7.2.4"),
        ({"redis_version": "7.0.0"}, "redis 7.0.0"),
        ({"valkey_version": "9.1.2"}, "valkey 9.1.2"),
        ({"redis_version": "255.255.255"}, "redis 255.255.255"),
    ],
)
def test_redis_since_7_and_every_valkey_are_accepted(said: dict[str, object], told: str) -> None:
    facts = check(facts_of({**GOOD, **said}))
    assert (facts.told, facts.warnings()) == (told, [])


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"redis_version": "6.2.14"}, "redis_url"),
        ({"maxmemory_policy": "allkeys-lru"}, "maxmemory-policy"),
        ({"maxmemory_policy": "volatile-ttl"}, "maxmemory-policy"),
        ({"role": "slave"}, "redis_url"),
    ],
)
def test_servers_that_would_lose_work_are_refused_by_what_to_change(said: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check(facts_of({**GOOD, **said}))
    assert caught.value.field == field
    assert caught.value.limit


def test_a_policy_that_cannot_strike_yet_and_a_missing_file_are_warnings() -> None:
    facts = check(facts_of({**GOOD, "maxmemory": 0, "maxmemory_policy": "allkeys-lru", "aof_enabled": 0}))
    assert len(facts.warnings()) == 2


def test_a_server_that_hides_its_policy_is_taken_at_its_word() -> None:
    assert check(facts_of({"redis_version": "7.4.0"})).policy == ""
