"""Recipes whose defining part is who teaches, what that teacher reads, or who draws: without it the system has another gradient.

What a loss on given tokens shows is in tests/objectives/test_shipped_recipes.py.
"""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from preceptor.config.settings import ClientSettings
from preceptor.learner import Learner, RunFolder, RunPlan
from preceptor.learner.inline import in_this_process
from preceptor.recipes import compile_recipe, load_recipe
from preceptor_teacher.testing import StandIn, standing_in
from tests.objectives.test_shipped_recipes import DRAWN_OTHERWISE, TAUGHT_OTHERWISE
from tests.support.first_steps import ROOT, environ

PAIR = ROOT / "examples" / "tiny"

OVERRIDES = (
    "schedule.prompts_per_step=4",
    "optimizer.learning_rate=3.0e-4",
    "schedule.checkpoint_every_steps=2",
    "evaluation=null",
)
BLIND = 'teachers.self.view="{prompt}"'
AWAY = {
    "opcd": (1, BLIND),
    "opsdc": (1, BLIND),
    "sdpo": (1, BLIND, "teachers.self.feedback=null"),
    "sdpo-critique": (1, BLIND, "teachers.self.feedback=null"),
    "tiny-skd": (1, "sources.rollouts.policy=null"),
    "tiny-trust-region": (1, "sources.rollouts.policy=null"),
    "lightning": (2, "schedule.publish_every_steps=1"),
}
"""Recipe -> the step whose gradient is looked at, and what takes its part away. At the start a copy that reads what the student
reads agrees with it; rollouts of the student's start are the student's own until it has taken a step."""

SILENT = {"opcd", "opsdc", "sdpo", "sdpo-critique"}


def write_teachers(folder: Path, provider: StandIn) -> None:
    judge = {"engine": "api", "base_url": provider.base_url, "model": "m", "private_hosts": ["127.0.0.1"]}
    served = {"tiny-teacher": {"folder": str(PAIR / "teacher")}, "tiny-student": {"folder": str(PAIR / "student")}}
    (folder / "teachers.yaml").write_text(json.dumps({"teachers": served | {"checks": {"engine": "check"}, "tiny-judge": judge}}))


async def gradient_norm(ports, runs: Path, run: str, recipe: str, steps: int, *overrides: str) -> float:
    """Of the last step."""
    loaded = load_recipe(ROOT / "recipes" / f"{recipe}.yaml", (*OVERRIDES, f"schedule.steps={steps}", *overrides))
    plan = RunPlan.of(run, "local", compile_recipe(loaded))
    await Learner(plan, ports, RunFolder.of(runs, run)).run()
    events = [json.loads(line) for line in (runs / run / "events.jsonl").read_text().splitlines()]
    return [event["grad_norm"] for event in events if event["event"] == "step"][-1]


@pytest.mark.slow
async def test_without_the_defining_part_the_gradient_is_another_one(tmp_path: Path) -> None:
    assert AWAY.keys() == TAUGHT_OTHERWISE | DRAWN_OTHERWISE | {"lightning"}
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(standing_in(PAIR / "teacher"))
        write_teachers(tmp_path, provider)
        ports = await stack.enter_async_context(in_this_process(ClientSettings(), tmp_path, environ=environ(tmp_path)))
        for recipe, (steps, *away) in AWAY.items():
            whole = await gradient_norm(ports, tmp_path, f"{recipe}-whole", recipe, steps)
            less = await gradient_norm(ports, tmp_path, f"{recipe}-less", recipe, steps, *away)
            assert whole > 1e-2, recipe
            assert abs(less / whole - 1) > 1e-2, recipe
            if recipe in SILENT:
                assert less < 1e-4, recipe
