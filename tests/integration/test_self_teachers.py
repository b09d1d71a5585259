"""The student's own copies teach it through the whole system: published, loaded by the teacher service, named by every task."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from preceptor.config.settings import ClientSettings
from preceptor.hooks import NoHooks
from preceptor.journal import LearnerJournal, RolloutKey
from preceptor.learner import Learner, RunFolder, RunPlan, training_prompts, training_views
from preceptor.learner.inline import in_this_process
from preceptor.learner.session import Patiences
from preceptor.recipes import compile_recipe, load_recipe
from preceptor_proto.v1 import teacher_pb2
from tests.support.first_steps import CHANGED, OVERRIDES, PROMPTS, ROOT

PAIR = ROOT / "examples" / "tiny"

ENVIRON = {
    "PRECEPTOR_TEACHER_MODEL": f"tiny-student={PAIR / 'student'}",
    "PRECEPTOR_ROLLOUT_MODEL": f"tiny={PAIR / 'student'}",
    "PRECEPTOR_STUDENT_MODEL": f"tiny={PAIR / 'student'}",
    "PRECEPTOR_STUDENT_KEEP_VERSIONS": "1",
}


def plan_of(recipe_name: str, *overrides: str) -> RunPlan:
    recipe = load_recipe(ROOT / "recipes" / f"{recipe_name}.yaml", (*OVERRIDES, *overrides))
    return RunPlan("self", "local", compile_recipe(recipe), training_prompts(recipe), views=training_views(recipe))


async def learn(plan: RunPlan, runs: Path, environ: dict[str, str] = ENVIRON, **changes) -> Path:
    async with in_this_process(ClientSettings(), runs, environ=environ) as ports:
        await Learner(plan, ports, RunFolder.of(runs, "self"), **changes).run()
    return runs / "self"


def checked_environ(tmp_path: Path) -> dict[str, str]:
    """The same with a check beside the student's start."""
    served = {"tiny-student": {"folder": str(PAIR / "student")}, "checks": {"engine": "check"}}
    (tmp_path / "teachers.yaml").write_text(json.dumps({"teachers": served}))
    others = {name: value for name, value in ENVIRON.items() if name != "PRECEPTOR_TEACHER_MODEL"}
    return others | {"PRECEPTOR_TEACHER_TEACHERS_FILE": str(tmp_path / "teachers.yaml")}


def plan_of_sdpo() -> RunPlan:
    recipe = load_recipe(ROOT / "recipes" / "sdpo.yaml", (*OVERRIDES, *CHANGED["sdpo"]))
    return RunPlan.of("self", "local", compile_recipe(recipe))


@pytest.mark.slow
@pytest.mark.parametrize(("point", "hit"), [("rereadings journaled", 1), ("rereadings journaled", 2), ("verdict journaled", 9)])
def test_a_run_that_dies_over_its_rereadings_ends_with_the_same_bits(tmp_path: Path, point: str, hit: int) -> None:
    environ = checked_environ(tmp_path)
    straight = asyncio.run(learn(plan_of_sdpo(), tmp_path / "straight", environ=environ))
    with pytest.raises(RuntimeError, match=point):
        asyncio.run(learn(plan_of_sdpo(), tmp_path / "dies", environ=environ, hooks=DiesAt(point, hit)))
    again = asyncio.run(learn(plan_of_sdpo(), tmp_path / "dies", environ=environ, resume=True))
    assert newest(straight / "versions").read_bytes() == newest(again / "versions").read_bytes()


@dataclass
class DiesAt(NoHooks):
    """Raises at the nth time that a point is reached."""

    point: str
    hit: int

    def reached(self, point: str) -> None:
        self.hit -= point == self.point
        if self.hit == 0 and point == self.point:
            raise RuntimeError(point)


ALL_OF_STEP_2_DRAWN = ("rollout journaled", 2 * PROMPTS)
KILLS = [("weights published", 2), ("copies loaded", 2), ("tasks journaled", 3), ALL_OF_STEP_2_DRAWN]


@pytest.mark.slow
@pytest.mark.parametrize(("point", "hit"), KILLS)
def test_a_run_that_dies_and_whose_services_start_anew_ends_with_the_same_bits(tmp_path: Path, point: str, hit: int) -> None:
    plan = plan_of("sdft")
    straight = asyncio.run(learn(plan, tmp_path / "straight"))
    with pytest.raises(RuntimeError, match=point):
        asyncio.run(learn(plan, tmp_path / "dies", hooks=DiesAt(point, hit)))
    if (point, hit) == ALL_OF_STEP_2_DRAWN:  # nothing is drawn before they are scored: who loads the copy that they name?
        assert asyncio.run(copies_owed(tmp_path / "dies")) == {1}
    again = asyncio.run(learn(plan, tmp_path / "dies", resume=True, patiences=Patiences(deadline_s=20.0)))
    for folder in ("versions", "copies/self"):
        ours, theirs = (newest(one / folder) for one in (straight, again))
        assert ours.read_bytes() == theirs.read_bytes(), folder


async def copies_owed(runs: Path) -> set[int]:
    """Steps of the copies that tasks of closed rollouts still wait for."""
    async with await LearnerJournal.open(RunFolder.of(runs, "self").journal, "self") as journal:
        state = journal.state
        owed = [one.opened for one in state.resume_point().open_tasks if RolloutKey.of(one.opened.rollout) in state.closed]
    return {teacher_pb2.ScoreTask.FromString(one.payload).teacher.exact.step for one in owed}


def newest(folder: Path) -> Path:
    return max(folder.glob("*/model.safetensors"), key=lambda path: int(path.parent.name.split("-")[1]))
