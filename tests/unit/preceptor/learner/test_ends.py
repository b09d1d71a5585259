"""Every wait of a learner has an end: services that are away, silent, or wrong give one clear line."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from preceptor.errors import (
    Conflict,
    DeadlineExceeded,
    EngineFailed,
    InvalidArgument,
    PreceptorError,
    Unavailable,
    Unsupported,
    WrongPair,
)
from preceptor.learner import NoHooks, Patiences
from preceptor.learner.waits import Patience, Pulse, beside, persist, together
from preceptor.queue import Flow
from preceptor_proto.v1 import common_pb2, student_pb2
from tests.unit.preceptor.learner.world import ALL, JUDGE, RUN, TEACHER, FakeRollout, FakeTeacher, World, plan, recipe

SHORT = Patiences(deadline_s=0.3, connect_s=0.1, repoke_s=0.02)


async def test_a_teacher_that_never_scores_ends_the_run_and_nothing_is_lost(tmp_path: Path) -> None:
    world = World(tmp_path, patience=SHORT)
    with pytest.raises(DeadlineExceeded, match=r"no score arrived for 0\.3 s while 4 tasks of run-1") as failed:
        await world.learner().run()
    assert TEACHER in failed.value.hint
    world.patience = Patiences(deadline_s=2.0, repoke_s=0.02)
    await world.run()
    assert world.student.computed == {1: 1, 2: 1, 3: 1}


async def test_services_that_are_away_are_named_at_once(tmp_path: Path) -> None:
    world = World(tmp_path, patience=SHORT)
    world.rollout.down = 10_000
    with pytest.raises(Unavailable, match=r"the rollout service does not answer: .*nobody listens at 127\.0\.0\.1:50052"):
        await world.run()
    world.rollout.down = 0
    world.teacher = FakeTeacher(away=True)
    with pytest.raises(Unavailable, match="the teacher service does not answer"):
        await world.run()
    world.teacher = FakeTeacher()
    world.student.refuse = [Unavailable("nobody listens at 127.0.0.1:50053", retry_after_s=0.01)] * 10_000
    with pytest.raises(DeadlineExceeded, match=r"opening the run at the student did not work for 0\.3 s"):
        await world.run()


async def test_a_rollout_service_that_goes_silent_is_given_up(tmp_path: Path) -> None:
    world = World(tmp_path, plan=_without_evaluation(), patience=SHORT)
    world.rollout.silent = True
    with pytest.raises(DeadlineExceeded, match=r"generating rollouts did not work for 0\.3 s; .*said nothing for 0\.3 s"):
        await world.run()


async def test_a_service_that_is_away_for_a_moment_costs_a_moment(tmp_path: Path) -> None:
    world = World(tmp_path)
    original = world.rollout.generate

    def flapping(request, *, deadline_s):
        world.rollout.down = 1 if world.rollout.calls["generate"] % 3 == 1 else 0
        return original(request, deadline_s=deadline_s)

    world.rollout.generate = flapping  # pyright: ignore[reportAttributeAccessIssue]
    await world.run()
    assert world.student.computed == {1: 1, 2: 1, 3: 1}


async def test_pairs_that_do_not_fit_and_wants_nobody_serves_are_refused_before_any_work(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.teacher = FakeTeacher(tokenizer=bytes(31) + b"x")
    with pytest.raises(WrongPair, match="do not share a tokenizer"):
        await world.run()
    world.teacher = FakeTeacher(can=replace(ALL, max_topk=1, tail=False, deterministic=False))
    with pytest.raises(Unsupported, match="top-2, its most is 1; no tail; no deterministic mode"):
        await world.run()
    assert world.student.epoch == 0


async def test_deterministic_mode_needs_a_student_on_the_cpu(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.student.device = "cuda:1"
    with pytest.raises(Unsupported, match="trains on cuda:1") as refused:
        await world.run()
    assert refused.value.field == "schedule.deterministic"
    assert world.student.computed == {}
    elsewhere = World(tmp_path / "other", plan=plan(recipe(deterministic=False)))
    elsewhere.student.device = "cuda:1"
    await elsewhere.run()
    assert elsewhere.student.computed == {1: 1, 2: 1, 3: 1}


async def test_hidden_states_need_a_teacher_that_has_them_and_a_student_that_has_the_head_behind_them(tmp_path: Path) -> None:
    raw = recipe()
    raw["terms"] = [{"on": "rollouts", "teacher": "tutor", "signal": "hidden", "objective": "reverse_kl"}]
    raw["teachers"] = {"tutor": {"model": TEACHER}}
    world = World(tmp_path, plan=plan(raw))
    with pytest.raises(Unsupported, match="no hidden states"):
        await world.run()
    assert world.student.epoch == 0
    world.teacher, asked = FakeTeacher(can=replace(ALL, hidden=True), head=bytes(range(32))), []

    async def without_head(request: student_pb2.OpenRunRequest, *, deadline_s: float) -> student_pb2.StudentStatus:
        asked.extend(request.head_sha256)
        raise Unsupported("no such head", field="head_sha256")

    world.student.open_run = without_head  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(Unsupported, match="no such head"):
        await world.run()
    assert asked == [bytes(range(32))]  # once: no later answer would be another
    assert world.rollout.asked == []


def by_steps(**params: Any) -> dict[str, Any]:
    """A recipe that learns from a judge's verdicts on steps."""
    signal = {"op": "step_reward", "params": params}
    learned = {
        "on": "rollouts",
        "teacher": "judge",
        "signal": signal,
        "objective": "policy_gradient",
        "advantage": "step_relative",
    }
    return {**recipe(), "terms": [learned], "teachers": {"judge": {"model": JUDGE}}}


async def test_a_grader_that_declares_no_steps_is_refused_before_any_rollout(tmp_path: Path) -> None:
    own = "of_an_operator"  # which no linter knows
    world = World(tmp_path, plan=plan(by_steps(grader=own)))
    world.teacher.grader = own
    with pytest.raises(Unsupported, match=f"no verdicts on steps by grader {own}") as refused:
        await world.run()
    assert refused.value.field == "teachers.judge"
    assert (world.student.epoch, world.rollout.asked, world.teacher.group_sizes) == (0, [], [])
    world.teacher.stepping = (own,)
    with pytest.raises(Unsupported, match="tells no steps apart"):  # it declared what its verdicts do not hold
        await world.run()
    assert world.teacher.group_sizes


async def test_chunks_that_are_compared_by_vectors_need_a_provider_that_has_them(tmp_path: Path) -> None:
    world = World(tmp_path, plan=plan(by_steps(grader="chunks", parameters={"compare": "embedding"})))
    world.teacher.grader, world.teacher.stepping = "chunks", ("chunks",)
    with pytest.raises(Unsupported, match="no embeddings, which grader chunks is told to compare by"):
        await world.run()
    assert (world.rollout.asked, world.teacher.group_sizes) == ([], [])


async def test_a_teacher_that_writes_needs_a_rollout_service_of_its_own(tmp_path: Path) -> None:
    raw = recipe()
    raw["sources"] = {"shown": {"writer": "tutor", "samples_per_prompt": 2, "max_response_tokens": 5}}
    raw["terms"] = [{"on": "shown", "objective": "nll"}]
    raw["teachers"] = {"tutor": {"model": TEACHER}}
    world = World(tmp_path, plan=plan(raw))
    with pytest.raises(Unavailable, match=f"nobody writes rollouts as {TEACHER}"):
        await world.run()
    world.writers[TEACHER] = FakeRollout(world.queue, writer="teacher")
    await world.run()
    assert world.writers[TEACHER].calls["load_weights"] == 0
    assert world.rollout.asked == []
    assert {item.source for batches in world.student.batches.values() for batch in batches for item in batch.items} == {"shown"}


async def test_a_task_that_is_given_up_ends_the_run_until_its_letter_is_replayed(tmp_path: Path) -> None:
    world = World(tmp_path)
    flow = Flow(TEACHER, "local", RUN)
    bad = common_pb2.ErrorDetail(code=common_pb2.TOO_LARGE, field="sequence", message="longer than the teacher reads")

    async def refuse_everything() -> None:
        while True:
            await world.queue.wait_ready(TEACHER, 0.05)
            for lease in await world.queue.lease(flow, "w"):
                await world.queue.fail(lease, bad)

    for _ in range(2):  # the second time the queue still knows
        worker = asyncio.create_task(refuse_everything())
        with pytest.raises(PreceptorError, match=f"teacher {TEACHER} gave up run-1/0/.*longer than the teacher reads"):
            await world.learner().run()
        worker.cancel()
        with suppress(asyncio.CancelledError):
            await worker
    for entry in await world.queue.dead_letters(flow):
        await world.queue.replay_dead_letter(flow, entry.letter_id)
    await world.run()
    assert world.student.computed == {1: 1, 2: 1, 3: 1}


async def test_stopping_by_hand_loses_nothing(tmp_path: Path) -> None:
    whole, world = World(tmp_path / "whole"), World(tmp_path / "stopped")
    await whole.run()
    for turns in range(1, 120, 13):
        async with world.working():
            running = asyncio.create_task(world.learner().run())
            for _ in range(turns):
                await asyncio.sleep(0.002)
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
    await world.run()
    assert world.student.now == whole.student.now
    assert all(count == 1 for count in world.student.computed.values())


async def test_two_students_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """Somebody else loads weights into the rollout service of this run: no token of theirs is trained on."""
    world = World(tmp_path, plan=_without_evaluation(), patience=SHORT)
    original = world.rollout.load_weights

    async def another(request, *, deadline_s):
        reply = await original(request, deadline_s=deadline_s)
        world.rollout.weights = replace(world.rollout.weights, run="another-run")
        return reply

    world.rollout.load_weights = another  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(
        DeadlineExceeded, match=r"drew from student \(run another-run, step 0\) instead of student \(run run-1, step 0\)"
    ):
        await world.run()
    assert world.student.computed == {}


# ---------------------------------------------------------------- waits


async def test_persisting_ends_at_a_mistake_or_at_the_deadline() -> None:
    attempts = 0

    async def fails(_left_s: float) -> None:
        nonlocal attempts
        attempts += 1
        raise InvalidArgument("wrong") if attempts == 3 else EngineFailed("died", retry_after_s=0.001)

    with pytest.raises(InvalidArgument):
        await persist(fails, "it", 5.0)
    assert attempts == 3

    async def away(_left_s: float) -> None:
        raise Unavailable("away")

    with pytest.raises(DeadlineExceeded, match=r"it did not work for 0\.05 s; the last attempt said: away"):
        await persist(away, "it", 0.05)


async def test_what_moves_starts_the_clock_again() -> None:
    patience = Patience("it", 10.0)
    with pytest.raises(DeadlineExceeded):
        await patience.wait(Unavailable("away", retry_after_s=11.0))
    await patience.wait(Unavailable("away", retry_after_s=0.001))
    patience.moved()
    assert patience.left_s > 9.0


async def test_a_pulse_wakes_and_a_stall_is_told() -> None:
    pulse, count = Pulse(), 0

    async def beats() -> None:
        nonlocal count
        for _ in range(3):
            await asyncio.sleep(0.001)
            count += 1
            pulse.beat()

    await asyncio.gather(pulse.until(lambda: count == 3, 5.0, AssertionError), beats())  # type: ignore[arg-type]
    with pytest.raises(Conflict, match="stalled"):
        await pulse.until(lambda: False, 0.01, lambda: Conflict("stalled"))


async def test_failures_beside_the_work_end_it_and_are_what_is_raised() -> None:
    async def fails() -> None:
        raise Conflict("beside")

    async def forever() -> None:
        await asyncio.Event().wait()

    async def works() -> int:
        return 7

    with pytest.raises(Conflict, match="beside"):
        await beside(fails(), forever())
    with pytest.raises(Unavailable, match="ended by itself"):
        await beside(asyncio.sleep(0), forever())
    assert await beside(forever(), works()) == 7
    with pytest.raises(Conflict, match="beside"):
        await together(forever(), fails())


def _without_evaluation():
    raw = recipe()
    raw["evaluation"] = None
    return plan(raw)


def test_hooks_that_nobody_set_do_nothing() -> None:
    assert NoHooks().reached("anywhere") is None


async def test_a_student_that_publishes_another_run_is_told_of(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.student.publishes_as = "somebody-else"
    with pytest.raises(Conflict, match="somebody-else"):
        await world.run()
