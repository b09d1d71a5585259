"""Every request gets a deadline: its own, never more than the service allows, none where no time is left."""

from __future__ import annotations

import asyncio

import pytest

from preceptor_serving.auth.gate import OpenGate
from preceptor_serving.auth.identity import Scope
from preceptor_serving.frame.call import Arrival, Door
from preceptor_serving.frame.frame import Frame, FrameLimits
from preceptor_serving.lifecycle.state import Lifecycle
from preceptor_serving.metrics import Meters

LONGEST_S = 3600.0


@pytest.mark.parametrize(
    ("asked_s", "given_s"), [(None, LONGEST_S), (5.0, 5.0), (2 * LONGEST_S, LONGEST_S), (float("inf"), LONGEST_S), (0.0, 0.0)]
)
async def test_a_call_gets_what_it_asked_for_up_to_the_longest(asked_s: float | None, given_s: float) -> None:
    lifecycle = Lifecycle()
    lifecycle.ready()
    frame = Frame(lifecycle, OpenGate(), Meters(), FrameLimits(max_message_bytes=1 << 20, max_deadline_s=LONGEST_S))
    before = asyncio.get_running_loop().time()
    with frame.admit(Arrival(Door.GRPC, "Teacher.Score", {}, timeout_s=asked_s), Scope.SCORE) as call:
        assert before + given_s <= call.deadline <= asyncio.get_running_loop().time() + given_s
