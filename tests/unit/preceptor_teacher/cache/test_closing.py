"""The end of a cache, and of its process, where the disk no longer answers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from preceptor_teacher.cache import tiers
from preceptor_teacher.cache.disk import DiskTier
from preceptor_teacher.cache.memory import MemoryTier
from preceptor_teacher.cache.secrets import TenantSecrets
from preceptor_teacher.cache.threads import DiskThread
from preceptor_teacher.cache.tiers import ScoreCache
from tests.unit.preceptor_teacher.cache.writer import MIB, key, value

HANGING = """
import asyncio, sys, threading
from pathlib import Path
from preceptor_teacher.cache import tiers
from preceptor_teacher.cache.disk import DiskTier
from preceptor_teacher.cache.memory import MemoryTier
from preceptor_teacher.cache.secrets import TenantSecrets

tiers.CLOSE_S = tiers.IDLE_S = 0.05
begun = threading.Event()
DiskTier.put_many = lambda self, entries: begun.set() or threading.Event().wait()

async def main():
    cache = tiers.ScoreCache(MemoryTier(1 << 20), DiskTier.open(Path(sys.argv[1]), 16 << 20), TenantSecrets(b"s" * 32))
    cache.keep([(b"k" * 32, b"v")])
    await asyncio.to_thread(begun.wait)
    await cache.close()

asyncio.run(main())
"""


def test_a_process_ends_though_its_disk_hangs(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", HANGING, str(tmp_path)], capture_output=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr.count(b"Traceback")) == (0, 0), ended.stderr.decode()


async def test_what_a_thread_has_not_begun_is_given_up_at_its_end() -> None:
    thread, begun, gate = DiskThread("t"), threading.Event(), threading.Event()
    first = asyncio.ensure_future(thread.run(lambda: begun.set() or gate.wait(20)))
    await asyncio.to_thread(begun.wait, 20)
    second = asyncio.ensure_future(thread.run(lambda: "never"))
    await asyncio.sleep(0)
    thread.end()
    gate.set()
    assert await first is True
    with pytest.raises(asyncio.CancelledError):
        await second


async def test_what_a_thread_does_may_fail() -> None:
    thread = DiskThread("t")
    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda: 1 // 0)
    assert await thread.run(divmod, 7, 2) == (3, 1), "it goes on"
    thread.end()


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
