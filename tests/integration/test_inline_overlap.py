"""Real models whose stages overlap: the student learns from rollouts within the bound, and all of them are accounted for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from preceptor.config.settings import ClientSettings
from preceptor.learner import Learner, RunFolder, RunPlan, evaluation_items, training_prompts
from preceptor.learner.inline import in_this_process
from preceptor.recipes import compile_recipe, load_recipe

ROOT = Path(__file__).parents[2]
PAIR = ROOT / "examples" / "tiny"
STEPS, PROMPTS = 5, 4
ENVIRON = {
    "PRECEPTOR_TEACHER_MODEL": f"tiny-teacher={PAIR / 'teacher'}",
    "PRECEPTOR_ROLLOUT_MODEL": f"tiny={PAIR / 'student'}",
    "PRECEPTOR_STUDENT_MODEL": f"tiny={PAIR / 'student'}",
}
SHARED = (
    f"schedule.steps={STEPS}",
    f"schedule.prompts_per_step={PROMPTS}",
    "schedule.deterministic=false",
    "evaluation.prompts=4",
    "evaluation.every_steps=3",
)


async def steps_of(folder: Path, *overrides: str) -> list[dict[str, Any]]:
    recipe = load_recipe(ROOT / "recipes" / "tiny-reverse-kl.yaml", (*SHARED, *overrides))
    plan = RunPlan("stale", "local", compile_recipe(recipe), training_prompts(recipe), evaluation_items(recipe))
    run = RunFolder.of(folder, "stale")
    async with in_this_process(ClientSettings(), folder, environ=ENVIRON) as ports:
        await Learner(plan, ports, run).run()
    return [event for event in run.told() if event["event"] == "step"]


@pytest.mark.parametrize(
    ("overrides", "oldest"),
    [
        (("schedule.staleness=1",), 1),
        pytest.param(("schedule.staleness=0", "schedule.ahead_steps=1"), 0, marks=pytest.mark.slow),
    ],
)
async def test_nothing_older_than_the_bound_is_trained_and_nothing_is_lost(
    tmp_path: Path, overrides: tuple[str, ...], oldest: int
) -> None:
    steps = await steps_of(tmp_path, *overrides)
    assert [step["step"] for step in steps] == list(range(1, STEPS + 1))
    assert all(step["ages"]["max"] <= oldest for step in steps)
    assert all(step["rollouts"] == PROMPTS and step["skipped"] == 0 for step in steps)
    assert all(math.isfinite(step["loss"]) and step["grad_norm"] > 0 for step in steps)
