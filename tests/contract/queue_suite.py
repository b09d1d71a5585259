"""What every queue must do. A module that defines the fixtures `open_queue` and `lose_key` and subclasses these runs them.

class TestLogs(LogRules): ...
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from preceptor.errors import Conflict, Corrupt, Fenced, Gap, InvalidArgument, NotFound
from preceptor.queue import ClockCharge, Flow, LogWriter, Queue, ScoreStream, Subscriber, TaskState, Then
from preceptor.types import ModelRef
from preceptor_proto.v1 import common_pb2, teacher_pb2
from tests.contract.queue_rig import (
    BOUNDS,
    EOS,
    FLOW,
    MODEL,
    TEACHER,
    TENANT,
    Clock,
    Lose,
    OpenQueue,
    closing,
    entry,
    error,
    exact,
    inline_task,
    lease_one,
    log_name,
    log_task,
    put,
    rows,
    score,
    segment,
    tokens_of,
    write_log,
)

LOG = log_name()
OTHER_JOB = Flow(TEACHER, TENANT, "job-2")


@dataclass
class Rig:
    queue: Queue
    clock: Clock
    lose: Lose

    async def info(self, task_id: str = "task-1") -> TaskState | None:
        info = await self.queue.task_info(FLOW, task_id)
        return info.state if info is not None else None

    async def die(self) -> TaskState:
        """The worker of the only lease dies; somebody notices."""
        self.clock.advance(BOUNDS.lease_s)
        (reclaimed,) = await self.queue.reclaim(TEACHER)
        return reclaimed.state


@pytest.fixture
async def rig(open_queue: OpenQueue, lose_key: Lose) -> AsyncIterator[Rig]:
    clock = Clock()
    async with open_queue(clock, BOUNDS) as queue:
        yield Rig(queue, clock, lose_key)


class LogRules:
    async def test_entries_are_read_from_the_one_that_holds_the_offset(self, rig: Rig) -> None:
        entries = [entry(0, [1, 2]), entry(2, [3], "context"), entry(3, [4, 5, 6])]
        for each, length in zip(entries, (2, 3, 6), strict=True):
            assert (await rig.queue.append(LOG, each)).length == length
        for offset, first in ((0, 0), (1, 0), (2, 1), (3, 2), (5, 2)):
            assert list((await rig.queue.read(LOG, offset)).entries) == entries[first:]
        assert (await rig.queue.read(LOG, 6)).entries == ()
        view = await rig.queue.read(LOG)
        assert (view.length, view.closed) == (6, False)

    async def test_a_log_nobody_wrote_is_empty_and_open(self, rig: Rig) -> None:
        view = await rig.queue.read(LOG)
        assert (view.entries, view.length, view.closed) == ((), 0, False)

    @pytest.mark.parametrize(("offset", "ids"), [(0, [1, 2]), (2, [3, 4]), (1, [2, 3]), (0, [1, 2, 3, 4]), (3, [4])])
    async def test_equal_tokens_again_are_ignored_however_they_are_cut(self, rig: Rig, offset: int, ids: list[int]) -> None:
        await rig.queue.append(LOG, entry(0, [1, 2]))
        await rig.queue.append(LOG, entry(2, [3, 4]))
        assert (await rig.queue.append(LOG, entry(offset, ids))).length == 4
        assert len((await rig.queue.read(LOG)).entries) == 2

    @pytest.mark.parametrize(("offset", "ids", "kind"), [(0, [9], "response"), (1, [2, 9], "response"), (0, [1], "context")])
    async def test_other_tokens_or_another_kind_at_the_same_place_conflict(
        self, rig: Rig, offset: int, ids: list[int], kind: str
    ) -> None:
        await rig.queue.append(LOG, entry(0, [1, 2]))
        await rig.queue.append(LOG, entry(2, [3, 4]))
        with pytest.raises(Conflict):
            await rig.queue.append(LOG, entry(offset, ids, kind))
        assert (await rig.queue.read(LOG)).length == 4

    @pytest.mark.parametrize(("offset", "ids"), [(5, [6]), (2, [3, 4, 5, 6, 7]), (3, [4, 5])])
    async def test_past_the_end_or_across_it_is_a_gap_that_names_the_length(self, rig: Rig, offset: int, ids: list[int]) -> None:
        await rig.queue.append(LOG, entry(0, [1, 2, 3, 4]))
        with pytest.raises(Gap) as caught:
            await rig.queue.append(LOG, entry(offset, ids))
        assert caught.value.limit == "4"
        assert (await rig.queue.read(LOG)).length == 4

    async def test_a_closed_log_takes_repeats_and_nothing_new(self, rig: Rig) -> None:
        await rig.queue.append(LOG, entry(0, [1, 2]))
        with pytest.raises(Gap):
            await rig.queue.append(LOG, closing(3))
        with pytest.raises(Conflict):
            await rig.queue.append(LOG, closing(1))
        await rig.queue.append(LOG, closing(2))
        await rig.queue.append(LOG, closing(2))
        await rig.queue.append(LOG, entry(0, [1, 2]))
        for refused in (entry(2, [3]), closing(2, common_pb2.FINISH_REASON_LENGTH)):
            with pytest.raises(Conflict):
                await rig.queue.append(LOG, refused)
        view = await rig.queue.read(LOG)
        assert (view.length, view.finish_reason) == (2, EOS)

    async def test_entries_without_tokens_or_schema_are_refused_by_field(self, rig: Rig) -> None:
        for bad in (entry(0, []), entry(0, [], "context")):
            with pytest.raises(InvalidArgument, match="tokens"):
                await rig.queue.append(LOG, bad)
        unversioned = entry(0, [1])
        unversioned.schema = 0
        with pytest.raises(InvalidArgument) as caught:
            await rig.queue.append(LOG, unversioned)
        assert caught.value.field == "entry.schema"

    async def test_append_names_the_subscribers_also_for_a_repeat(self, rig: Rig) -> None:
        first, second = Subscriber("teacher-1", "a/b"), Subscriber("teacher-2", "a")
        for each in (first, second, first):
            await rig.queue.subscribe(LOG, each)
        for each in (entry(0, [1]), entry(0, [1]), closing(1), closing(1)):
            assert set((await rig.queue.append(LOG, each)).subscribers) == {first, second}
        await rig.queue.unsubscribe(LOG, first)
        assert (await rig.queue.append(LOG, closing(1))).subscribers == (second,)

    async def test_follow_wakes_for_growth_and_for_the_close(self, rig: Rig) -> None:
        await rig.queue.append(LOG, entry(0, [1]))
        assert (await rig.queue.follow(LOG, 0, 60.0)).length == 1
        for each, length in ((entry(1, [2]), 2), (closing(2), 2)):
            waiting = asyncio.create_task(rig.queue.follow(LOG, each.offset, 60.0))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            await rig.queue.append(LOG, each)
            assert (await waiting).length == length
        assert (await rig.queue.follow(LOG, 2, 60.0)).closed

    async def test_follow_answers_at_its_deadline_with_what_there_is(self, rig: Rig) -> None:
        await rig.queue.append(LOG, entry(0, [1]))
        view = await rig.queue.follow(LOG, 1, 0.02)
        assert (view.entries, view.length) == ((), 1)

    async def test_logs_live_while_they_are_used(self, rig: Rig) -> None:
        await rig.queue.append(LOG, entry(0, [1]))
        for _ in range(3):
            rig.clock.advance(BOUNDS.kept_s - 1)
            assert (await rig.queue.read(LOG)).length == 1
        rig.clock.advance(BOUNDS.kept_s)
        assert (await rig.queue.read(LOG)).length == 0

    async def test_a_writer_writes_again_what_the_log_has_lost(self, rig: Rig) -> None:
        writer = await write_log(rig.queue, [1, 2], closed=False)
        await writer.append(segment("context", [3]))
        assert rig.lose(rig.queue, LOG.ids)
        await writer.append(segment("response", [4, 5]))
        await writer.close(EOS)
        view = await rig.queue.read(LOG)
        assert [(each.offset, each.WhichOneof("body")) for each in view.entries] == [
            (0, "segment"),
            (2, "segment"),
            (3, "segment"),
        ]
        assert (view.length, view.closed) == (5, True)


class TaskRules:
    async def test_a_task_is_created_once_and_never_changed(self, rig: Rig) -> None:
        assert await rig.queue.create(FLOW, inline_task())
        assert not await rig.queue.create(FLOW, inline_task())
        with pytest.raises(Conflict):
            await rig.queue.create(FLOW, inline_task(band=1))
        assert await rig.info() is TaskState.IDLE

    async def test_tasks_of_other_teachers_bad_ids_and_broken_limits_are_refused_by_field(self, rig: Rig) -> None:
        elsewhere = inline_task()
        elsewhere.teacher.teacher = "teacher-2"
        for bad, field in (
            (elsewhere, "task.teacher.teacher"),
            (inline_task("a:b"), "task.task_id"),
            (inline_task("a{b}"), "task.task_id"),
            (inline_task("a", band=8), "task.band"),
            (teacher_pb2.ScoreTask(schema=1, task_id="a"), "task.source"),
        ):
            with pytest.raises(InvalidArgument) as caught:
                await rig.queue.create(FLOW, bad)
            assert caught.value.field == field

    async def test_a_poke_makes_an_idle_task_ready_and_an_unknown_one_nothing(self, rig: Rig) -> None:
        assert await rig.queue.poke(FLOW, "task-1") is None
        await rig.queue.create(FLOW, inline_task())
        info = await rig.queue.poke(FLOW, "task-1")
        assert info is not None
        assert info.state is TaskState.READY
        (band,) = await rig.queue.ready_bands(TEACHER)
        assert (band.flow, band.ready, band.suspects) == (FLOW, 1, 0)
        await rig.queue.poke(FLOW, "task-1")
        assert (await rig.queue.ready_bands(TEACHER))[0].ready == 1

    async def test_a_poke_during_a_lease_makes_it_ready_again_at_the_commit(self, rig: Rig) -> None:
        await put(rig.queue, inline_task())
        lease = await lease_one(rig.queue)
        await rig.queue.commit(lease, [rows(0, [2])], 0)
        assert await rig.info() is TaskState.IDLE
        await rig.queue.poke(FLOW, "task-1")
        lease = await lease_one(rig.queue)
        await rig.queue.poke(FLOW, "task-1")
        assert await rig.info() is TaskState.LEASED
        committed = await rig.queue.commit(lease, [rows(1, [3])], 0)
        assert committed.state is TaskState.READY
        lease = await lease_one(rig.queue)
        assert lease.next_row == 2

    async def test_ended_tasks_stay_ended_when_poked(self, rig: Rig) -> None:
        await put(rig.queue, inline_task())
        await rig.queue.commit(await lease_one(rig.queue), [rows(0, [2, 3])], 0, Then.FINISH)
        info = await rig.queue.poke(FLOW, "task-1")
        assert info is not None
        assert (info.state, info.next_row) == (TaskState.FINISHED, 2)
        assert await rig.queue.ready_bands(TEACHER) == ()

    async def test_cancel_fences_the_lease_and_nothing_is_committed_afterwards(self, rig: Rig) -> None:
        await put(rig.queue, inline_task())
        lease = await lease_one(rig.queue)
        assert await rig.queue.cancel(FLOW, "task-1") is TaskState.CANCELLED
        for attempt in (
            rig.queue.commit(lease, [rows(0, [2])], 0),
            rig.queue.heartbeat(lease),
            rig.queue.hand_back(lease),
            rig.queue.fail(lease, error(common_pb2.INVALID_ARGUMENT)),
        ):
            with pytest.raises(Fenced):
                await attempt
        assert await rig.queue.read_out(FLOW) == ()
        await rig.queue.poke(FLOW, "task-1")
        assert await rig.queue.reopen(FLOW, inline_task(), 0) is TaskState.CANCELLED
        assert await rig.queue.lease(FLOW, "w2") == ()
        rig.clock.advance(BOUNDS.lease_s)
        assert await rig.queue.reclaim(TEACHER) == ()

    async def test_cancel_takes_a_ready_task_away_and_leaves_ended_ones_alone(self, rig: Rig) -> None:
        assert await rig.queue.cancel(FLOW, "task-1") is None
        await put(rig.queue, inline_task())
        await rig.queue.cancel(FLOW, "task-1")
        assert await rig.queue.ready_bands(TEACHER) == ()
        await put(rig.queue, inline_task("task-2"))
        await rig.queue.commit(await lease_one(rig.queue), [rows(0, [2])], 0, Then.FINISH)
        assert await rig.queue.cancel(FLOW, "task-2") is TaskState.FINISHED

    async def test_reopen_starts_at_a_row_fences_the_lease_and_makes_unknown_tasks(self, rig: Rig) -> None:
        assert await rig.queue.reopen(FLOW, inline_task(), 7) is TaskState.READY
        old = await lease_one(rig.queue)
        assert (old.next_row, old.scored_upto) == (7, 0)
        await rig.queue.reopen(FLOW, exact(inline_task()), 9)
        with pytest.raises(Fenced):
            await rig.queue.commit(old, [rows(7, [1])], 8)
        lease = await lease_one(rig.queue, "w2")
        assert (lease.next_row, lease.model) == (9, MODEL)
        await rig.queue.commit(lease, [rows(9, [1])], 10, Then.FINISH)
        assert await rig.queue.reopen(FLOW, inline_task(), 9) is TaskState.READY

    async def test_rows_start_at_the_window_of_the_want(self, rig: Rig) -> None:
        want = common_pb2.Want(sampled=True, window=common_pb2.RowRange(start=5, end=9))
        await put(rig.queue, inline_task(want=want))
        lease = await lease_one(rig.queue)
        assert lease.next_row == 5
        with pytest.raises(Gap):
            await rig.queue.commit(lease, [rows(0, [1])], 0)
        await rig.queue.commit(lease, [rows(5, [1, 2, 3, 4])], 0, Then.FINISH)

    async def test_tasks_live_while_they_are_used(self, rig: Rig) -> None:
        await rig.queue.create(FLOW, inline_task())
        rig.clock.advance(BOUNDS.kept_s - 1)
        await rig.queue.poke(FLOW, "task-1")
        rig.clock.advance(BOUNDS.kept_s - 1)
        assert await rig.info() is TaskState.READY
        rig.clock.advance(BOUNDS.kept_s)
        assert await rig.info() is None
        assert await rig.queue.lease(FLOW, "w1") == ()


class LeaseRules:
    async def test_leases_come_by_deadline_then_the_ones_without(self, rig: Rig) -> None:
        soon = int(rig.clock() * 1000) + 60_000
        for name, deadline_ms in (("none", 0), ("late", soon + 1), ("soon", soon)):
            await put(rig.queue, inline_task(name, deadline_unix_ms=deadline_ms))
        leases = await rig.queue.lease(FLOW, "w1", limit=2)
        assert [lease.task_id for lease in leases] == ["soon", "late"]
        assert [lease.task_id for lease in await rig.queue.lease(FLOW, "w1", limit=9)] == ["none"]

    async def test_bands_and_jobs_are_leased_apart(self, rig: Rig) -> None:
        await put(rig.queue, inline_task("urgent", band=0))
        await put(rig.queue, inline_task("later", band=3))
        await put(rig.queue, inline_task("foreign"), OTHER_JOB)
        found = {(band.flow, band.band): band.ready for band in await rig.queue.ready_bands(TEACHER)}
        assert found == {(FLOW, 0): 1, (FLOW, 3): 1, (OTHER_JOB, 0): 1}
        assert [lease.task_id for lease in await rig.queue.lease(FLOW, "w1", band=3, limit=9)] == ["later"]
        assert [lease.task_id for lease in await rig.queue.lease(OTHER_JOB, "w1", limit=9)] == ["foreign"]
        with pytest.raises(InvalidArgument):
            await rig.queue.lease(FLOW, "w1", band=8)

    async def test_every_lease_has_a_fence_of_its_own_and_no_task_two_holders(self, rig: Rig) -> None:
        for n in range(5):
            await put(rig.queue, inline_task(f"task-{n}"))
        leases = [*await rig.queue.lease(FLOW, "w1", limit=3), *await rig.queue.lease(FLOW, "w1", limit=3)]
        assert len({lease.fence for lease in leases}) == len({lease.task_id for lease in leases}) == 5
        assert all(len(lease.fence) == 16 for lease in leases)

    async def test_a_heartbeat_keeps_a_lease_five_times_its_length(self, rig: Rig) -> None:
        await put(rig.queue, inline_task())
        lease = await lease_one(rig.queue)
        for _ in range(10):
            rig.clock.advance(BOUNDS.lease_s / 2)
            lease = await rig.queue.heartbeat(lease)
            assert lease.expires_at_s == rig.clock() + BOUNDS.lease_s
            assert await rig.queue.reclaim(TEACHER) == ()
        assert (await rig.queue.commit(lease, [rows(0, [2])], 0, Then.FINISH)).state is TaskState.FINISHED

    async def test_work_that_is_late_but_not_taken_over_still_counts(self, rig: Rig) -> None:
        await put(rig.queue, inline_task())
        lease = await lease_one(rig.queue)
        rig.clock.advance(BOUNDS.lease_s * 3)
        await rig.queue.commit(lease, [rows(0, [2])], 0, Then.FINISH)
        assert await rig.queue.reclaim(TEACHER) == ()

    async def test_the_newest_weights_are_pinned_at_the_first_lease(self, rig: Rig) -> None:
        newer = replace(MODEL, step=8)
        await put(rig.queue, inline_task())
        (first,) = await rig.queue.lease(FLOW, "w1", latest=MODEL)
        await rig.queue.hand_back(first)
        (second,) = await rig.queue.lease(FLOW, "w2", latest=newer)
        assert first.model == second.model == MODEL
        await put(rig.queue, exact(inline_task("task-2"), ModelRef("old", manifest_sha256=bytes(32))))
        (third,) = await rig.queue.lease(FLOW, "w2", latest=newer)
        assert third.model == ModelRef("old", manifest_sha256=bytes(32))

    async def test_work_past_its_deadline_is_ended_before_anybody_computes_it(self, rig: Rig) -> None:
        await put(rig.queue, inline_task("late", deadline_unix_ms=int(rig.clock() * 1000) + 1_000))
        await put(rig.queue, inline_task("fine"))
        rig.clock.advance(1.0)
        leases = await rig.queue.lease(FLOW, "w1", limit=2)
        assert [lease.task_id for lease in leases] == ["fine"]
        (entry_,) = await rig.queue.read_out(FLOW)
        assert (entry_.envelope.task_id, entry_.envelope.finished) == ("late", True)
        assert entry_.envelope.error.code == common_pb2.DEADLINE_EXCEEDED
        assert await rig.info("late") is TaskState.FINISHED

    async def test_waiting_for_work_ends_with_a_poke_or_at_the_deadline(self, rig: Rig) -> None:
        assert not await rig.queue.wait_ready(TEACHER, 0.02)
        waiting = asyncio.create_task(rig.queue.wait_ready(TEACHER, 60.0))
        await asyncio.sleep(0.01)
        await put(rig.queue, inline_task())
        assert await waiting
        assert await rig.queue.wait_ready(TEACHER, 60.0)

    async def test_clocks_follow_the_rule_and_are_shared(self, rig: Rig) -> None:
        def charge(settled: float, floor: float, charged: float, band: int = 0) -> ClockCharge:
            return ClockCharge(FLOW, band, settled, floor, charged)

        assert await rig.queue.advance_clocks(TEACHER, [charge(0, 5, 2)]) == {(FLOW, 0): 7.0}
        assert await rig.queue.advance_clocks(TEACHER, [charge(-1, 2, 3), charge(0, 0, 1, band=1)]) == {
            (FLOW, 0): 9.0,
            (FLOW, 1): 1.0,
        }
        await rig.queue.reclaim(TEACHER)
        rig.clock.advance(BOUNDS.idle_flow_s + 1)
        await rig.queue.reclaim(TEACHER)
        assert await rig.queue.advance_clocks(TEACHER, [charge(0, 0, 1)]) == {(FLOW, 0): 1.0}


class CommitRules:
    async def test_rows_position_and_lease_change_together(self, rig: Rig) -> None:
        await put(rig.queue, log_task())
        lease = await lease_one(rig.queue)
        committed = await rig.queue.commit(lease, [rows(0, [5, 6]), rows(2, [7])], 3)
        assert (committed.state, committed.next_row, committed.lease) == (TaskState.IDLE, 3, None)
        info = await rig.queue.task_info(FLOW, "task-1")
        assert info is not None
        assert (info.scored_upto, info.next_row, info.worker) == (3, 3, "w1")
        entries = await rig.queue.read_out(FLOW)
        assert [tokens_of(each.envelope) for each in entries] == [[5, 6], [7]]
        assert {(e.envelope.schema, e.envelope.task_id, e.envelope.trace) for e in entries} == {(1, "task-1", "trace of task-1")}
        assert not any(each.envelope.finished for each in entries)

    async def test_an_old_fence_commits_nothing_however_often(self, rig: Rig) -> None:
        await put(rig.queue, log_task())
        old = await lease_one(rig.queue)
        await rig.die()
        new = await lease_one(rig.queue, "w1", alone=True)  # a second worker of the same name
        for _ in range(2):
            with pytest.raises(Fenced):
                await rig.queue.commit(old, [rows(0, [1])], 1, Then.FINISH)
        await rig.queue.commit(new, [rows(0, [1])], 1)
        with pytest.raises(Fenced):
            await rig.queue.commit(new, [rows(0, [1])], 1)
        assert len(await rig.queue.read_out(FLOW)) == 1

    async def test_a_kept_lease_is_renewed_and_a_repeat_under_it_is_ignored(self, rig: Rig) -> None:
        await put(rig.queue, log_task())
        lease = await lease_one(rig.queue)
        rig.clock.advance(BOUNDS.lease_s - 1)
        for _ in range(2):
            kept = (await rig.queue.commit(lease, [rows(0, [5, 6])], 0, Then.KEEP)).lease
            assert kept is not None
            assert (kept.fence, kept.next_row, kept.expires_at_s) == (lease.fence, 2, rig.clock() + BOUNDS.lease_s)
        await rig.queue.commit(kept, [rows(2, [7])], 3, Then.FINISH)
        assert [tokens_of(each.envelope) for each in await rig.queue.read_out(FLOW)] == [[5, 6], [7]]

    @pytest.mark.parametrize("wrong", [[(1, [6])], [(0, [5]), (2, [7])], [(0, [5, 6]), (1, [6, 7])]])
    async def test_rows_that_are_not_the_next_ones_are_a_gap_and_change_nothing(
        self, rig: Rig, wrong: list[tuple[int, list[int]]]
    ) -> None:
        await put(rig.queue, log_task())
        lease = await lease_one(rig.queue)
        with pytest.raises(Gap):
            await rig.queue.commit(lease, [rows(start, tokens) for start, tokens in wrong], 3)
        assert await rig.queue.read_out(FLOW) == ()
        await rig.queue.commit(lease, [rows(0, [5])], 1)

    async def test_a_position_never_goes_back(self, rig: Rig) -> None:
        await put(rig.queue, log_task())
        kept = (await rig.queue.commit(await lease_one(rig.queue), [rows(0, [5])], 4, Then.KEEP)).lease
        assert kept is not None
        with pytest.raises(InvalidArgument):
            await rig.queue.commit(kept, [], 3)

    async def test_the_last_entry_says_that_the_task_is_finished(self, rig: Rig) -> None:
        for name, envelopes in (("rows", [rows(0, [1]), rows(1, [2])]), ("none", [])):
            await put(rig.queue, inline_task(name))
            await rig.queue.commit(await lease_one(rig.queue), envelopes, 0, Then.FINISH)
        finished = [(each.envelope.task_id, each.envelope.finished) for each in await rig.queue.read_out(FLOW)]
        assert finished == [("rows", False), ("rows", True), ("none", True)]

    async def test_a_verdict_is_a_result_without_rows(self, rig: Rig) -> None:
        await put(rig.queue, inline_task())
        verdict = teacher_pb2.Envelope(verdict=teacher_pb2.Verdict(reward=0.5))
        await rig.queue.commit(await lease_one(rig.queue), [verdict], 0, Then.FINISH)
        (found,) = await rig.queue.read_out(FLOW)
        assert (found.envelope.verdict.reward, found.envelope.finished) == (0.5, True)

    async def test_clocks_that_jump_back_only_make_leases_longer(self, rig: Rig) -> None:
        await put(rig.queue, log_task())
        lease = await lease_one(rig.queue)
        rig.clock.advance(-3600)
        assert await rig.queue.reclaim(TEACHER) == ()
        await rig.queue.commit(lease, [rows(0, [1])], 1, Then.KEEP)
        rig.clock.advance(-3600)
        await rig.queue.commit(lease, [rows(1, [2])], 2)
        positions = [tuple(map(int, each.position.split("-"))) for each in await rig.queue.read_out(FLOW)]
        assert positions == sorted(set(positions))


class PoisonRules:
    async def test_the_death_of_a_worker_makes_all_its_tasks_suspect_and_kills_none(self, rig: Rig) -> None:
        for n in range(3):
            await put(rig.queue, inline_task(f"task-{n}"))
        await rig.queue.lease(FLOW, "w1", limit=3)
        for _ in range(3):
            rig.clock.advance(BOUNDS.lease_s)
            assert all(each.state is TaskState.READY for each in await rig.queue.reclaim(TEACHER))
        (band,) = await rig.queue.ready_bands(TEACHER)
        assert (band.ready, band.suspects) == (0, 3)
        assert await rig.queue.lease(FLOW, "w2", limit=3) == ()
        first = await rig.queue.lease(FLOW, "w2", limit=3, alone=True)
        assert [lease.alone for lease in first] == [True]

    async def test_a_suspect_that_gets_somewhere_is_one_no_more(self, rig: Rig) -> None:
        await put(rig.queue, log_task())
        await lease_one(rig.queue)
        await rig.die()
        await rig.queue.commit(await lease_one(rig.queue, alone=True), [rows(0, [1])], 1)
        await rig.queue.poke(FLOW, "task-1")
        assert not (await lease_one(rig.queue)).alone

    async def test_three_deaths_alone_make_a_dead_letter_with_reason_and_trace(self, rig: Rig) -> None:
        await put(rig.queue, inline_task())
        await lease_one(rig.queue, "w0")
        assert await rig.die() is TaskState.READY
        states = []
        for n in range(3):
            assert (await lease_one(rig.queue, f"w{n}", alone=True)).alone
            states.append(await rig.die())
        assert states == [TaskState.READY, TaskState.READY, TaskState.DEAD]
        (found,) = await rig.queue.dead_letters(FLOW)
        letter = found.letter
        assert (letter.task, letter.attempts, letter.trace) == (inline_task(), 3, "trace of task-1")
        assert letter.reason.code == common_pb2.ENGINE_FAILED
        assert "w2" in letter.reason.message
        assert letter.died_unix_ms == int(rig.clock() * 1000)
        (told,) = await rig.queue.read_out(FLOW)
        assert (told.envelope.task_id, told.envelope.finished, told.envelope.error) == ("task-1", True, letter.reason)
        assert await rig.queue.ready_bands(TEACHER) == ()

    async def test_an_engine_that_dies_counts_as_its_worker_does(self, rig: Rig) -> None:
        await put(rig.queue, inline_task())
        crash = error(common_pb2.ENGINE_FAILED)
        assert await rig.queue.fail(await lease_one(rig.queue), crash) is TaskState.READY
        states = [await rig.queue.fail(await lease_one(rig.queue, alone=True), crash) for _ in range(3)]
        assert states == [TaskState.READY, TaskState.READY, TaskState.DEAD]

    async def test_handing_back_and_passing_trouble_never_count(self, rig: Rig) -> None:
        await put(rig.queue, inline_task())
        for _ in range(5):
            await rig.queue.hand_back(await lease_one(rig.queue))
            assert await rig.queue.fail(await lease_one(rig.queue), error(common_pb2.VERSION_GONE)) is TaskState.READY
        await lease_one(rig.queue)
        await rig.die()
        for _ in range(5):
            lease = await lease_one(rig.queue, alone=True)
            assert lease.alone  # also handed back it stays a suspect
            await rig.queue.hand_back(lease)
        info = await rig.queue.task_info(FLOW, "task-1")
        assert info is not None
        assert (info.strikes, info.suspect) == (0, True)

    async def test_permanent_errors_count_wherever_the_task_ran(self, rig: Rig) -> None:
        await put(rig.queue, inline_task())
        refused = error(common_pb2.INVALID_ARGUMENT, "id 9 is not in the vocabulary")
        states = [await rig.queue.fail(await lease_one(rig.queue), refused) for _ in range(3)]
        assert states == [TaskState.READY, TaskState.READY, TaskState.DEAD]
        info = await rig.queue.task_info(FLOW, "task-1")
        assert info is not None
        assert info.error == refused

    async def test_a_failure_without_a_code_is_refused_and_the_lease_goes_on(self, rig: Rig) -> None:
        await put(rig.queue, inline_task())
        lease = await lease_one(rig.queue)
        with pytest.raises(InvalidArgument):
            await rig.queue.fail(lease, error(common_pb2.ERROR_CODE_UNSPECIFIED))
        await rig.queue.heartbeat(lease)

    async def kill(self, rig: Rig, name: str = "task-1") -> str:
        await put(rig.queue, log_task(name))
        await rig.queue.commit(await lease_one(rig.queue), [rows(0, [1, 2])], 2)
        await rig.queue.poke(FLOW, name)
        for _ in range(3):
            await rig.queue.fail(await lease_one(rig.queue), error(common_pb2.UNSUPPORTED))
        return (await rig.queue.dead_letters(FLOW))[-1].letter_id

    async def test_letters_are_listed_and_shown(self, rig: Rig) -> None:
        ids = [await self.kill(rig, f"task-{n}") for n in range(3)]
        assert [each.letter_id for each in await rig.queue.dead_letters(FLOW)] == ids
        assert [each.letter_id for each in await rig.queue.dead_letters(FLOW, limit=2)] == ids[:2]
        assert (await rig.queue.dead_letter(FLOW, ids[1])).letter.task.task_id == "task-1"
        assert await rig.queue.dead_letters(OTHER_JOB) == ()

    async def test_a_replayed_letter_goes_on_where_it_was_with_a_clean_record(self, rig: Rig) -> None:
        letter_id = await self.kill(rig)
        assert await rig.queue.reopen(FLOW, log_task(), 0) is TaskState.DEAD
        assert await rig.queue.replay_dead_letter(FLOW, letter_id) is TaskState.READY
        assert await rig.queue.dead_letters(FLOW) == ()
        lease = await lease_one(rig.queue)
        assert (lease.next_row, lease.alone) == (2, False)
        await rig.queue.commit(lease, [rows(2, [3])], 3, Then.FINISH)
        with pytest.raises(NotFound):
            await rig.queue.replay_dead_letter(FLOW, letter_id)

    async def test_a_letter_whose_task_is_forgotten_starts_over(self, rig: Rig) -> None:
        letter_id = await self.kill(rig)
        assert rig.lose(rig.queue, FLOW.task("task-1"))
        assert await rig.queue.replay_dead_letter(FLOW, letter_id) is TaskState.READY
        assert (await lease_one(rig.queue)).next_row == 0

    async def test_a_dropped_letter_is_gone_and_its_task_stays_dead(self, rig: Rig) -> None:
        letter_id = await self.kill(rig)
        await rig.queue.drop_dead_letter(FLOW, letter_id)
        for attempt in (
            rig.queue.drop_dead_letter(FLOW, letter_id),
            rig.queue.dead_letter(FLOW, letter_id),
            rig.queue.replay_dead_letter(FLOW, letter_id),
        ):
            with pytest.raises(NotFound):
                await attempt
        assert await rig.info() is TaskState.DEAD


class ResultRules:
    async def finish(self, rig: Rig, name: str, count: int) -> None:
        await put(rig.queue, inline_task(name))
        await rig.queue.commit(await lease_one(rig.queue), [rows(0, list(range(count)))], 0, Then.FINISH)

    async def test_results_are_read_behind_a_position_until_they_are_deleted(self, rig: Rig) -> None:
        for n in range(5):
            await self.finish(rig, f"task-{n}", 1)
        entries = await rig.queue.read_out(FLOW)
        assert [each.envelope.task_id for each in await rig.queue.read_out(FLOW, entries[1].position, limit=2)] == [
            "task-2",
            "task-3",
        ]
        await rig.queue.delete_out(FLOW, entries[2].position)
        assert [each.envelope.task_id for each in await rig.queue.read_out(FLOW)] == ["task-3", "task-4"]
        await rig.queue.delete_out(FLOW, entries[4].position)
        await self.finish(rig, "later", 1)
        assert [each.envelope.task_id for each in await rig.queue.read_out(FLOW, entries[4].position)] == ["later"]

    async def test_reading_waits_for_the_first_result_or_its_deadline(self, rig: Rig) -> None:
        assert await rig.queue.read_out(FLOW, timeout_s=0.02) == ()
        waiting = asyncio.create_task(rig.queue.read_out(FLOW, timeout_s=60.0))
        await asyncio.sleep(0.01)
        await self.finish(rig, "task-1", 1)
        assert len(await waiting) == 1

    async def test_jobs_see_only_their_own_results(self, rig: Rig) -> None:
        await self.finish(rig, "task-1", 1)
        assert await rig.queue.read_out(OTHER_JOB) == ()

    async def test_large_rows_travel_as_blobs_that_name_their_digest(self, rig: Rig) -> None:
        await self.finish(rig, "large", 40)
        (found,) = await rig.queue.read_out(FLOW)
        blob = found.envelope.blob
        whole = await rig.queue.read_blob(FLOW, blob)
        assert whole == rows(0, list(range(40))).rows
        assert found.envelope.finished
        wrong = teacher_pb2.BlobRef(key=blob.key, payload_bytes=blob.payload_bytes, sha256=bytes(32))
        assert await rig.queue.read_blob(FLOW, wrong) is None
        await rig.queue.delete_out(FLOW, found.position, [blob])
        assert await rig.queue.read_blob(FLOW, blob) is None

    async def test_blobs_end_after_an_hour_and_are_then_missing_not_an_error(self, rig: Rig) -> None:
        await self.finish(rig, "large", 40)
        (found,) = await rig.queue.read_out(FLOW)
        rig.clock.advance(BOUNDS.blob_s)
        assert await rig.queue.read_blob(FLOW, found.envelope.blob) is None

    async def test_a_result_cannot_name_a_key_outside_its_job(self, rig: Rig) -> None:
        for key in (OTHER_JOB.blob("x"), FLOW.ready, "anything", FLOW.blob("x") + ":y"):
            with pytest.raises((Corrupt, InvalidArgument)):
                await rig.queue.read_blob(FLOW, teacher_pb2.BlobRef(key=key))
            with pytest.raises((Corrupt, InvalidArgument)):
                await rig.queue.delete_out(FLOW, "0", [teacher_pb2.BlobRef(key=key)])

    @pytest.mark.parametrize("count", [1, 40])
    async def test_a_job_that_does_not_read_is_not_leased_and_others_are(self, rig: Rig, count: int) -> None:
        finished = 0
        await put(rig.queue, inline_task("waiting", band=1))
        while not (await rig.queue.ready_bands(TEACHER))[0].over_bound:
            await self.finish(rig, f"task-{finished}", count)
            finished += 1
        (band,) = await rig.queue.ready_bands(TEACHER)
        assert band.unread_bytes > BOUNDS.unread_bytes
        assert await rig.queue.lease(FLOW, "w1", band=1) == ()
        assert not await rig.queue.wait_ready(TEACHER, 0.0)
        await put(rig.queue, inline_task("foreign"), OTHER_JOB)
        assert len(await rig.queue.lease(OTHER_JOB, "w1")) == 1
        entries = await rig.queue.read_out(FLOW)
        blobs = [each.envelope.blob for each in entries if each.envelope.WhichOneof("body") == "blob"]
        await rig.queue.delete_out(FLOW, entries[-1].position, blobs)
        assert (await rig.queue.ready_bands(TEACHER))[0].unread_bytes == 0
        assert len(await rig.queue.lease(FLOW, "w1", band=1)) == 1

    async def test_deleting_one_result_frees_exactly_its_bytes(self, rig: Rig) -> None:
        await put(rig.queue, inline_task("waiting", band=1))
        seen = []
        for name in ("a", "b", "c"):
            await self.finish(rig, name, 40)
            seen.append((await rig.queue.ready_bands(TEACHER))[0].unread_bytes)
        first, _, _ = entries = await rig.queue.read_out(FLOW)
        await rig.queue.delete_out(FLOW, first.position, [first.envelope.blob])
        assert (await rig.queue.ready_bands(TEACHER))[0].unread_bytes == seen[2] - seen[0]
        await rig.queue.delete_out(FLOW, entries[2].position, [entries[1].envelope.blob, entries[2].envelope.blob])

    async def test_a_lost_stream_does_not_block_its_job(self, rig: Rig) -> None:
        await put(rig.queue, inline_task("waiting", band=1))
        for n in range(40):
            await self.finish(rig, f"task-{n}", 1)
        assert rig.lose(rig.queue, FLOW.out)
        assert len(await rig.queue.lease(FLOW, "w1", band=1)) == 1

    async def test_results_nobody_reads_end_after_a_day(self, rig: Rig) -> None:
        await self.finish(rig, "task-1", 1)
        rig.clock.advance(BOUNDS.kept_s)
        assert await rig.queue.read_out(FLOW) == ()


class StoryRules:
    """The parts together: streaming, several tasks on a log, and everything that can be lost."""

    async def work(self, rig: Rig, sample: int = 0) -> None:
        """One worker does whatever is ready."""
        while leases := (*await rig.queue.lease(FLOW, "w1"), *await rig.queue.lease(FLOW, "w1", alone=True)):
            for lease in leases:
                await (await score(rig.queue, lease, sample)).commit(rig.queue)

    async def taken(self, stream: ScoreStream) -> list[tuple[str, list[int]]]:
        taken = await stream.take()
        await stream.acknowledge(taken)
        return [(each.task_id, tokens_of(each.envelope)) for each in taken.deliveries]

    async def test_a_task_opened_before_the_rollout_is_scored_while_it_grows(self, rig: Rig) -> None:
        stream = ScoreStream(rig.queue, FLOW)
        await stream.open(log_task())
        await self.work(rig)
        writer = LogWriter(rig.queue, LOG)
        seen: list[tuple[str, list[int]]] = []
        for tokens in ([1, 2], [3], [4, 5, 6]):
            await writer.append(segment("response", tokens))
            await self.work(rig)
            seen += await self.taken(stream)
        await writer.close(EOS)
        await self.work(rig)
        assert seen == [("task-1", [1, 2]), ("task-1", [3]), ("task-1", [4, 5, 6])]
        assert await self.taken(stream) == [("task-1", [])]
        assert stream.open_tasks == {}

    async def test_several_tasks_on_one_log_and_one_opened_after_its_close(self, rig: Rig) -> None:
        stream = ScoreStream(rig.queue, FLOW)
        for name in ("early", "other-view"):
            await stream.open(log_task(name))
        await write_log(rig.queue, [1, 2, 3])
        await stream.open(log_task("late"))
        await self.work(rig)
        assert sorted(await self.taken(stream)) == [("early", [1, 2, 3]), ("late", [1, 2, 3]), ("other-view", [1, 2, 3])]

    async def test_a_writer_that_died_before_its_poke_costs_delay_only(self, rig: Rig) -> None:
        stream = ScoreStream(rig.queue, FLOW)
        await stream.open(log_task())
        await self.work(rig)
        await rig.queue.append(LOG, entry(0, [1, 2]))
        await rig.queue.append(LOG, closing(2))  # and nobody pokes
        await self.work(rig)
        assert await self.taken(stream) == []
        await stream.poke_all()
        await self.work(rig)
        assert await self.taken(stream) == [("task-1", [1, 2])]

    async def test_ended_tasks_are_taken_off_the_log_by_the_next_append(self, rig: Rig) -> None:
        stream = ScoreStream(rig.queue, FLOW)
        await stream.open(log_task())
        await stream.cancel("task-1")
        writer = await write_log(rig.queue, [1], closed=False)
        await writer.close(EOS)
        assert (await rig.queue.append(LOG, closing(1))).subscribers == ()

    async def test_a_learner_that_died_between_subscribing_and_creating_opens_again(self, rig: Rig) -> None:
        await rig.queue.subscribe(LOG, Subscriber(TEACHER, "task-1"))
        await write_log(rig.queue, [1, 2])
        stream = ScoreStream(rig.queue, FLOW)
        await stream.resume(log_task(), 0)
        await self.work(rig)
        assert await self.taken(stream) == [("task-1", [1, 2])]

    @pytest.mark.parametrize("lost", ["out", "ready", "task:task-1", "flows", "everything", "blob"])
    async def test_whatever_the_server_loses_is_asked_for_again(self, rig: Rig, lost: str) -> None:
        stream = ScoreStream(rig.queue, FLOW)
        tokens = list(range(40))
        await stream.open(log_task())
        writer = await write_log(rig.queue, tokens[:1], closed=False)
        await self.work(rig)
        got = await self.taken(stream)
        await writer.append(segment("response", tokens[1:]))
        await writer.close(EOS)
        if lost != "ready":
            await self.work(rig)
        for each in (await rig.queue.read_out(FLOW)) if lost == "blob" else ():
            if each.envelope.WhichOneof("body") == "blob":
                assert rig.lose(rig.queue, each.envelope.blob.key)
        names = {
            "out": [FLOW.out],
            "ready": [FLOW.ready],
            "task:task-1": [FLOW.task("task-1"), FLOW.out],
            "flows": [f"pc1:{{{TEACHER}}}:flows", FLOW.out],
            "everything": [FLOW.out, FLOW.task("task-1"), FLOW.ready, LOG.ids, LOG.subs],
            "blob": [],
        }
        for key in names[lost]:
            rig.lose(rig.queue, key)
        if lost == "everything":  # the rollout service writes closed logs again when it is asked to
            await write_log(rig.queue, tokens)
        for _ in range(3):
            await stream.poke_all()
            got += await self.taken(stream)
            await self.work(rig)
            got += await self.taken(stream)
        assert [token for _, part in got for token in part] == tokens
        assert stream.open_tasks == {}

    async def test_a_stream_made_anew_under_a_clock_that_went_back_is_read_from_its_start(self, rig: Rig) -> None:
        stream = ScoreStream(rig.queue, FLOW)
        await stream.open(log_task())
        writer = await write_log(rig.queue, [1], closed=False)
        await self.work(rig)
        got = await self.taken(stream)
        rig.clock.advance(-3600)
        rig.lose(rig.queue, FLOW.out)
        await writer.append(segment("response", [2, 3]))
        await writer.close(EOS)
        await self.work(rig)
        for _ in range(3):
            got += await self.taken(stream)
            await stream.poke_all()
            await self.work(rig)
        assert [token for _, part in got for token in part] == [1, 2, 3]
        assert stream.open_tasks == {}

    async def test_a_restarted_learner_resumes_under_the_same_id_and_weights(self, rig: Rig) -> None:
        first = ScoreStream(rig.queue, FLOW)
        await first.open(log_task())
        writer = await write_log(rig.queue, [1, 2], closed=False)
        await self.work(rig)
        await self.taken(first)
        for key in (FLOW.out, FLOW.task("task-1"), LOG.subs):
            rig.lose(rig.queue, key)
        second = ScoreStream(rig.queue, FLOW)
        await second.resume(exact(log_task()), 2)
        await writer.append(segment("response", [3]))
        lease = await lease_one(rig.queue)
        assert (lease.next_row, lease.model) == (2, MODEL)
        await (await score(rig.queue, lease, 0)).commit(rig.queue)
        assert await self.taken(second) == [("task-1", [3])]

    async def test_a_death_whose_result_was_lost_is_told_from_the_task(self, rig: Rig) -> None:
        stream = ScoreStream(rig.queue, FLOW)
        await stream.open(inline_task())
        for _ in range(3):
            await rig.queue.fail(await lease_one(rig.queue), error(common_pb2.UNSUPPORTED, "no such want"))
        rig.lose(rig.queue, FLOW.out)
        await stream.poke_all()
        (told,) = (await stream.take()).deliveries
        assert (told.finished, told.envelope.error.message) == (True, "no such want")
        assert stream.open_tasks == {}

    async def test_a_lost_lease_set_does_not_keep_a_dead_workers_task_for_ever(self, rig: Rig) -> None:
        stream = ScoreStream(rig.queue, FLOW)
        await stream.open(inline_task())
        await lease_one(rig.queue)
        assert rig.lose(rig.queue, f"pc1:{{{TEACHER}}}:leases")
        await stream.poke_all()
        assert await rig.die() is TaskState.READY

    async def test_rows_read_twice_are_delivered_once(self, rig: Rig) -> None:
        stream = ScoreStream(rig.queue, FLOW)
        await stream.open(log_task())
        await write_log(rig.queue, [1, 2])
        await self.work(rig)
        assert len((await stream.take()).deliveries) == 1  # and it dies before it acknowledges
        again = ScoreStream(rig.queue, FLOW)
        await again.resume(log_task(), 2)
        assert (await again.take()).deliveries == ()

    async def test_rows_that_come_again_do_not_disturb_the_worker_that_goes_on(self, rig: Rig) -> None:
        await put(rig.queue, log_task())
        kept = (await rig.queue.commit(await lease_one(rig.queue), [rows(0, [1, 2])], 0, Then.KEEP)).lease
        assert kept is not None
        stream = ScoreStream(rig.queue, FLOW)
        await stream.resume(log_task(), 2)
        assert (await stream.take()).deliveries == ()
        await rig.queue.commit(kept, [rows(2, [3])], 3, Then.FINISH)
        assert await self.taken(stream) == [("task-1", [3])]

    async def lose_first_result(self, rig: Rig) -> None:
        (first, *_) = await rig.queue.read_out(FLOW, limit=1)
        await rig.queue.delete_out(FLOW, first.position)

    async def test_every_hole_is_asked_for_as_soon_as_it_is_seen(self, rig: Rig) -> None:
        stream = ScoreStream(rig.queue, FLOW)
        await stream.open(log_task())
        await write_log(rig.queue, [1, 2, 3, 4])
        got: list[tuple[str, list[int]]] = []
        for _ in range(2):
            lease = await lease_one(rig.queue)
            tokens = [1, 2, 3, 4][lease.next_row :]
            await rig.queue.commit(lease, [rows(lease.next_row + n, [token]) for n, token in enumerate(tokens[:2])], 0, Then.KEEP)
            await self.lose_first_result(rig)
            got += await self.taken(stream)  # sees the second and asks for the first
            with pytest.raises(Fenced):
                await rig.queue.heartbeat(lease)
            again = await lease_one(rig.queue)
            await rig.queue.commit(again, [rows(again.next_row, tokens[:1])], 0)
            await rig.queue.poke(FLOW, "task-1")
            got += await self.taken(stream)
        assert got == [("task-1", [1]), ("task-1", [2])]

    async def test_a_doubt_waits_until_the_stream_was_read_to_its_end(self, rig: Rig) -> None:
        stream = ScoreStream(rig.queue, FLOW)
        for name in ("lost", "other"):
            await stream.open(inline_task(name))
        for lease in await rig.queue.lease(FLOW, "w1", limit=2):
            await rig.queue.commit(lease, [rows(0, [1])], 0, Then.FINISH)
        await self.lose_first_result(rig)
        await stream.poke_all()
        assert len((await stream.take(limit=1)).deliveries) == 1
        assert await rig.queue.lease(FLOW, "w1") == ()  # there might have been more behind it
        await stream.take(limit=1)
        assert len(await rig.queue.lease(FLOW, "w1")) == 1
