"""The whole system against a hundred lines: the first steps of `--inline` equal those of the single-process reference loop."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file

from examples.tiny import task
from examples.tiny.decode import load_model
from examples.tiny.try_opd import batches, log_likelihood
from preceptor.config.settings import ClientSettings
from preceptor.learner import Learner, RunFolder, RunPlan, training_prompts
from preceptor.learner.inline import in_this_process
from preceptor.recipes import compile_recipe, load_recipe
from tests.reference import guided
from tests.reference.opd_loop import Settings, distil, generate, k1_policy_gradient, reverse_kl_tail

ROOT = Path(__file__).parents[2]
PAIR = ROOT / "examples" / "tiny"
STEPS, PROMPTS, RATE = 3, 4, 3e-4
ENVIRON = {
    "PRECEPTOR_TEACHER_MODEL": f"tiny-teacher={PAIR / 'teacher'}",
    "PRECEPTOR_ROLLOUT_MODEL": f"tiny={PAIR / 'student'}",
    "PRECEPTOR_STUDENT_MODEL": f"tiny={PAIR / 'student'}",
    "PRECEPTOR_STUDENT_TEACHER_HEADS": str(PAIR / "teacher"),
}
OVERRIDES = (
    f"schedule.steps={STEPS}",
    f"schedule.prompts_per_step={PROMPTS}",
    f"optimizer.learning_rate={RATE}",
    "schedule.checkpoint_every_steps=2",
    "evaluation=null",
)


def forward_kl_tail(student_BRV, teacher_BRV, rollouts, settings):
    """KL(teacher || student) on the same support."""
    return reverse_kl_tail(teacher_BRV, student_BRV, rollouts_with(rollouts, teacher_BRV, student_BRV, settings), settings)


def rollouts_with(rollouts, teacher_BRV, student_BRV, settings):
    """The loop's divergence takes its first argument's top-k from the rollouts and the second one's from its scores."""
    return replace(rollouts, top_ids_BRk=torch.cat([rollouts.top_ids_BRk, teacher_BRV.topk(settings.top_k).indices], -1))


def reference(objective, *, teacher_writes: bool = False, together=None, dtype: torch.dtype = torch.float32):
    torch.set_num_threads(1)
    student, teacher = (cast(Any, load_model(name)).to(dtype) for name in ("student", "teacher"))
    settings = Settings(learning_rate=RATE, teacher_writes=teacher_writes)
    loop = distil(student, teacher, batches(task.load("distil"), PROMPTS), objective, settings, together)
    return [next(loop) for _ in range(STEPS)], student.state_dict()


def rounding_of(objective) -> list[float]:
    """How far the plain loop's gradient norm in f32 is from its own in float64, step by step, relative."""
    (single, _), (double, _) = (reference(objective, dtype=dtype) for dtype in (torch.float32, torch.float64))
    return [abs(one["grad_norm"] / two["grad_norm"] - 1) for one, two in zip(single, double, strict=True)]


async def inline(recipe_name: str, runs: Path, writers: str | None = None) -> Path:
    recipe = load_recipe(ROOT / "recipes" / f"{recipe_name}.yaml", OVERRIDES)
    plan = RunPlan("n3", "local", compile_recipe(recipe), training_prompts(recipe))
    async with in_this_process(ClientSettings(writers=writers), runs, environ=ENVIRON) as ports:
        await Learner(plan, ports, RunFolder.of(runs, "n3")).run()
    return runs / "n3"


def buckets(student, teacher, *lists):
    """Log-probabilities of both sides on these tokens, everywhere else at -inf, and of their tails."""
    members = torch.zeros_like(teacher, dtype=torch.bool).scatter(-1, torch.cat(lists, -1), value=True)
    inside = [side.masked_fill(~members, -torch.inf) for side in (student, teacher)]
    tails = [side.masked_fill(members, -torch.inf).logsumexp(-1, keepdim=True) for side in (student, teacher)]
    return tuple(torch.cat([one, tail], -1) for one, tail in zip(inside, tails, strict=True))


def skewed(student, teacher, rollouts, settings):
    lists = (teacher.topk(settings.top_k).indices, rollouts.top_ids_BRk, rollouts.response_BR[..., None])
    p, q = buckets(student, teacher, *lists)
    mixed = torch.logaddexp(p + math.log(0.1), q + math.log(0.9))
    there = p > -torch.inf
    return (p.exp() * (p.where(there, 0.0) - mixed.where(there, 0.0))).sum(-1)


def forward_top16(student, teacher, rollouts, settings):
    p, q = buckets(student, teacher, teacher.topk(16).indices, rollouts.response_BR[..., None])
    there = q > -torch.inf
    return (q.exp() * (q.where(there, 0.0) - p.where(there, 0.0))).sum(-1)


def reverse_kl_of_every_token(student, teacher, rollouts, settings):
    return (student.exp() * (student - teacher)).sum(-1)


@pytest.mark.parametrize(
    ("recipe", "objective", "writers"),
    [
        pytest.param("distillm", skewed, None, marks=pytest.mark.slow),
        pytest.param("off-policy-kd", forward_top16, f"tiny-teacher={PAIR / 'teacher'}", marks=pytest.mark.slow),
        ("tiny-reverse-kl", reverse_kl_tail, None),
        pytest.param("nitrobrew", reverse_kl_of_every_token, None, marks=pytest.mark.slow),
        pytest.param("tiny-sft", log_likelihood, f"tiny-teacher={PAIR / 'teacher'}", marks=pytest.mark.slow),
    ],
)
def test_the_first_steps_are_those_of_the_reference_loop(tmp_path: Path, recipe, objective, writers) -> None:
    folder = asyncio.run(inline(recipe, tmp_path, writers))
    assert_same(folder, *reference(objective, teacher_writes=writers is not None))


def test_where_both_nearly_agree_the_first_steps_differ_by_rounding_alone(tmp_path: Path) -> None:
    """k1 weighs a token by the difference of two close numbers: the plain loop itself, in f32, is off by more than 1e-5."""
    folder = asyncio.run(inline("tiny-k1", tmp_path))
    rounding = rounding_of(k1_policy_gradient)
    assert max(rounding) < 1e-4
    assert_same(folder, *reference(k1_policy_gradient), [max(1e-5, one) for one in rounding])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "objective", "choose"),
    [
        ("tiny-skd", forward_kl_tail, guided.speculative),
        ("tiny-trust-region", reverse_kl_tail, guided.trust_region),
    ],
)
def test_the_first_steps_with_a_teacher_in_the_loop_too(tmp_path: Path, recipe, objective, choose) -> None:
    prompts = next(iter(batches(task.load("distil"), PROMPTS)))
    student, teacher = load_model("student"), load_model("teacher")
    together = guided.generate(choose, student, teacher, prompts, 0, Settings())
    assert together.response_BR.tolist() != generate(student, prompts, 0, Settings()).response_BR.tolist()
    folder = asyncio.run(inline(recipe, tmp_path))
    assert_same(folder, *reference(objective, together=partial(guided.generate, choose)))


def assert_same(folder: Path, metrics, weights, norm_within=(1e-5,) * STEPS) -> None:
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    for ours, theirs, within in zip(steps, metrics, norm_within, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=within)
    published = load_file(newest_version(folder))
    for name, value in published.items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def newest_version(folder: Path) -> Path:
    return max((folder / "versions").glob("*/model.safetensors"), key=lambda path: path.stat().st_mtime)
