"""Every shipped recipe that asks a judge runs from end to end on the tiny pair, and spends what was said before it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from preceptor.config.settings import ClientSettings
from preceptor.learner import Learner, RunFolder, RunPlan
from preceptor.learner.inline import in_this_process
from preceptor.planning import Price, estimate_run
from preceptor.recipes import compile_recipe, load_recipe
from preceptor.recipes.ops.reward import COMPARING
from preceptor_teacher.api.calls.database import CallDatabase
from preceptor_teacher.api.calls.records import NANO, Payer
from preceptor_teacher.testing import StandIn, standing_in
from tests.support.models import BUNDLED_TEACHER

pytestmark = pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there")
ROOT = Path(__file__).parents[2]
STUDENT = ROOT / "examples" / "tiny" / "student"
STEPS, PROMPTS, SAMPLES = 2, 3, 4
PRICE = {"prompt_usd_per_million": 2.5, "completion_usd_per_million": 10.0}
OVERRIDES = (
    f"schedule.steps={STEPS}",
    f"schedule.prompts_per_step={PROMPTS}",
    f"sources.rollouts.samples_per_prompt={SAMPLES}",
    "evaluation=null",
)

LEARNING = "terms.0.signal.params.parameters"
OWN = {
    "gad": (f"{LEARNING}.groups_per_update={PROMPTS}", f"{LEARNING}.warmup_updates=0", "sources.rollouts.samples_per_prompt=16")
}
"""What else a recipe needs to teach anything in so few steps."""


def asks_a_judge(path: Path) -> bool:
    teachers = compile_recipe(load_recipe(path)).teachers.values()
    return any(one.grading and one.grading.grader not in COMPARING for one in teachers)


JUDGED = [path.stem for path in sorted((ROOT / "recipes").glob("*.yaml")) if asks_a_judge(path)]


def environ_of(folder: Path, provider: StandIn) -> dict[str, str]:
    """A judge with a price and a ledger, a discriminator that it writes for, and teachers with weights."""
    ledger = {"price": PRICE, "ledger_folder": str(folder / "ledger")}
    judge = {"engine": "api", "base_url": provider.base_url, "model": "m", "private_hosts": ["127.0.0.1"], **ledger}
    weights = {"tiny-teacher": {"folder": str(BUNDLED_TEACHER)}, "tiny-student": {"folder": str(STUDENT)}}
    learns = {"engine": "discriminator", "folder": str(STUDENT), "state_folder": str(folder / "critic"), "writer": "tiny-judge"}
    file = folder / "teachers.yaml"
    file.write_text(yaml.safe_dump({"teachers": {"tiny-judge": judge, "tiny-critic": learns, **weights}}))
    served = {"PRECEPTOR_ROLLOUT_MODEL": f"tiny={STUDENT}", "PRECEPTOR_STUDENT_MODEL": f"tiny={STUDENT}"}
    return served | {"PRECEPTOR_TEACHER_TEACHERS_FILE": str(file)}


@pytest.mark.slow
@pytest.mark.parametrize("name", JUDGED)
async def test_a_recipe_learns_from_a_provider_and_spends_what_was_said(tmp_path: Path, name: str) -> None:
    overrides = (*OVERRIDES, *OWN.get(name, ()))
    plan = RunPlan.of(name, "local", compile_recipe(load_recipe(ROOT / "recipes" / f"{name}.yaml", overrides)))
    async with standing_in(BUNDLED_TEACHER) as provider:
        async with in_this_process(ClientSettings(), tmp_path, environ=environ_of(tmp_path, provider)) as ports:
            await Learner(plan, ports, RunFolder.of(tmp_path, name)).run()
        asked = provider.provider.seen["chat"]
    steps = [event for event in RunFolder.of(tmp_path, name).told() if event["event"] == "step"]
    assert len(steps) == STEPS
    assert all(math.isfinite(step["grad_norm"]) for step in steps)
    assert max(step["grad_norm"] for step in steps) > 0, "where all of a group are judged alike it teaches nothing"
    told = {key: sum(step["grading"][key] for step in steps) for key in ("missing", "calls", "cost_usd")}
    booked = CallDatabase(tmp_path / "ledger", 0).spent(Payer("local", name))
    assert (told["missing"], told["calls"], booked.calls) == (0, asked, asked)
    said = estimate_run(plan, dict.fromkeys(("tiny-judge", "tiny-critic"), Price(**PRICE)))
    (graded,) = said.work.graded
    assert booked.calls in graded.asking.calls
    assert booked.tokens.prompt in graded.asking.prompt_tokens
    assert booked.tokens.completion in graded.asking.completion_tokens
    assert said.cost is not None
    assert booked.cost_nano / NANO in said.cost
    assert told["cost_usd"] == pytest.approx(booked.cost_nano / NANO)
