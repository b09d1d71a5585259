"""`preceptor dlq` on a real server: letters are found, shown, replayed and dropped by the names that `list` prints."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from subprocess import PIPE
from typing import TypeVar

import pytest

from preceptor.cli import run
from preceptor.local.valkey import EmbeddedValkey
from preceptor.queue import Flow, ScoreStream, TaskState, Then
from preceptor.queue.redis import RedisQueue
from preceptor_proto.v1 import common_pb2, teacher_pb2
from tests.contract.queue_rig import BOUNDS, FLOW, TEACHER, TENANT, error, inline_task, lease_one, log_task, put, rows

T = TypeVar("T")
OTHER = Flow(TEACHER, TENANT, "job-2")


async def give_up(queue: RedisQueue, flow: Flow, task: teacher_pb2.ScoreTask) -> None:
    await put(queue, task, flow)
    for _ in range(3):
        await queue.fail(await lease_one(queue, flow=flow), error(common_pb2.INVALID_ARGUMENT, "id 9 is not in the vocabulary"))


def on(server: EmbeddedValkey, act: Callable[[RedisQueue], Awaitable[T]]) -> T:
    async def acted() -> T:
        queue = await RedisQueue.connect(server.url, password=server.password)
        try:
            return await act(queue)
        finally:
            await queue.close()

    return asyncio.run(acted())


@pytest.fixture
def letters(server: EmbeddedValkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Three dead tasks in two jobs: task -> letter."""
    secret = tmp_path / "password"
    secret.write_text(server.password)
    monkeypatch.setenv("PRECEPTOR_REDIS_URL", server.url)
    monkeypatch.setenv("PRECEPTOR_REDIS_PASSWORD_FILE", str(secret))

    async def fill(queue: RedisQueue) -> dict[str, str]:
        await queue._link.client.flushdb()
        await give_up(queue, FLOW, inline_task("task-1"))
        await give_up(queue, FLOW, log_task("task-2"))
        await give_up(queue, OTHER, inline_task("task-3"))
        found = [*await queue.dead_letters(FLOW), *await queue.dead_letters(OTHER)]
        return {each.letter.task.task_id: each.letter_id for each in found}

    return on(server, fill)


def said(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> str:
    assert run(["dlq", *argv]) == code
    told = capsys.readouterr()
    return told.out if code == 0 else told.err


def test_list_names_every_letter_and_filters_leave_some(letters: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    header, *rows = [line.split("\t") for line in said(capsys, "list").splitlines()]
    assert header[:5] == ["letter", "teacher", "tenant", "job", "task"]
    assert {(row[4], row[0], row[5]) for row in rows} == {(task, letter, "INVALID_ARGUMENT") for task, letter in letters.items()}
    found = json.loads(said(capsys, "list", "--json", "--job", OTHER.job))
    assert [(one["task"], one["attempts"], one["message"]) for one in found] == [("task-3", 3, "id 9 is not in the vocabulary")]
    assert json.loads(said(capsys, "list", "--json", "--tenant", "nobody")) == []


def test_show_says_what_it_was_and_why(letters: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    inline = json.loads(said(capsys, "show", letters["task-1"], "--json", "--job", FLOW.job))
    assert inline["trace"] == "trace of task-1"
    assert inline["reads"].endswith("tokens of its own")
    assert "response log" in said(capsys, "show", letters["task-2"], "--job", FLOW.job)
    assert "NOT_FOUND: no dead letter 7-7" in said(capsys, "show", "7-7", code=2)


def test_replay_makes_them_ready_and_drop_leaves_them_dead(
    letters: dict[str, str], server: EmbeddedValkey, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "task-1\tready" in said(capsys, "replay", letters["task-1"], "--job", FLOW.job)
    assert "task-3\tdropped" in said(capsys, "drop", "--all", "--job", OTHER.job)
    left = json.loads(said(capsys, "list", "--json"))
    assert [one["task"] for one in left] == ["task-2"]

    async def states(queue: RedisQueue) -> list[TaskState]:
        infos = [await queue.task_info(FLOW, "task-1"), await queue.task_info(OTHER, "task-3")]
        return [info.state for info in infos if info is not None]

    assert on(server, states) == [TaskState.READY, TaskState.DEAD]


async def fail_again(queue: RedisQueue) -> None:
    for _ in range(3):
        await queue.fail(await lease_one(queue), error(common_pb2.INVALID_ARGUMENT, "still no id 9"))


def test_a_replay_that_fails_again_is_a_new_letter_with_the_new_reason(
    letters: dict[str, str], server: EmbeddedValkey, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "replay", letters["task-1"], "--job", FLOW.job)
    on(server, fail_again)
    [again] = [one for one in json.loads(said(capsys, "list", "--json")) if one["task"] == "task-1"]
    assert again["letter"] != letters["task-1"]
    assert (again["message"], again["attempts"]) == ("still no id 9", 3)
    assert "NOT_FOUND" in said(capsys, "replay", letters["task-1"], "--job", FLOW.job, code=2)
    assert "task-1\tready" in said(capsys, "replay", again["letter"], "--job", FLOW.job)


def test_of_many_who_replay_at_once_one_does_and_nobody_stops_at_what_is_gone(
    letters: dict[str, str], server: EmbeddedValkey
) -> None:
    commands = [subprocess.Popen([sys.executable, "-m", "preceptor", "dlq", "replay", "--all"], stdout=PIPE) for _ in range(4)]
    told = [command.communicate(timeout=60)[0].decode().splitlines() for command in commands]
    assert [command.returncode for command in commands] == [0] * 4
    outcomes = [tuple(line.split("\t")[1:]) for lines in told for line in lines]
    assert sorted(task for task, outcome in outcomes if outcome == "ready") == sorted(letters)
    assert {outcome for _, outcome in outcomes} <= {"ready", "gone"}

    async def leased(queue: RedisQueue) -> list[str]:
        found = [*await queue.lease(FLOW, "w", limit=9), *await queue.lease(OTHER, "w", limit=9)]
        return sorted(lease.task_id for lease in found)

    assert on(server, leased) == sorted(letters), "each is ready once"


def test_what_somebody_broke_keeps_none_of_the_others(
    letters: dict[str, str], server: EmbeddedValkey, capsys: pytest.CaptureFixture[str]
) -> None:
    """A letter without a task that could be read, and a job whose letters cannot be read."""

    async def break_some(queue: RedisQueue) -> None:
        client = queue._link.client
        await give_up_unread(queue)
        await client.delete(OTHER.dead)
        await client.xadd(OTHER.dead, {"p": b"\xff"})

    on(server, break_some)
    assert run(["dlq", "replay", "--all"]) == 2
    told = capsys.readouterr()
    assert "task-1\tready" in told.out
    assert "task-2\tready" in told.out
    assert "broken\tfailed: " in told.out
    assert f"{TENANT}/{OTHER.job} of {TEACHER} cannot be read" in told.err
    assert "INVALID_ARGUMENT" in told.err
    assert "broken\tdropped" in said(capsys, "drop", "--all")


async def give_up_unread(queue: RedisQueue) -> None:
    """A task whose bytes are changed behind the queue's back is a letter at its first lease."""
    await put(queue, inline_task("broken"))
    await queue._link.client.hset(FLOW.task("broken"), "spec", b"\xff")
    assert await queue.lease(FLOW, "w") == ()


async def test_a_replay_after_its_rows_were_lost_ends_with_an_answer(server: EmbeddedValkey) -> None:
    """The blob of its first rows is gone and the task is dead: the learner is told; rows of a replay find nobody who waits."""
    queue = await RedisQueue.connect(server.url, password=server.password, bounds=BOUNDS)
    try:
        await queue._link.client.flushdb()
        stream = ScoreStream(queue, FLOW)
        await stream.open(inline_task("task-1"))
        await queue.commit(await lease_one(queue), [rows(0, list(range(40)))], 0, Then.RELEASE)
        await queue.poke(FLOW, "task-1")
        await fail_again(queue)
        [entry, _] = await queue.read_out(FLOW)
        assert await queue._link.client.delete(entry.envelope.blob.key) == 1
        taken = await stream.take()
        [told] = taken.deliveries
        assert (told.finished, told.envelope.error.message, told.end) == (True, "still no id 9", 0)
        await stream.acknowledge(taken)
        [letter] = await queue.dead_letters(FLOW)
        assert await queue.replay_dead_letter(FLOW, letter.letter_id) is TaskState.READY
        await queue.commit(await lease_one(queue), [rows(40, [1])], 0, Then.FINISH)
        taken = await stream.take()
        assert taken.deliveries == ()
        await stream.acknowledge(taken)
        assert await queue.read_out(FLOW) == (), "they are not kept for ever"
    finally:
        await queue.close()


@pytest.mark.parametrize("argv", [("replay",), ("drop", "1-1", "--all")])
def test_what_to_act_on_is_said_and_said_once(
    letters: dict[str, str], argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--all" in said(capsys, *argv, code=2)
    assert len(json.loads(said(capsys, "list", "--json"))) == len(letters)


def test_without_a_queue_it_says_which_flag(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("PRECEPTOR_REDIS_URL", raising=False)
    assert "--redis-url" in said(capsys, "list", code=2)
