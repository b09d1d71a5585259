"""What was acknowledged is there, half a record never is, and damage has a name."""

from __future__ import annotations

import errno
import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preceptor.errors import Conflict, Corrupt, Exhausted, InvalidArgument, Unavailable
from preceptor.journal import COMPACTION_POINTS, Entry, Journal
from preceptor.journal.frame import OVERHEAD_BYTES
from preceptor.journal.segment import HEADER_BYTES
from tests.unit.preceptor.journal.disks import CountingDisk, Crash, FullDisk, QuickDisk, StoppingDisk

ENTRIES = st.lists(st.builds(Entry, st.integers(1, 255), st.binary(max_size=24)), min_size=1, max_size=5)


def contents(folder: Path, name: str = "run") -> list[Entry]:
    with Journal(folder, name, disk=QuickDisk()) as journal:
        return held(journal)


def held(journal: Journal, after: int = 0) -> list[Entry]:
    return [Entry(record.kind, record.payload) for record in journal.records(after)]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in {".segment", ".base"})


def fill(folder: Path, entries: list[Entry], **options: int) -> list[int]:
    """Write one by one; the length of the last file after each."""
    with Journal(folder, "run", disk=QuickDisk(), **options) as journal:
        lengths = [files(folder)[-1].stat().st_size]
        for entry in entries:
            journal.append(entry)
            lengths.append(files(folder)[-1].stat().st_size)
    return lengths


def test_numbers_rise_by_one_over_groups_restarts_and_files(tmp_path: Path) -> None:
    with Journal(tmp_path, "run", segment_bytes=200) as journal:
        assert journal.append(Entry(1, b"a")) == 1
        assert journal.append(Entry(2, b"b"), Entry(3, b"c" * 90)) == 3
        assert journal.append(Entry(4, b"d" * 90)) == 4
    with Journal(tmp_path, "run", segment_bytes=200) as journal:
        assert journal.append(Entry(5, b"")) == 5
        assert [(r.sequence, r.kind) for r in journal.records()] == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]
        assert [r.sequence for r in journal.records(after=3)] == [4, 5]
        assert journal.torn_tail is None
    assert len(files(tmp_path)) > 1


def test_a_record_larger_than_a_segment_is_kept(tmp_path: Path) -> None:
    fill(tmp_path, [Entry(1, b"x" * 5_000), Entry(1, b"y")], segment_bytes=100)
    assert [len(entry.payload) for entry in contents(tmp_path)] == [5_000, 1]


@pytest.mark.parametrize("kind", [0, 256])
def test_kinds_are_one_byte(tmp_path: Path, kind: int) -> None:
    with Journal(tmp_path, "run") as journal, pytest.raises(InvalidArgument):
        journal.append(Entry(kind, b""))


@settings(max_examples=8, deadline=None)
@given(entries=ENTRIES)
def test_a_cut_at_every_byte_keeps_exactly_the_whole_records(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry]
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    lengths = fill(folder, entries)
    (file,) = files(folder)
    whole = file.read_bytes()
    for cut in range(len(whole)):
        file.write_bytes(whole[:cut])
        with Journal(folder, "run", disk=QuickDisk()) as journal:
            kept = sum(length <= cut for length in lengths[1:])
            assert held(journal) == entries[:kept]
            torn_at = lengths[kept] if cut >= HEADER_BYTES else 0
            assert (journal.torn_tail is None) == (cut == torn_at and cut >= HEADER_BYTES)
            if journal.torn_tail:
                assert (journal.torn_tail.offset, journal.torn_tail.cut_bytes) == (torn_at, cut - torn_at)
            assert journal.append(Entry(9, b"after")) == kept + 1
        assert contents(folder) == [*entries[:kept], Entry(9, b"after")]


@settings(max_examples=6, deadline=None)
@given(entries=ENTRIES, zeros=st.integers(1, 100))
def test_space_that_was_allocated_and_never_written_is_a_torn_tail(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry], zeros: int
) -> None:
    folder = tmp_path_factory.mktemp("zeros")
    lengths = fill(folder, entries)
    (file,) = files(folder)
    whole = file.read_bytes()
    for cut in range(lengths[-2], lengths[-1]):
        file.write_bytes(whole[:cut] + bytes(len(whole) - cut + zeros))
        assert contents(folder) == entries[:-1]


@settings(max_examples=6, deadline=None)
@given(entries=ENTRIES, bit=st.integers(0, 7))
def test_every_flipped_bit_is_named_with_file_and_offset(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry], bit: int
) -> None:
    folder = tmp_path_factory.mktemp("flip")
    lengths = fill(folder, entries)
    (file,) = files(folder)
    whole = file.read_bytes()
    for index in range(len(whole)):
        damaged = bytearray(whole)
        damaged[index] ^= 1 << bit
        file.write_bytes(damaged)
        with pytest.raises(Corrupt) as caught:
            contents(folder)
        start = max([0, *(length for length in lengths if length <= index)]) if index >= HEADER_BYTES else 0
        assert caught.value.value == f"{file.name}:{start}"
        assert str(file) in caught.value.message
    file.write_bytes(whole)
    assert contents(folder) == entries


def test_damage_in_an_older_file_is_found_by_reading(tmp_path: Path) -> None:
    fill(tmp_path, [Entry(1, bytes([n]) * 60) for n in range(6)], segment_bytes=150)
    first, second = files(tmp_path)[:2]
    good = first.read_bytes()
    for damaged in (good[:-1], good[: -OVERHEAD_BYTES - 60], good[:-40] + b"!" + good[-39:]):
        first.write_bytes(damaged)
        with Journal(tmp_path, "run") as journal, pytest.raises(Corrupt, match=first.name):
            list(journal.records())
    first.write_bytes(good)
    second.unlink()
    with Journal(tmp_path, "run") as journal, pytest.raises(Corrupt, match=first.name):
        list(journal.records())


def test_the_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, [Entry(1, b"a")])
    with pytest.raises(Conflict, match="another run"):
        Journal(tmp_path, "other")
    assert contents(tmp_path) == [Entry(1, b"a")]


# ---------------------------------------------------------------- one writer


def test_the_second_writer_is_told_the_pid_of_the_first(tmp_path: Path) -> None:
    with Journal(tmp_path, "run"), pytest.raises(Conflict) as caught:
        Journal(tmp_path, "run")
    assert caught.value.limit == f"pid {os.getpid()}"
    Journal(tmp_path, "run").close()


WRITER = """
import sys
from pathlib import Path
from preceptor.journal import Entry, Journal
journal = Journal(Path(sys.argv[1]), "run", segment_bytes=4096)
while True:
    number = journal.append(Entry(1, b"%d" % journal.next_sequence * 50))
    print(number, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 7, 60])
def test_kill_9_loses_nothing_that_was_acknowledged_and_frees_the_lock(tmp_path: Path, acknowledged: int) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    for _ in range(acknowledged):
        last = int(writer.stdout.readline())
    with pytest.raises(Conflict) as caught:
        Journal(tmp_path, "run")
    assert caught.value.limit == f"pid {writer.pid}"
    writer.send_signal(signal.SIGKILL)
    rest = writer.stdout.read().split()
    writer.wait(timeout=30)
    writer.stdout.close()
    last = max([last, *map(int, rest[:-1])])
    found = contents(tmp_path)
    assert len(found) >= last
    assert found == [Entry(1, b"%d" % number * 50) for number in range(1, len(found) + 1)]


# ---------------------------------------------------------------- full and failing disks


@pytest.mark.parametrize("room", [0, 1, 24, 60, 95])
def test_a_full_disk_refuses_whole_records_and_takes_them_again_later(tmp_path: Path, room: int) -> None:
    disk = FullDisk()
    with Journal(tmp_path, "run", disk=disk) as journal:
        journal.append(Entry(1, b"kept"))
        disk.room_bytes = room
        with pytest.raises(Exhausted, match="no space") as caught:
            journal.append(Entry(2, b"x" * 30), Entry(3, b"y" * 30))
        assert "free space" in caught.value.hint
        assert held(journal) == [Entry(1, b"kept")]
        disk.room_bytes = None
        assert journal.append(Entry(4, b"later")) == 2
    assert contents(tmp_path) == [Entry(1, b"kept"), Entry(4, b"later")]


@pytest.mark.parametrize("room", [0, 30, 51, 80])
def test_a_full_disk_while_a_new_file_is_started_leaves_no_trace(tmp_path: Path, room: int) -> None:
    disk = FullDisk()
    with Journal(tmp_path, "run", segment_bytes=120, disk=disk) as journal:
        journal.append(Entry(1, b"a" * 40))
        disk.room_bytes = room
        with pytest.raises(Exhausted):
            journal.append(Entry(2, b"b" * 40))
        disk.room_bytes = None
        journal.append(Entry(3, b"c"))
        journal.append(Entry(4, b"d" * 40))
        disk.room_bytes = room
        with pytest.raises(Exhausted):
            journal.compact([Entry(5, b"e" * 60)])
        disk.room_bytes = None
        assert [entry.kind for entry in held(journal)] == [1, 3, 4]
    assert [entry.kind for entry in contents(tmp_path)] == [1, 3, 4]


def test_the_kernels_own_limit_on_file_size_is_a_full_disk(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(tmp_path, "run") as journal:
        journal.append(Entry(1, b"kept"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
        try:
            with pytest.raises(Exhausted):
                journal.append(Entry(1, b"x" * (2 << 20)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert journal.append(Entry(2, b"more")) == 2
    assert contents(tmp_path) == [Entry(1, b"kept"), Entry(2, b"more")]


def test_after_a_failed_fsync_nothing_is_written_until_it_is_opened_again(tmp_path: Path) -> None:
    disk = FullDisk()
    with Journal(tmp_path, "run", disk=disk) as journal:
        journal.append(Entry(1, b"kept"))
        disk.sync_error = errno.EIO
        with pytest.raises(Unavailable):
            journal.append(Entry(2, b"lost"))
        disk.sync_error = None
        with pytest.raises(Unavailable, match="fsync failed"):
            journal.append(Entry(3, b"refused"))
        assert held(journal) == [Entry(1, b"kept")]
    assert contents(tmp_path) == [Entry(1, b"kept")]


# ---------------------------------------------------------------- compaction


def test_compaction_keeps_the_state_and_the_numbers_go_on(tmp_path: Path) -> None:
    with Journal(tmp_path, "run", segment_bytes=100) as journal:
        for number in range(9):
            journal.append(Entry(1, b"%d" % number * 30))
        before = journal.stored_bytes
        journal.compact([Entry(7, b"state")])
        assert journal.stored_bytes < before
        assert len(files(tmp_path)) == 1
        journal.compact([Entry(7, b"state"), Entry(8, b"more")])
        journal.append(Entry(1, b"after" * 20))
        assert [(r.sequence, r.kind) for r in journal.records()] == [(11, 7), (12, 8), (13, 1)]
    with Journal(tmp_path, "run", segment_bytes=100) as journal:
        assert journal.append(Entry(2, b"")) == 14
        journal.compact([])
        journal.compact([])
        assert held(journal) == []
        assert journal.append(Entry(3, b"")) == 15
    assert contents(tmp_path) == [Entry(3, b"")]


OLD = [Entry(1, b"%d" % number * 30) for number in range(5)]
STATE = [Entry(7, b"state"), Entry(8, b"more state")]


@pytest.mark.parametrize("point", COMPACTION_POINTS)
def test_a_compaction_that_stops_at_a_named_point_leaves_all_or_the_state(tmp_path: Path, point: str) -> None:
    disk = StoppingDisk(point)
    journal = Journal(tmp_path, "run", segment_bytes=10_000, disk=disk)
    journal.append(*OLD)
    disk.armed = True
    with pytest.raises(Crash):
        journal.compact(STATE)
    journal.close()
    expected = OLD if point in {"file written", "file durable"} else STATE
    assert contents(tmp_path) == expected
    assert len(list(tmp_path.iterdir())) == 2  # one file and the lock: nothing is left behind


def test_a_crash_before_any_step_of_any_operation_leaves_a_state_between(tmp_path: Path) -> None:
    def work(disk: CountingDisk, folder: Path) -> list[list[Entry]]:
        """Append, rotate and compact; what was acknowledged, newest last."""
        done: list[list[Entry]] = [[]]
        journal = None
        try:
            journal = Journal(folder, "run", segment_bytes=150, disk=disk)
            for entry in OLD:
                done.append([*done[-1], entry])
                journal.append(entry)
            done.append(STATE)
            journal.compact(STATE)
            done.append([*STATE, OLD[0]])
            journal.append(OLD[0])
            done.append(done[-1])
        except Crash:
            disk.die_at = None
            disk.dead = False
        finally:
            if journal is not None:
                journal.close()
        return done[-2:]

    counting = CountingDisk()
    work(counting, tmp_path / "whole")
    assert counting.steps > 20
    for die_at in range(counting.steps):
        folder = tmp_path / str(die_at)
        before_and_after = work(CountingDisk(die_at), folder)
        assert contents(folder) in before_and_after, die_at
        shutil.rmtree(folder)


def test_a_state_that_was_cut_is_never_taken_for_a_smaller_one(tmp_path: Path) -> None:
    with Journal(tmp_path, "run") as journal:
        journal.compact(STATE)
        state_bytes = journal.stored_bytes
        journal.append(OLD[0])
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    for cut in range(len(whole)):
        file.write_bytes(whole[:cut])
        if cut < state_bytes:
            with pytest.raises(Corrupt, match=file.name):
                contents(tmp_path)
        else:
            assert contents(tmp_path) == STATE


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(st.one_of(ENTRIES, st.none(), st.just("reopen")), max_size=12),
    segment_bytes=st.sampled_from([60, 200, 1 << 20]),
)
def test_any_mix_of_appends_compactions_and_restarts_keeps_what_a_list_would(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[Entry] | str | None], segment_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("mix")
    model: list[Entry] = []
    journal = Journal(folder, "run", segment_bytes=segment_bytes, disk=QuickDisk())
    for step in steps:
        if step is None:
            model = model[1::2]
            journal.compact(model)
        elif step == "reopen":
            journal.close()
            journal = Journal(folder, "run", segment_bytes=segment_bytes, disk=QuickDisk())
        else:
            model = [*model, *step]
            journal.append(*step)
        assert held(journal) == model
        numbers = [record.sequence for record in journal.records()]
        assert all(b == a + 1 for a, b in itertools.pairwise(numbers))
        middle = numbers[len(numbers) // 2] if numbers else 0
        assert held(journal, after=middle) == model[len(numbers) // 2 + 1 :]
    journal.close()
