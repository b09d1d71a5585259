"""The end of a cache whose disk no longer answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from preceptor_teacher.cache import tiers
from preceptor_teacher.cache.disk import DiskTier
from preceptor_teacher.cache.memory import MemoryTier
from preceptor_teacher.cache.secrets import TenantSecrets
from preceptor_teacher.cache.tiers import ScoreCache
from tests.unit.preceptor_teacher.cache.writer import MIB, key, value


async def test_a_disk_that_hangs_holds_up_the_end_for_its_deadline_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "CLOSE_S", 0.05)
    monkeypatch.setattr(tiers, "IDLE_S", 0.05)
    tier, begun, hangs = DiskTier.open(tmp_path, 16 * MIB), threading.Event(), threading.Event()

    def hang(self: DiskTier, entries: Mapping[bytes, bytes]) -> None:
        begun.set()
        hangs.wait(20)

    monkeypatch.setattr(DiskTier, "put_many", hang)
    cache = ScoreCache(MemoryTier(MIB), tier, TenantSecrets(b"s" * 32))
    cache.keep([(key(1), value(1))])
    await asyncio.to_thread(begun.wait, 20)
    try:
        await cache.close()
        assert not hangs.is_set()
        assert tier.get_many([key(1)]) == {}, "it is not closed under the thread that may still use it"
    finally:
        hangs.set()
        tier.close()
