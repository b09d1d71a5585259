"""What the doctor says about a real server and about torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from preceptor.cli import checks
from preceptor.config import load_all
from preceptor.local.valkey import SECRET, EmbeddedValkey, ValkeySettings


@pytest.mark.parametrize(("policy", "status"), [("noeviction", "ok"), ("allkeys-lru", "fail")])
def test_a_server_that_forgets_when_it_is_full_is_a_failure(tmp_path: Path, policy, status):
    with EmbeddedValkey(tmp_path, ValkeySettings(more=(f"maxmemory-policy {policy}",))) as server:
        environ = {"PRECEPTOR_REDIS_URL": server.url, "PRECEPTOR_REDIS_PASSWORD_FILE": str(tmp_path / SECRET)}
        found = {one.check: one for one in checks.check_redis(load_all(file=None, environ=environ))}
    assert found["redis"].status == "ok"
    assert (found["redis policy"].status, policy in found["redis policy"].detail) == (status, True)
    assert bool(found["redis policy"].hint) == (status == "fail")


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ({"torch": "2.13.0+cpu"}, "a CPU build"),
        ({"torch": "2.13.0", "nvidia-cublas": "13.1"}, "a CUDA build"),
        ({"torch": "2.13.0"}, "no CUDA libraries"),
        ({}, ""),
    ],
)
def test_the_build_of_torch_is_named(monkeypatch, versions, said):
    monkeypatch.setattr(checks, "installed_version", versions.get)
    details = [one.detail for one in checks.check_torch({})]
    assert len(details) == bool(said)
    assert all(said in detail for detail in details)
