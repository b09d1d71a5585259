"""A Redis server of a module's own, and a plain client that starts every test with an empty one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from preceptor.local.valkey import EmbeddedValkey


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as valkey:
        yield valkey


@pytest.fixture
def client(server: EmbeddedValkey) -> Iterator[Any]:
    with redis.Redis(port=server.port, password=server.password, socket_timeout=10) as found:
        found.flushall()
        yield found
