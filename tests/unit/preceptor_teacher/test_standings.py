"""Where a teacher is in its life: every state, and which of two causes is told."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from preceptor.client import AsyncTeacherClient
from preceptor.config import TeacherSettings
from preceptor.types import ServiceState, TeacherStanding, TeacherState
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engine_host.inline import InlineEngine
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from preceptor_serving.lifecycle.state import Lifecycle
from preceptor_serving.metrics import Meters
from preceptor_serving.run import RunningService
from preceptor_teacher.catalog import TeacherSpec
from preceptor_teacher.checks import CheckSpec
from preceptor_teacher.draining import Draining
from preceptor_teacher.service import TeacherService
from preceptor_teacher.standings import Standings

STARTING, SERVING, DRAINING, DEAD = TeacherState


class Judged:
    """A judge as far as its standing goes."""

    trouble: str | None = None
    spec = CheckSpec("judge")


class Scene:
    """Teacher a, and a judge; ready, and nothing wrong."""

    def __init__(self) -> None:
        self.meters, self.lifecycle, self.judge = Meters(), Lifecycle(), Judged()
        self.pools: dict[str, Any] = {"a": object()}
        self.judges: list[Any] = [self.judge]
        self.draining = Draining(self.lifecycle, ["a", "judge"], print)
        self.lifecycle.ready()
        self.engine(up=1)

    def engine(self, up: float, starting: float = 0, heard_s: float = 1.5) -> None:
        self.meters.engine_up.labels("a").set(up)
        self.meters.engine_starting.labels("a").set(starting)
        self.meters.engine_heard.labels("a").set(heard_s)

    @property
    def told(self) -> list[TeacherStanding]:
        return list(Standings(["a", "judge"], self.pools, self.judges, self.draining, self.lifecycle, self.meters))

    @property
    def states(self) -> list[TeacherState]:
        return [one.state for one in self.told]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_an_engine_that_answers_serves_and_its_last_word_is_told(scene: Scene) -> None:
    assert scene.told == [TeacherStanding("a", SERVING, 1.5), TeacherStanding("judge", SERVING, None)]


def test_what_is_not_loaded_yet_is_starting_and_was_never_heard(scene: Scene) -> None:
    scene.engine(up=0, starting=1, heard_s=float("nan"))
    scene.pools.clear()
    scene.judges.clear()
    assert scene.told == [TeacherStanding("a", STARTING), TeacherStanding("judge", STARTING)]


@pytest.mark.parametrize(("starting", "state"), [(0, DEAD), (1, STARTING)])
def test_an_engine_that_is_down_is_dead_until_it_is_started_again_also_where_it_is_drained(
    scene: Scene, starting: int, state: TeacherState
) -> None:
    scene.engine(up=0, starting=starting, heard_s=41.0)
    scene.draining.drain(["a"])
    assert scene.told[0] == TeacherStanding("a", state, 41.0)


def test_a_provider_that_does_not_answer_is_dead(scene: Scene) -> None:
    scene.judge.trouble = "401"
    assert scene.states == [SERVING, DEAD]


def test_draining_is_told_of_the_drained_one_and_of_all_where_the_service_ends(scene: Scene) -> None:
    scene.draining.drain(["a"])
    assert scene.states == [DRAINING, SERVING]
    scene.draining.undo(["a"])
    scene.lifecycle.draining("SIGTERM")
    assert scene.states == [DRAINING, DRAINING]


async def test_a_service_names_its_teachers_while_it_loads_them() -> None:
    go = threading.Event()

    def slow() -> FakeEngine:
        assert go.wait(60.0)
        return FakeEngine(FakeOptions(name="tiny"))

    teachers = (TeacherSpec(EngineSpec("tiny", "fake", {"name": "tiny"})),)
    service = TeacherService(teachers, lambda spec, context: InlineEngine(slow))
    house = RunningService(service, TeacherSettings(grpc_port=0, rest_port=0))
    starting = asyncio.create_task(house.start())
    try:
        async with asyncio.timeout(20):
            while not house.grpc_port:  # noqa: ASYNC110  only asking tells
                await asyncio.sleep(0.01)
        async with AsyncTeacherClient(f"127.0.0.1:{house.grpc_port}") as client:
            early = await client.status(deadline_s=20)
            go.set()
            await starting
            late = await client.status(deadline_s=20)
    finally:
        go.set()
        await house.stop("the test is over")
    assert (early.state, early.standings) == (ServiceState.LOADING, (TeacherStanding("tiny", STARTING),))
    assert (late.state, late.standings) == (ServiceState.READY, (TeacherStanding("tiny", SERVING),))
