"""Coroutines share fsyncs, keep their order, and hear about failures one by one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from preceptor.errors import Exhausted, InvalidArgument
from preceptor.journal import Disk, Entry, GroupCommit, Journal
from tests.unit.preceptor.journal.disks import FullDisk


class SyncCounter(Disk):
    def __init__(self) -> None:
        self.syncs = 0

    def sync(self, descriptor: int) -> None:
        self.syncs += 1


async def test_many_appends_share_few_fsyncs_and_keep_their_order(tmp_path: Path) -> None:
    disk = SyncCounter()
    with Journal(tmp_path, "run", disk=disk) as journal:
        group = GroupCommit(journal)
        before = disk.syncs
        numbers = await asyncio.gather(*(group.append(Entry(1, b"%d" % n), Entry(2, b"%d" % n)) for n in range(50)))
        assert numbers == list(range(2, 101, 2))
        assert disk.syncs - before < 10
        assert [r.payload for r in journal.records()] == [b"%d" % (n // 2) for n in range(100)]


async def test_a_caller_that_gives_up_does_not_stop_the_others(tmp_path: Path) -> None:
    with Journal(tmp_path, "run") as journal:
        group = GroupCommit(journal)
        gone = asyncio.create_task(group.append(Entry(1, b"gone")))
        await asyncio.sleep(0)
        gone.cancel()
        assert await group.append(Entry(1, b"there")) == 2
        await group.drain()
        assert [r.payload for r in journal.records()] == [b"gone", b"there"]


async def test_an_entry_that_cannot_be_written_fails_its_own_caller_only(tmp_path: Path) -> None:
    with Journal(tmp_path, "run") as journal:
        group = GroupCommit(journal)
        good, bad = await asyncio.gather(group.append(Entry(1, b"")), group.append(Entry(0, b"")), return_exceptions=True)
        assert good == 1
        assert isinstance(bad, InvalidArgument)


async def test_everyone_in_a_group_that_meets_a_full_disk_is_told_and_the_next_group_is_tried(tmp_path: Path) -> None:
    disk = FullDisk()
    with Journal(tmp_path, "run", disk=disk) as journal:
        group = GroupCommit(journal)
        disk.room_bytes = 10
        failures = await asyncio.gather(*(group.append(Entry(1, b"x")) for _ in range(3)), return_exceptions=True)
        assert [type(failure) for failure in failures] == [Exhausted] * 3
        disk.room_bytes = None
        assert await group.append(Entry(1, b"y")) == 1


async def test_compaction_answers_the_appends_whose_effect_its_state_holds(tmp_path: Path) -> None:
    with Journal(tmp_path, "run") as journal:
        group = GroupCommit(journal)
        told: list[bytes] = []

        async def tell(word: bytes) -> None:
            told.append(word)
            await group.append(Entry(1, word))

        writers = [asyncio.create_task(tell(b"%d" % n)) for n in range(20)]
        compaction = asyncio.create_task(group.compact(lambda: [Entry(1, word) for word in told]))
        writers += [asyncio.create_task(tell(b"late %d" % n)) for n in range(20)]
        await asyncio.gather(compaction, *writers)
        assert [r.payload for r in journal.records()] == told
