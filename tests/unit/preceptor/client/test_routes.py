"""Which of several addresses a call goes to."""

from __future__ import annotations

from typing import Any

import pytest

from preceptor.client.routes import Routes, addresses_in
from preceptor.errors import ConfigurationError, Conflict, NotFound, PermissionDenied, Unavailable

NAMES = {"a:1": ["large", "default"], "b:1": ["math"]}


class Services:
    """Answers for addresses; counts how often each was asked."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names
        self.asked: list[tuple[str, float]] = []

    async def names_at(self, address: str, deadline_s: float) -> list[str]:
        self.asked.append((address, deadline_s))
        answer = self.names[address]
        if isinstance(answer, Exception):
            raise answer
        return answer


def routes(**names: Any) -> tuple[Routes, Services]:
    services = Services({key.replace("_", ":"): value for key, value in names.items()})
    return Routes([*services.names], services.names_at), services


async def test_names_and_aliases_lead_to_their_service_and_each_is_asked_once():
    found, services = routes(a_1=["large", "default"], b_1=["math"])
    assert [await found.address_of(name, 60) for name in ("default", "math", "large", "math")] == ["a:1", "b:1", "a:1", "b:1"]
    assert [address for address, _ in services.asked] == ["a:1", "b:1"]
    assert max(deadline_s for _, deadline_s in services.asked) <= 5


async def test_one_service_is_not_asked_for_its_names():
    found, services = routes(a_1=Unavailable("down"))
    assert await found.address_of("whatever", 60) == "a:1"
    assert not services.asked


async def test_a_silent_service_holds_up_only_those_whose_teacher_is_there():
    found, services = routes(a_1=["large"], b_1=Unavailable("down", retry_after_s=3.0))
    assert await found.address_of("large", 60) == "a:1"
    with pytest.raises(Unavailable, match=r"b:1 did not answer") as refused:
        await found.address_of("math", 60)
    assert refused.value.retryable
    services.names["b:1"] = ["math"]
    assert await found.address_of("math", 60) == "b:1"


async def test_a_service_that_refuses_the_key_says_so_instead_of_seeming_away():
    found, _ = routes(a_1=["large"], b_1=PermissionDenied("no scope"))
    with pytest.raises(PermissionDenied):
        await found.address_of("math", 60)


async def test_a_name_of_nobody_is_not_found_with_the_nearest():
    found, _ = routes(a_1=["large"], b_1=["math"])
    with pytest.raises(NotFound) as refused:
        await found.address_of("mth", 60)
    assert "math" in refused.value.hint


async def test_one_name_at_two_addresses_is_refused():
    found, _ = routes(a_1=["large", "default"], b_1=["math", "default"])
    with pytest.raises(Conflict, match="default is at a:1 and at b:1"):
        await found.address_of("math", 60)


def test_a_list_of_addresses_is_read_as_it_is_meant():
    assert addresses_in("dns:///a:1, b:2") == ["dns:///a:1", "b:2"]
    for wrong in ("a:1,", "", "a:1,a:1"):
        with pytest.raises(ConfigurationError):
            addresses_in(wrong)
