"""Who gets the engine next."""

from __future__ import annotations

import asyncio

import pytest

from preceptor.errors import DeadlineExceeded, Exhausted
from preceptor_rollout.gate import Gate
from preceptor_serving.scheduler.types import FlowKey, Task, Work


def task(name: str, job: str, tokens: int = 100, deadline_s: float | None = None) -> Task:
    now_s = asyncio.get_running_loop().time()
    return Task(name, FlowKey("tiny", "local", job, 0), Work(tokens, 0), 1.0, now_s + (deadline_s or 60))


def granted(turns) -> list[str]:
    return [turn.task.task_id for turn in turns if turn.granted.done()]


async def test_slots_are_filled_in_order_and_given_on():
    gate = Gate(2, 10)
    turns = gate.enter([task(name, "a") for name in "xyz"])
    assert granted(turns) == ["x", "y"]
    gate.leave(turns[0])
    gate.leave(turns[0])  # again: nothing happens
    assert granted(turns) == ["x", "y", "z"]
    assert len(gate.enter([task("w", "a")])) == 1


async def test_a_small_job_does_not_wait_for_the_whole_of_a_large_one():
    gate = Gate(1, 100)
    large = gate.enter([task(f"large-{i}", "large") for i in range(20)])
    (small,) = gate.enter([task("small", "small")])
    order: list[str] = []
    waiting = [*large, small]
    while waiting:
        (turn,) = [turn for turn in waiting if turn.granted.done()]
        order.append(turn.task.task_id)
        turn.tokens = 100
        waiting.remove(turn)
        gate.leave(turn)
    assert order.index("small") <= 2


async def test_a_call_enters_whole_or_not_at_all():
    gate = Gate(1, 3)
    with pytest.raises(Exhausted):
        gate.enter([task(f"t{i}", "a") for i in range(5)])
    turns = gate.enter([task(f"t{i}", "a") for i in range(3)])
    assert granted(turns) == ["t0"]


async def test_who_leaves_before_his_turn_is_not_given_one():
    gate = Gate(1, 10)
    first, second, third = gate.enter([task(name, "a") for name in "xyz"])
    gate.leave(second)
    gate.leave(first)
    assert granted([second]) == []
    assert granted([third]) == ["z"]


async def test_who_steps_aside_lets_others_run_and_comes_back_before_anybody_new():
    gate = Gate(1, 10)
    first, second, third = gate.enter([task(name, "a") for name in "xyz"])
    gate.step_aside(first)
    gate.step_aside(first)  # again: nothing happens
    assert granted([second, third]) == ["y"]
    back = asyncio.create_task(gate.come_back(first, 5))
    await asyncio.sleep(0)
    assert not back.done()
    gate.leave(second)
    await back
    assert granted([third]) == []
    gate.leave(first)
    assert granted([third]) == ["z"]


async def test_who_leaves_while_aside_or_on_his_way_back_takes_no_slot_with_him():
    gate = Gate(1, 10)
    first, second, third = gate.enter([task(name, "a") for name in "xyz"])
    gate.step_aside(first)
    gate.leave(first)
    gate.step_aside(second)
    assert granted([third]) == ["z"]
    with pytest.raises(DeadlineExceeded):
        await gate.come_back(second, 0.01)
    gate.leave(second)
    gate.leave(third)
    last = gate.enter([task(name, "a") for name in "vw"])
    assert granted(last) == ["v"]


async def test_a_deadline_that_passes_in_the_queue_is_told():
    gate = Gate(1, 10)
    (first,) = gate.enter([task("x", "a")])
    (late,) = gate.enter([task("y", "a", deadline_s=0.01)])
    await asyncio.sleep(0.05)
    gate.leave(first)
    with pytest.raises(DeadlineExceeded):
        await late.granted
    gate.leave(late)
