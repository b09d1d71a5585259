"""The student's own copies teach it through the whole system: published, loaded by the teacher service, named by every task."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest
import torch

from examples.tiny import task
from examples.tiny.decode import load_model
from examples.tiny.tokenizer import prompt_ids
from examples.tiny.try_opd import batches
from preceptor.config.settings import ClientSettings
from preceptor.hooks import NoHooks
from preceptor.learner import Learner, RunFolder, RunPlan, training_prompts, training_views
from preceptor.learner.inline import in_this_process
from preceptor.recipes import compile_recipe, load_recipe
from tests.integration.test_inline_n3 import OVERRIDES, PAIR, PROMPTS, RATE, ROOT, STEPS, assert_same, buckets
from tests.reference import self_loop
from tests.reference.opd_loop import Settings, reverse_kl_tail

ENVIRON = {
    "PRECEPTOR_TEACHER_MODEL": f"tiny-student={PAIR / 'student'}",
    "PRECEPTOR_ROLLOUT_MODEL": f"tiny={PAIR / 'student'}",
    "PRECEPTOR_STUDENT_MODEL": f"tiny={PAIR / 'student'}",
    "PRECEPTOR_STUDENT_KEEP_VERSIONS": "1",
}


def plan_of(recipe_name: str, *overrides: str) -> RunPlan:
    recipe = load_recipe(ROOT / "recipes" / f"{recipe_name}.yaml", (*OVERRIDES, *overrides))
    return RunPlan("self", "local", compile_recipe(recipe), training_prompts(recipe), views=training_views(recipe))


async def learn(plan: RunPlan, runs: Path, **changes) -> Path:
    async with in_this_process(ClientSettings(), runs, environ=ENVIRON) as ports:
        await Learner(plan, ports, RunFolder.of(runs, "self"), **changes).run()
    return runs / "self"


def jsd(student, teacher, rollouts, settings):
    p, q = buckets(student, teacher, teacher.topk(settings.top_k).indices, rollouts.top_ids_BRk, rollouts.response_BR[..., None])
    mixed = torch.logaddexp(p, q) - math.log(2)

    def kl(one):
        there = one > -torch.inf
        return (one.exp() * (one.where(there, 0.0) - mixed.where(there, 0.0))).sum(-1)

    return (kl(p) + kl(q)) / 2


def reference(objective, renew, view: str, skip: int = 0):
    torch.set_num_threads(1)
    problems = task.load("distil")
    views = {
        i: prompt_ids(view.format(prompt=one.prompt, answer=one.answer)) for i, one in enumerate(problems[: STEPS * PROMPTS])
    }
    student = load_model("student")
    loop = self_loop.distil_self(student, batches(problems, PROMPTS), views, objective, renew, Settings(learning_rate=RATE), skip)
    return list(islice(loop, STEPS)), student.state_dict()


@pytest.mark.parametrize(
    ("recipe", "objective", "renew", "skip", "overrides"),
    [
        ("sdft", reverse_kl_tail, self_loop.mean(0.95), 1, ()),
        pytest.param("opsd", jsd, self_loop.frozen, 0, (), marks=pytest.mark.slow),
        pytest.param("opcd", reverse_kl_tail, self_loop.frozen, 0, ("terms.0.normaliser=rows",), marks=pytest.mark.slow),
        pytest.param(
            "opsdc",
            reverse_kl_tail,
            self_loop.lagged(2),
            0,
            ("teachers.self.student_copy.every_steps=2",),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_first_steps_are_those_of_the_reference_loop(tmp_path: Path, recipe, objective, renew, skip, overrides) -> None:
    plan = plan_of(recipe, *overrides)
    view = plan.compiled.teachers["self"].view
    assert view is not None
    folder = asyncio.run(learn(plan, tmp_path))
    assert_same(folder, *reference(objective, renew, view, skip))
    assert moved(folder)


@dataclass
class DiesAt(NoHooks):
    """Raises at the nth time that a point is reached."""

    point: str
    hit: int

    def reached(self, point: str) -> None:
        self.hit -= point == self.point
        if self.hit == 0 and point == self.point:
            raise RuntimeError(point)


@pytest.mark.slow
@pytest.mark.parametrize(("point", "hit"), [("weights published", 2), ("copies loaded", 2), ("tasks journaled", 3)])
def test_a_run_that_dies_and_whose_services_start_anew_ends_with_the_same_bits(tmp_path: Path, point: str, hit: int) -> None:
    plan = plan_of("sdft")
    straight = asyncio.run(learn(plan, tmp_path / "straight"))
    with pytest.raises(RuntimeError, match=point):
        asyncio.run(learn(plan, tmp_path / "dies", hooks=DiesAt(point, hit)))
    again = asyncio.run(learn(plan, tmp_path / "dies", resume=True))
    for folder in ("versions", "copies/self"):
        ours, theirs = (newest(one / folder) for one in (straight, again))
        assert ours.read_bytes() == theirs.read_bytes(), folder


def newest(folder: Path) -> Path:
    return max(folder.glob("*/model.safetensors"), key=lambda path: int(path.parent.name.split("-")[1]))


def moved(folder: Path) -> bool:
    """The loss is not nothing: the view taught something."""
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return all(event["loss"] > 1e-3 for event in events if event["event"] == "step")
