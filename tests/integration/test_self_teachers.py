"""The student's own copies teach it through the whole system: published, loaded by the teacher service, named by every task."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest
import torch

from examples.tiny import task
from examples.tiny.decode import load_model, text_of
from examples.tiny.tokenizer import prompt_ids
from examples.tiny.try_opd import batches
from preceptor.config.settings import ClientSettings
from preceptor.hooks import NoHooks
from preceptor.learner import Learner, RunFolder, RunPlan, training_prompts, training_views
from preceptor.learner.inline import in_this_process
from preceptor.recipes import compile_recipe, load_recipe
from preceptor_teacher.testing import standing_in
from preceptor_teacher.testing.judging import Judging
from tests.integration.test_inline_n3 import OVERRIDES, PAIR, PROMPTS, RATE, ROOT, STEPS, assert_same, buckets
from tests.reference import self_loop
from tests.reference.opd_loop import Rollouts, Settings, reverse_kl_tail
from tests.support.models import BUNDLED_TEACHER

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


def shows_a_right_sibling(rollouts: Rollouts) -> list[list[int] | None]:
    """The first other right response of the group behind the question, by the definition; nothing where there is none."""
    problems = task.load("distil")
    prompts = rollouts.prompts_B.tolist()
    texts = [text_of(ids[ok].tolist()) for ids, ok in zip(rollouts.response_BR, rollouts.valid_BR, strict=True)]
    right = [text.split()[-1:] == [problems[prompt].answer] for text, prompt in zip(texts, prompts, strict=True)]
    shown: list[list[int] | None] = []
    for place, prompt in enumerate(prompts):
        siblings = (other for other, group in enumerate(prompts) if group == prompt and other != place and right[other])
        found = next(siblings, None)
        shown.append(None if found is None else prompt_ids(f"{problems[prompt].prompt}={texts[found]}"))
    return shown


SDPO_RATE = 3e-5  # at the others' rate no group has a right answer left by the third step


def checked_environ(tmp_path: Path) -> dict[str, str]:
    """The same with a check beside the student's start."""
    return served_environ(tmp_path, {"checks": {"engine": "check"}})


def served_environ(tmp_path: Path, teachers: Mapping[str, object]) -> dict[str, str]:
    """The same with these beside the student's start."""
    served = {"tiny-student": {"folder": str(PAIR / "student")}, **teachers}
    (tmp_path / "teachers.yaml").write_text(json.dumps({"teachers": served}))
    others = {name: value for name, value in ENVIRON.items() if name != "PRECEPTOR_TEACHER_MODEL"}
    return others | {"PRECEPTOR_TEACHER_TEACHERS_FILE": str(tmp_path / "teachers.yaml")}


def plan_of_sdpo() -> RunPlan:
    return plan_of_feedback("sdpo")


def plan_of_feedback(recipe_name: str) -> RunPlan:
    recipe = load_recipe(
        ROOT / "recipes" / f"{recipe_name}.yaml",
        (*OVERRIDES, "sources.rollouts.samples_per_prompt=3", f"optimizer.learning_rate={SDPO_RATE}"),
    )
    return RunPlan.of("self", "local", compile_recipe(recipe))


@pytest.mark.slow
def test_a_right_answer_of_the_group_teaches_the_others_as_in_the_reference_loop(tmp_path: Path) -> None:
    seen: list[list[list[int] | None]] = []

    def reread(rollouts: Rollouts) -> list[list[int] | None]:
        seen.append(shows_a_right_sibling(rollouts))
        return seen[-1]

    folder = asyncio.run(learn(plan_of_sdpo(), tmp_path, environ=checked_environ(tmp_path)))
    torch.set_num_threads(1)
    student, settings = load_model("student"), Settings(learning_rate=SDPO_RATE, samples_per_prompt=3)
    prompts = batches(task.load("distil"), PROMPTS)
    loop = self_loop.distil_self(student, prompts, {}, reverse_kl_tail, self_loop.mean(0.95), settings, reread=reread)
    assert_same(folder, list(islice(loop, STEPS)), student.state_dict())
    assert moved(folder)
    assert all({one is None for one in step} == {True, False} for step in seen), "some are taught, and some have no sibling"


def shows_what_was_criticised(rollouts: Rollouts) -> list[list[int] | None]:
    """The critique of the judge, whose own answer is the worked one; nothing where it found nothing wrong."""
    problems = task.load("distil")
    shown: list[list[int] | None] = []
    for ids, ok, prompt in zip(rollouts.response_BR, rollouts.valid_BR, rollouts.prompts_B.tolist(), strict=True):
        judging = Judging(problems[prompt].prompt, text_of(ids[ok].tolist()), "", "critique")
        said = json.loads(judging.reply(problems[prompt].worked))
        shown.append(prompt_ids(f"{problems[prompt].prompt}={said['critique']}") if said["score"] <= 9 else None)
    return shown


@pytest.mark.slow
def test_a_judges_critique_teaches_as_in_the_reference_loop(tmp_path: Path) -> None:
    seen: list[list[list[int] | None]] = []

    def reread(rollouts: Rollouts) -> list[list[int] | None]:
        seen.append(shows_what_was_criticised(rollouts))
        return seen[-1]

    async def criticised() -> Path:
        async with standing_in(BUNDLED_TEACHER) as provider:
            judge = {"engine": "api", "base_url": provider.base_url, "model": "m", "private_hosts": ["127.0.0.1"]}
            plan = plan_of_feedback("sdpo-critique")
            return await learn(plan, tmp_path, environ=served_environ(tmp_path, {"tiny-judge": judge}))

    folder = asyncio.run(criticised())
    torch.set_num_threads(1)
    student, settings = load_model("student"), Settings(learning_rate=SDPO_RATE, samples_per_prompt=3)
    prompts = batches(task.load("distil"), PROMPTS)
    loop = self_loop.distil_self(student, prompts, {}, reverse_kl_tail, self_loop.mean(0.95), settings, reread=reread)
    assert_same(folder, list(islice(loop, STEPS)), student.state_dict())
    assert moved(folder)
    assert all({one is None for one in step} == {True, False} for step in seen), "some are right, and nobody criticises them"


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
