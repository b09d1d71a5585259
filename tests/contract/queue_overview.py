"""What people see of a queue is what is in it."""

from __future__ import annotations

from preceptor.queue import ClockCharge, Then
from preceptor_proto.v1 import common_pb2
from tests.contract.queue_rig import BOUNDS, FLOW, TEACHER, error, inline_task, lease_one, put, rows
from tests.contract.queue_suite import OTHER_JOB, Rig


class OverviewRules:
    async def test_every_job_is_described_by_what_it_has(self, rig: Rig) -> None:
        assert await rig.queue.teachers() == ()
        assert await rig.queue.describe_flows(TEACHER) == ()
        for n in range(6):
            await put(rig.queue, inline_task(f"task-{n}"))
        await put(rig.queue, inline_task("elsewhere"), OTHER_JOB)
        await rig.queue.commit(await lease_one(rig.queue), [rows(0, [1, 2])], 0, Then.FINISH)
        for _ in range(3):
            await rig.queue.fail(await lease_one(rig.queue), error(common_pb2.UNSUPPORTED))
        await rig.queue.fail(await lease_one(rig.queue), error(common_pb2.ENGINE_FAILED))
        await rig.queue.lease(FLOW, "w1", limit=2)
        await rig.queue.advance_clocks(TEACHER, [ClockCharge(FLOW, 2, 0.0, 0.0, 7.5), ClockCharge(FLOW, 0, 0.0, 0.0, 1.5)])
        assert await rig.queue.teachers() == (TEACHER,)
        views = {view.flow: view for view in await rig.queue.describe_flows(TEACHER)}
        assert set(views) == {FLOW, OTHER_JOB}
        mine, other = views[FLOW], views[OTHER_JOB]
        assert (mine.ready, mine.suspects, mine.leased, mine.unread_results, mine.dead_letters) == (2, 1, 2, 2, 1)
        assert mine.clocks == {0: 1.5, 2: 7.5}
        assert (other.ready, other.suspects, other.leased, other.unread_results, other.dead_letters) == (1, 0, 0, 0, 0)
        (band, _) = await rig.queue.ready_bands(TEACHER)
        assert mine.unread_bytes == band.unread_bytes > 0
        assert not mine.empty

    async def test_a_job_with_nothing_but_a_dead_letter_stays_listed(self, rig: Rig) -> None:
        await put(rig.queue, inline_task())
        await put(rig.queue, inline_task("elsewhere"), OTHER_JOB)
        await rig.queue.cancel(OTHER_JOB, "elsewhere")
        for _ in range(3):
            await rig.queue.fail(await lease_one(rig.queue), error(common_pb2.UNSUPPORTED))
        await rig.queue.delete_out(FLOW, (await rig.queue.read_out(FLOW))[-1].position)
        rig.clock.advance(BOUNDS.idle_flow_s + 1)
        await rig.queue.reclaim(TEACHER)
        assert [(view.flow, view.dead_letters, view.empty) for view in await rig.queue.describe_flows(TEACHER)] == [
            (FLOW, 1, False)
        ]
