"""The same run over real processes: equal to the bit to the one in a single process, whoever is killed on the way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from preceptor.config.settings import ClientSettings
from preceptor.learner import Event, Learner, NoHooks, Patiences, Ports, RunFolder, RunPlan
from preceptor.learner.connect import connected
from preceptor.learner.inline import in_this_process
from preceptor.local.stack import ServicePlan, Stack, build_stack
from preceptor.local.supervisor import Supervisor
from preceptor.recipes import compile_recipe, load_recipe

ROOT = Path(__file__).parents[2]
TEACHER = f"tiny-teacher={ROOT / 'examples' / 'tiny' / 'teacher'}"
STUDENT = f"tiny={ROOT / 'examples' / 'tiny' / 'student'}"
ENVIRON = {"PRECEPTOR_TEACHER_MODEL": TEACHER, "PRECEPTOR_ROLLOUT_MODEL": STUDENT, "PRECEPTOR_STUDENT_MODEL": STUDENT}
OVERRIDES = ("schedule.steps=3", "schedule.prompts_per_step=4", "schedule.checkpoint_every_steps=2", "evaluation=null")
RUN = "kept"


def plan(recipe: str = "tiny-reverse-kl") -> RunPlan:
    return RunPlan.of(RUN, "local", compile_recipe(load_recipe(ROOT / "recipes" / f"{recipe}.yaml", OVERRIDES)))


def final_weights(runs: Path) -> dict[str, bytes]:
    newest = max((runs / RUN / "versions").glob("*/model.safetensors"), key=lambda path: path.stat().st_mtime)
    return {name: value.tobytes() for name, value in load_file(newest).items()}


def losses(runs: Path) -> list[float]:
    events = (json.loads(line) for line in (runs / RUN / "events.jsonl").read_text().splitlines())
    return [event["loss"] for event in events if event["event"] == "step"]


async def learn(
    ports: Ports, runs: Path, hooks: NoHooks, made: RunPlan | None = None, watch: Callable[[Event], None] = lambda _: None
) -> None:
    patience = Patiences(deadline_s=90.0, connect_s=60.0, repoke_s=1.0)
    await Learner(made or plan(), ports, RunFolder.of(runs, RUN), True, watch, hooks, patience).run()


async def in_one_process(runs: Path, made: RunPlan, teacher: str) -> None:
    environ = {**ENVIRON, "PRECEPTOR_TEACHER_MODEL": teacher}
    async with in_this_process(ClientSettings(), runs, environ=environ) as ports:
        await learn(ports, runs, NoHooks(), made)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("single")
    asyncio.run(in_one_process(runs, plan(), TEACHER))
    return runs


def stack(folder: Path, teacher: str = TEACHER) -> Stack:
    services = (
        ServicePlan("teacher", "teacher", teacher),
        ServicePlan("rollout", "rollout", STUDENT),
        ServicePlan("student", "student", STUDENT),
    )
    return build_stack(folder, folder / "runs", services)


@dataclass
class Killer(NoHooks):
    """Sends SIGKILL to a process when a point is reached for the nth time, once for each entry."""

    supervisor: Supervisor
    deaths: list[tuple[str, int, str]]  # point, hit, whose
    seen: dict[str, int] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    def reached(self, point: str) -> None:
        self.seen[point] = self.seen.get(point, 0) + 1
        for entry in [entry for entry in self.deaths if entry[:2] == (point, self.seen[point])]:
            os.kill(self.supervisor.pid(entry[2]), signal.SIGKILL)
            self.done.append(entry[2])


async def over_processes(
    folder: Path, deaths: list[tuple[str, int, str]], made: RunPlan | None = None, teacher: str = TEACHER
) -> None:
    up = stack(folder, teacher)
    async with Supervisor(up.stages) as supervisor:
        watching = asyncio.create_task(supervisor.watch())
        hooks = Killer(supervisor, deaths)
        async with connected(up.client()) as ports:
            await learn(ports, folder / "runs", hooks, made)
        watching.cancel()
    assert len(hooks.done) == len(deaths)


@pytest.mark.timeout(240)
@pytest.mark.slow
def test_processes_and_a_single_one_end_with_the_same_weights(tmp_path: Path, single: Path) -> None:
    asyncio.run(over_processes(tmp_path, []))
    assert losses(tmp_path / "runs") == losses(single)
    assert final_weights(tmp_path / "runs") == final_weights(single)


@pytest.mark.timeout(240)
@pytest.mark.slow
def test_a_student_that_teaches_itself_does_so_over_processes_too(tmp_path: Path) -> None:
    """Copies are loaded by a teacher service that is a process of its own, which is killed and reads them again."""
    made, teacher = plan("sdft"), STUDENT.replace("tiny=", "tiny-student=")
    asyncio.run(in_one_process(tmp_path / "single", made, teacher))
    asyncio.run(over_processes(tmp_path, [("rollout journaled", 6, "teacher")], made, teacher))
    assert losses(tmp_path / "runs") == losses(tmp_path / "single")
    assert final_weights(tmp_path / "runs") == final_weights(tmp_path / "single")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killing_each_service_and_the_queue_changes_no_bit(tmp_path: Path, single: Path) -> None:
    deaths = [
        ("rollout journaled", 2, "teacher"),
        ("rollout journaled", 6, "rollout"),
        ("step applied", 2, "student"),
        ("tasks opened", 3, "queue"),
    ]
    asyncio.run(over_processes(tmp_path, deaths))
    assert losses(tmp_path / "runs") == losses(single)
    assert final_weights(tmp_path / "runs") == final_weights(single)
