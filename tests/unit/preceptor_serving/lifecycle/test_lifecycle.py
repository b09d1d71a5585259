"""The states of a service, and stopping in order."""

from __future__ import annotations

import asyncio
import os
import signal

from hypothesis import given
from hypothesis import strategies as st

from preceptor_serving.lifecycle.signals import stop_signals
from preceptor_serving.lifecycle.stages import Stage, run_stages
from preceptor_serving.lifecycle.state import Lifecycle, State, Status

MOVES = {
    "load": lambda life: life.loading("weights"),
    "ready": lambda life: life.ready(),
    "soft": lambda life: life.trouble("redis", "away", blocks=False),
    "hard": lambda life: life.trouble("engine", "died", blocks=True),
    "clear soft": lambda life: life.clear("redis"),
    "clear hard": lambda life: life.clear("engine"),
    "drain": lambda life: life.draining("asked"),
    "stop": lambda life: life.stopped(),
}


@given(st.lists(st.sampled_from(sorted(MOVES)), max_size=20))
def test_whatever_happens_the_state_is_truthful(moves: list[str]) -> None:
    life, seen = Lifecycle(), list[Status]()
    life.listen(seen.append)
    loaded, soft, hard, ended = False, False, False, None
    for move in moves:
        MOVES[move](life)
        loaded |= move == "ready" and ended is None
        soft = move == "soft" or (soft and move != "clear soft")
        hard = move == "hard" or (hard and move != "clear hard")
        if move in ("drain", "stop") and ended is not State.STOPPED:
            ended = State.DRAINING if move == "drain" else State.STOPPED
        expected = ended or (State.LOADING if not loaded else State.DEGRADED if soft or hard else State.READY)
        status = life.status()
        assert status.state is expected
        assert status.serving is (expected in (State.READY, State.DEGRADED) and not hard)
        assert life.accepts is (expected in (State.READY, State.DEGRADED))
        assert bool(status.reasons) is (expected is not State.READY)
    assert not seen or seen[-1] == life.status()


def test_only_the_first_who_asks_drains() -> None:
    life = Lifecycle()
    assert life.draining("SIGTERM")
    assert not life.draining("SIGINT")
    assert life.status().reasons == {"service": "SIGTERM"}


def test_a_probe_is_asked_whenever_the_status_is_read() -> None:
    life, answer = Lifecycle(), [None]
    life.probe("key_file", lambda: answer[0])
    life.ready()
    assert life.status().state is State.READY
    answer[0] = "unreadable"
    status = life.status()
    assert (status.state, status.serving, status.reasons) == (State.DEGRADED, True, {"key_file": "unreadable"})


def test_only_changes_are_told() -> None:
    life, seen = Lifecycle(), list[State]()
    life.listen(lambda status: seen.append(status.state))
    for _ in range(2):
        life.ready()
        life.trouble("redis", "away", blocks=False)
    for _ in range(2):
        life.clear("redis")
    assert seen == [State.LOADING, State.READY, State.DEGRADED, State.READY]


async def test_stages_run_in_order_whatever_the_ones_before_did() -> None:
    ran: list[str] = []

    async def work(name: str, error: Exception | None = None) -> None:
        ran.append(name)
        if error is not None:
            raise error

    failed = await run_stages(
        (
            Stage("first", lambda: work("first"), 5),
            Stage("broken", lambda: work("broken", ValueError("x")), 5),
            Stage("endless", asyncio.Event().wait, 0.01),
            Stage("last", lambda: work("last"), 5),
        )
    )
    assert failed == ["broken", "endless"]
    assert ran == ["first", "broken", "last"]


async def test_the_first_signal_asks_and_the_second_exits() -> None:
    asked, exits = asyncio.Queue[str](), asyncio.Queue[int]()
    with stop_signals(asked.put_nowait, exits.put_nowait):
        os.kill(os.getpid(), signal.SIGTERM)
        assert await asyncio.wait_for(asked.get(), 5) == "SIGTERM"
        assert exits.empty()
        os.kill(os.getpid(), signal.SIGINT)
        assert await asyncio.wait_for(exits.get(), 5) == 128 + signal.SIGINT
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
