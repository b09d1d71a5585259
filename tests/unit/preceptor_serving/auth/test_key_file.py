"""The key file: written and read back, reloaded on change, never trusted further than it parses."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from preceptor.errors import ConfigurationError, Unauthenticated
from preceptor_serving.auth.gate import OpenGate, gate_for
from preceptor_serving.auth.identity import LOCAL, Scope
from preceptor_serving.auth.key_file import CHECK_EVERY_S, KeyFile, read_key_file, write_key_file
from preceptor_serving.auth.keys import mint_key


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def test_what_is_written_is_read_back_and_holds_no_secret(path: Path) -> None:
    key, record = mint_key("acme", frozenset({Scope.SCORE, Scope.METRICS}), job="run-7", expires=datetime(2030, 1, 1, tzinfo=UTC))
    write_key_file(path, [record])
    assert read_key_file(path) == {record.id: record}
    assert key.rpartition("_")[2] not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


def test_json_is_read_too_and_an_expiry_without_a_zone_is_utc(path: Path) -> None:
    _, record = mint_key("acme", frozenset({Scope.SCORE}))
    entry = {"id": record.id, "sha256": record.sha256, "tenant": "acme", "scopes": ["score"], "expires": "2030-01-01T00:00:00"}
    path.write_text(json.dumps({"keys": [entry]}))
    assert read_key_file(path)[record.id].expires == datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("keys: [", "line 1"),
        ("keys: {}", "keys"),
        ("keyz: []", "keyz"),
        ("- 1", "dictionary"),
        ("keys: [{id: abcdefgh, sha256: short, tenant: a, scopes: [score]}]", "sha256"),
        (f"keys: [{{id: abcdefgh, sha256: {'ab' * 32}, tenant: a, scopes: [fly]}}]", "scopes"),
        (f"keys: [{{id: abcdefgh, sha256: {'ab' * 32}, tenant: a, scopes: [score], key: pk_canary_secret}}]", "key"),
    ],
)
def test_a_broken_file_is_refused_by_place_and_no_value_of_it_is_told(path: Path, text: str, says: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_key_file(path)
    assert says in caught.value.message
    assert "canary" not in str(caught.value) + caught.value.value


def test_two_keys_with_one_id_are_refused(path: Path) -> None:
    _, record = mint_key("acme", frozenset({Scope.SCORE}))
    write_key_file(path, [record, record])
    with pytest.raises(ConfigurationError, match="share an id"):
        read_key_file(path)


def test_a_changed_file_is_read_again_and_a_broken_one_leaves_the_last_good_keys(path: Path) -> None:
    clock = Clock()
    (_, first), (_, second) = mint_key("a", frozenset({Scope.SCORE})), mint_key("b", frozenset({Scope.SCORE}))
    write_key_file(path, [first])
    keys = KeyFile(path, clock)
    write_key_file(path, [second])
    assert keys.records().keys() == {first.id}  # looked at once a second at most
    clock.now += CHECK_EVERY_S
    assert keys.records().keys() == {second.id}

    path.write_text("keys: [")
    clock.now += CHECK_EVERY_S
    assert keys.records().keys() == {second.id}
    assert "line 1" in keys.trouble
    os.remove(path)
    clock.now += CHECK_EVERY_S
    assert keys.records().keys() == {second.id}
    write_key_file(path, [first])
    clock.now += CHECK_EVERY_S
    assert (keys.records().keys(), keys.trouble) == ({first.id}, None)


def test_without_keys_only_loopback_is_served(path: Path) -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        gate = gate_for(host, None)
        assert isinstance(gate, OpenGate)
        assert gate.identify(None) is LOCAL
    for host in ("0.0.0.0", "10.0.0.1", "example.org"):
        with pytest.raises(ConfigurationError) as caught:
            gate_for(host, None)
        assert caught.value.field == "host"
    write_key_file(path, [])
    with pytest.raises(Unauthenticated, match="no key"):
        gate_for("0.0.0.0", path).identify(None)
