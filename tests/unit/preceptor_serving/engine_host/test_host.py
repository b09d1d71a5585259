"""An engine in a process of its own: it is loaded or says why not, dies alone, hangs not for ever, and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import psutil
import pytest
from structlog.testing import capture_logs

from preceptor.errors import ConfigurationError, DeadlineExceeded, EngineFailed, Internal, Unsupported
from preceptor.types import Scored, Sequence, Want
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engine_host.host import EngineHost
from preceptor_serving.engine_host.policy import HostPolicy
from preceptor_serving.engine_host.process import EngineProcess
from preceptor_serving.engine_host.scoring import ScoringClient
from preceptor_serving.engines.protocol import ScoreItem

QUICK = HostPolicy(heartbeat_s=0.1, backoff_first_s=0.05, restart_wait_s=30.0, stop_grace_s=0.5)
CRASH, HANG = 60, 59
SLOW: dict[str, object] = {"tokens_per_s": 20.0}


class Watched:
    """A started host, and what it told about its health."""

    def __init__(self, options: dict[str, object], policy: HostPolicy) -> None:
        self.health: list[str | None] = []
        self.life: list[tuple[bool, bool]] = []  # at each of these moments: starting, heard of
        self.host = EngineHost(EngineSpec("teacher-a", "fake", options), policy, self._hear)

    def _hear(self, why_down: str | None) -> None:
        self.health.append(why_down)
        self.life.append((self.host.starting, self.host.heard_s is not None))

    async def score(self, *tokens: int, timeout_s: float = 30.0) -> int:
        """Number of rows."""
        item = ScoreItem(Sequence.of([1], tokens), Want(sampled=True))
        [outcome] = await ScoringClient(self.host).score([item], timeout_s=timeout_s)
        assert isinstance(outcome, Scored), outcome
        return outcome.rows.count


@asynccontextmanager
async def started(options: dict[str, object] | None = None, policy: HostPolicy = QUICK) -> AsyncGenerator[Watched]:
    watched = Watched({"crash_token": CRASH, "hang_token": HANG} | (options or {}), policy)
    await watched.host.start()
    try:
        yield watched
    finally:
        await watched.host.stop()


async def ended(pid: int | None) -> None:
    assert pid is not None
    async with asyncio.timeout(20):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_calls_in_flight_fail_retryably_when_the_process_dies_and_the_next_call_works() -> None:
    async with started() as engine:
        pid = engine.host.pid
        calls = [asyncio.create_task(engine.score(*[2] * n)) for n in (1, 2)] + [asyncio.create_task(engine.score(CRASH))]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(results[2], EngineFailed)
        assert results[2].retryable
        assert (results[2].retry_after_s or 0.0) > 0
        assert all(isinstance(result, EngineFailed) or result in (1, 2) for result in results)
        assert await engine.score(2) == 1
        assert engine.host.pid != pid
        assert engine.host.restarts == 1
        assert engine.health == [None, "was killed by SIGKILL", None]
        assert engine.life == [(True, True), (False, True), (True, True)]
        assert not engine.host.starting
        await ended(pid)


async def test_a_call_that_hangs_is_ended_by_its_own_deadline_and_the_engine_by_its_limit() -> None:
    async with started(policy=replace(QUICK, turn_limit_s=0.5)) as engine:
        with pytest.raises(DeadlineExceeded):
            await engine.score(HANG, timeout_s=0.1)
        with pytest.raises(EngineFailed, match="hung"):  # it waited behind the hanging one: worth another try
            await engine.score(2)
        assert await engine.score(2) == 1
        assert engine.health[1] == "hung: one call ran for more than 0.5 s"


async def test_a_process_that_answers_no_heartbeat_is_replaced() -> None:
    async with started(policy=replace(QUICK, heartbeat_timeout_s=0.5)) as engine:
        assert engine.host.pid is not None
        os.kill(engine.host.pid, signal.SIGSTOP)
        with pytest.raises(EngineFailed, match="no heartbeat"):
            await engine.score(2)
        assert await engine.score(2) == 1


async def test_a_caller_that_leaves_does_not_disturb_the_others() -> None:
    async with started(SLOW) as engine:
        leaving, staying = asyncio.create_task(engine.score(2)), asyncio.create_task(engine.score(2, 3))
        await asyncio.sleep(0.02)
        leaving.cancel()
        assert await staying == 2
        assert engine.host.open_calls == 0


async def test_stopping_finishes_what_is_open() -> None:
    async with started(SLOW, replace(QUICK, stop_grace_s=20.0)) as engine:
        call = asyncio.create_task(engine.score(2, 3, 4))
        await asyncio.sleep(0.05)
        await engine.host.stop()
        assert await call == 3
        with pytest.raises(EngineFailed, match="stopped"):
            await engine.score(2, timeout_s=0.05)
        assert engine.health == [None]


@pytest.mark.parametrize(
    ("engine", "options", "error", "says"),
    [
        ("fake", {"fail_to_load": True}, ConfigurationError, "staged failure"),
        ("fake", {"sped": 1}, ConfigurationError, "sped"),
        ("fak", {}, ConfigurationError, "fak"),
        ("fake", {"load_s": 60.0}, EngineFailed, "not loaded within"),
    ],
)
async def test_an_engine_that_cannot_be_loaded_says_why(engine: str, options: dict[str, object], error: type, says: str) -> None:
    host = EngineHost(
        EngineSpec("a", engine, options), replace(QUICK, start_timeout_s=20.0 if error is ConfigurationError else 0.2)
    )
    before = _children()
    with pytest.raises(error, match=says):
        await host.start()
    assert (host.starting, host.heard_s) == (False, None)
    assert _children() <= before


def _children() -> set[int]:
    """Running ones; another file's server may be among them."""
    return {child.pid for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE}


async def test_a_call_that_no_engine_has_is_named() -> None:
    async with started() as engine:
        with pytest.raises(Unsupported) as caught:
            await engine.host.call("dream", b"", timeout_s=10)
        assert (caught.value.field, caught.value.value) == ("method", "dream")


async def test_the_childs_log_is_told_with_its_traceback_and_its_engine() -> None:
    with capture_logs() as told:
        async with started({"defect_token": 58}) as engine:
            with pytest.raises(Internal):
                await engine.score(58)
    [line] = [event for event in told if event.get("engine_logger") == "preceptor.engine"]
    assert (line["engine"], line["log_level"]) == ("teacher-a", "error")
    assert line["event"].endswith("RuntimeError: the staged defect")


def test_pauses_grow_and_are_bounded() -> None:
    policy = HostPolicy(backoff_first_s=0.2, backoff_max_s=30.0)
    pauses = [policy.backoff_s(failures) for failures in range(1, 60)]
    assert pauses[:3] == [0.2, 0.4, 0.8]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 30.0


async def test_an_unforeseen_failure_of_a_restart_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    spawn, failures = EngineProcess.spawn, iter([ValueError("a frame of somebody else")])

    async def fails_once(spec: EngineSpec, policy: HostPolicy) -> EngineProcess:
        for failure in failures:
            raise failure
        return await spawn(spec, policy)

    async with started() as engine:
        monkeypatch.setattr(EngineProcess, "spawn", fails_once)
        with pytest.raises(EngineFailed):
            await engine.score(CRASH)
        while "could not be restarted: a frame of somebody else" not in engine.health:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert await engine.score(2) == 1


async def test_what_the_reader_cannot_handle_ends_the_process_and_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(life: EngineProcess, frame: object) -> None:
        raise LookupError("no such thing")

    async with started() as engine:
        monkeypatch.setattr(EngineProcess, "_hand_over", cannot)
        async with asyncio.timeout(60):
            with pytest.raises(EngineFailed, match="broke the protocol: no such thing"):
                await engine.score(2, timeout_s=600)
        monkeypatch.undo()
