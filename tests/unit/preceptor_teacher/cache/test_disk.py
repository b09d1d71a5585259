"""The tier on disk: bounds, restarts, kills, several processes, and whatever may have happened to its file."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preceptor.errors import ConfigurationError
from preceptor_teacher.cache.disk import DiskTier, sealed, unsealed
from preceptor_teacher.cache.eviction import footprint
from preceptor_teacher.cache.memory import MemoryTier
from preceptor_teacher.cache.secrets import TenantSecrets
from preceptor_teacher.cache.tiers import ScoreCache
from tests.unit.preceptor_teacher.cache.writer import MIB, key, value


def opened(folder: Path, disk_bytes: int = 16 * MIB):
    return closing(DiskTier.open(folder, disk_bytes))


def file_bytes(folder: Path) -> int:
    return (folder / "data.mdb").stat().st_size


def test_what_was_put_is_there_after_a_restart(tmp_path):
    with opened(tmp_path) as tier:
        tier.put_many({key(n): value(n) for n in range(20)})
        used_bytes = tier.used_bytes
    with opened(tmp_path) as tier:
        assert tier.get_many([key(n) for n in range(25)]) == {key(n): value(n) for n in range(20)}
        assert tier.used_bytes == used_bytes
        assert tier.counts.corrupt == 0


@settings(max_examples=12)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 400), st.sampled_from([10, 900, 3000, 9000, 70_000])), max_size=60), max_size=12),
    st.randoms(use_true_random=False),
)
def test_neither_the_file_nor_the_account_passes_its_bound_and_what_is_there_is_right(rounds, rng):
    disk_bytes = 2 * MIB
    with tempfile.TemporaryDirectory() as name, opened(Path(name), disk_bytes) as tier:
        for entries in rounds:
            tier.put_many({key(n + size): value(n + size, size) for n, size in entries})
            asked = [key(rng.randrange(500)) for _ in range(20)]
            for found, content in tier.get_many(asked).items():
                assert content == value(int.from_bytes(found, "big"), len(content))
            assert file_bytes(Path(name)) <= disk_bytes
            assert tier.used_bytes <= disk_bytes
        assert tier.trouble is None
        assert tier.counts.corrupt == 0


def test_under_a_long_stream_the_newest_stay_and_everything_is_accounted(tmp_path):
    disk_bytes = 2 * MIB
    with opened(tmp_path, disk_bytes) as tier:
        for n in range(0, 2000, 8):
            tier.put_many({key(m): value(m) for m in range(n, n + 8)})
            assert file_bytes(tmp_path) <= disk_bytes
        there = [n for n in range(2000) if tier.get_many([key(n)])]
        assert there == list(range(there[0], 2000))
        assert tier.counts.evictions == 2000 - len(there)
        assert tier.used_bytes == len(there) * footprint(5016)
        assert tier.used_bytes > disk_bytes / 2
        assert (tier.counts.dropped, tier.trouble) == (0, None)


def test_what_is_read_now_and_then_outlives_a_stream_of_others(tmp_path):
    with opened(tmp_path, 2 * MIB) as tier:
        tier.put_many({key(0): value(0)})
        for n in range(1, 1500, 8):
            assert tier.get_many([key(0)])
            tier.put_many({key(m): value(m) for m in range(n, n + 8)})
        assert not tier.get_many([key(1)])


def test_another_process_mark_counts_too(tmp_path):
    """The marks are in the file: a reader that never writes an entry of its own keeps what it reads."""
    with opened(tmp_path, 2 * MIB) as tier:
        tier.put_many({key(n): value(n) for n in range(100)})
        tier.get_many([key(0)])
        tier.put_many({key(99): value(99)})  # writes the marks, and nothing else
    with opened(tmp_path, 2 * MIB) as tier:
        tier.put_many({key(n): value(n) for n in range(100, 230)})
        assert key(0) in tier.get_many([key(0)])
        assert not tier.get_many([key(1)])


def test_an_entry_larger_than_its_share_is_left_out_and_counted(tmp_path):
    with opened(tmp_path, 2 * MIB) as tier:
        tier.put_many({key(0): bytes(MIB), key(1): value(1)})
        assert tier.get_many([key(0), key(1)]) == {key(1): value(1)}
        assert tier.counts.dropped == 1


def test_a_file_that_is_full_before_its_account_is_makes_more_room(tmp_path, monkeypatch):
    """The reserve for copies and fragments may be too small one day: then more entries leave, and what is given up is counted."""
    monkeypatch.setattr("preceptor_teacher.cache.disk.USED_SHARE", 1.0)
    rng = random.Random(5)
    with opened(tmp_path, 2 * MIB) as tier:
        for n in range(0, 1200, 8):
            given_up = tier.counts.dropped + tier.counts.evictions
            tier.put_many({key(m): value(m, rng.choice([900, 5000, 20_000])) for m in range(n, n + 8)})
            missing = 8 - len(tier.get_many([key(m) for m in range(n, n + 8)]))
            assert missing <= tier.counts.dropped + tier.counts.evictions - given_up
            assert file_bytes(tmp_path) <= 2 * MIB
        assert tier.counts.dropped < 120
        assert tier.used_bytes > MIB / 2


# ---- damage


@given(st.binary(min_size=1, max_size=60), st.data())
def test_a_sealed_value_opens_under_its_key_alone_and_whole(content, data):
    stored = sealed(key(1), content)
    assert unsealed(key(1), stored) == content
    assert unsealed(key(2), stored) is None
    at = data.draw(st.integers(0, len(stored) - 1))
    flipped = bytearray(stored)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    assert unsealed(key(1), bytes(flipped)) is None
    assert unsealed(key(1), stored[:at]) is None


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_damaged_entry_is_a_miss_that_is_counted_and_the_next_result_mends_it(tmp_path, damage):
    with opened(tmp_path) as tier:
        tier.put_many({key(n): value(n) for n in range(3)})
    stored = sealed(key(1), value(1))
    broken = {"flipped": stored[:-1] + bytes([stored[-1] ^ 1]), "cut": stored[:100], "empty": b""}[damage]
    with lmdb.open(str(tmp_path), max_dbs=8, map_size=16 * MIB) as env, env.begin(write=True) as txn:
        txn.put(key(1), broken, db=env.open_db(b"entries", txn))
    with opened(tmp_path) as tier:
        assert tier.get_many([key(0), key(1), key(2)]) == {key(0): value(0), key(2): value(2)}
        assert (tier.counts.corrupt, tier.trouble) == (1, None)
        tier.put_many({key(1): value(1)})
        assert tier.get_many([key(1)]) == {key(1): value(1)}


@pytest.mark.parametrize("size", [0, 100, 5000, 20_000, 100_000])
def test_a_file_that_was_cut_off_is_begun_anew_and_counted(tmp_path, size):
    with opened(tmp_path) as tier:
        tier.put_many({key(n): value(n) for n in range(50)})
    os.truncate(tmp_path / "data.mdb", size)
    with opened(tmp_path) as tier:
        assert tier.get_many([key(n) for n in range(50)]) == {}
        assert tier.counts.corrupt == (size > 0)  # an empty file is a new one
        tier.put_many({key(1): value(1)})
    with opened(tmp_path) as tier:
        assert tier.get_many([key(1)]) == {key(1): value(1)}


def test_a_file_of_something_else_is_begun_anew(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"not ours " * 5000)
    with opened(tmp_path) as tier:
        assert tier.counts.corrupt == 1
        tier.put_many({key(1): value(1)})
        assert tier.get_many([key(1)]) == {key(1): value(1)}


def test_a_bound_below_what_is_there_is_refused_by_name(tmp_path):
    with opened(tmp_path) as tier:
        tier.put_many({key(n): value(n) for n in range(400)})
    with pytest.raises(ConfigurationError) as refused:
        DiskTier.open(tmp_path, MIB)
    assert (refused.value.field, refused.value.limit) == ("score_cache_disk_bytes", f">= {file_bytes(tmp_path)}")
    with opened(tmp_path) as tier:
        assert tier.get_many([key(7)])


def test_a_folder_that_this_process_uses_already_is_refused_by_name(tmp_path):
    with opened(tmp_path), pytest.raises(ConfigurationError) as refused:
        DiskTier.open(tmp_path, 16 * MIB)
    assert refused.value.field == "score_cache_folder"


def test_a_disk_that_fails_is_a_miss_and_is_told(tmp_path):
    tier = DiskTier.open(tmp_path, 16 * MIB)
    tier.put_many({key(1): value(1)})
    tier.close()
    assert tier.get_many([key(1)]) == {}
    tier.put_many({key(2): value(2)})
    assert tier.counts.dropped == 1
    assert "disk" in tier.trouble


def test_a_disk_that_takes_nothing_is_told_although_it_can_be_read(tmp_path, monkeypatch):
    with opened(tmp_path) as tier:
        tier.put_many({key(1): value(1)})

        def fails(*_):
            raise OSError("read-only file system")

        monkeypatch.setattr(tier, "_put", fails)
        tier.put_many({key(2): value(2)})
        assert tier.get_many([key(1)])
        assert "writing: read-only" in tier.trouble
        monkeypatch.undo()
        tier.put_many({key(2): value(2)})
        assert tier.trouble is None


async def test_what_is_being_written_counts_as_unwritten(tmp_path, monkeypatch):
    monkeypatch.setattr("preceptor_teacher.cache.tiers.MAX_UNWRITTEN_BYTES", 100)
    began, go = asyncio.Event(), threading.Event()
    tier, loop = DiskTier.open(tmp_path, 16 * MIB), asyncio.get_running_loop()

    def put_many(entries):
        loop.call_soon_threadsafe(began.set)
        assert go.wait(20)

    monkeypatch.setattr(tier, "put_many", put_many)
    cache = ScoreCache(MemoryTier(0), tier, TenantSecrets(b"s" * 32))
    cache.keep([(key(1), b"x" * 60)])
    await began.wait()
    cache.keep([(key(2), b"x" * 60)])
    assert cache.dropped == 1
    go.set()
    await cache.flush()
    cache.keep([(key(3), b"x" * 60)])
    assert cache.dropped == 1
    await cache.close()


# ---- processes


def writer(folder: Path, first: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.unit.preceptor_teacher.cache.writer", str(folder), str(first), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_kills_in_the_middle_of_writes_lose_nothing_that_was_written_and_break_nothing(tmp_path):
    """Killed after a random number of commits, while the next ones are under way: two lives on one file."""
    rng = random.Random(3)
    for life in range(2):
        first = 10_000 * life
        process = writer(tmp_path, first, 4000)
        assert process.stdout is not None
        for _ in range(rng.randrange(3, 40)):
            line = process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
        process.stdout.close()
        last = int(line)
        with opened(tmp_path, 4 * MIB) as tier:
            newest = [key(n) for n in range(last, last + 4)]
            assert tier.get_many(newest) == {one: value(int.from_bytes(one, "big")) for one in newest}
            assert (tier.counts.corrupt, tier.trouble) == (0, None)
            assert file_bytes(tmp_path) <= 4 * MIB


def test_several_processes_share_one_file(tmp_path):
    processes = [writer(tmp_path, 1000 * n, 100) for n in range(2)]
    assert [process.communicate(timeout=60)[0].splitlines()[-1] for process in processes] == ["96", "1096"]
    with opened(tmp_path, 4 * MIB) as tier:
        asked = [key(1000 * n + m) for n in range(2) for m in range(100)]
        assert tier.get_many(asked) == {one: value(int.from_bytes(one, "big")) for one in asked}
        assert tier.used_bytes == 200 * footprint(5016)
