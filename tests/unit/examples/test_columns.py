"""The bundled pair's environment, and the recipe that trains on its reward."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.tiny.columns import create
from preceptor.learner import RunPlan
from preceptor.recipes import compile_recipe, load_recipe
from preceptor_rollout.environments import Answer

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("replies", "rewards"),
    [
        (["9+7+0=", " 5+2+1=", "8+8+0=", "1686"], [0.25, 0.25, 0.25, 0.25]),
        (["9+7+0=", "5+2+0=", "8+8+0=", "1676"], [0.25, 0.0, 0.25, 0.0]),
        (["9+7+0=", "5+2+1=", "8+8+0=", "8+8+0=", "1686"], [0.25, 0.25, 0.25, 0.0, 0.25]),
        (["1686"], [0.25]),
        ([""], [0.0]),
    ],
)
def test_a_right_call_and_a_right_answer_are_a_quarter_each(replies, rewards):
    tool = create({})
    state = tool.start({"prompt": "859+827"})
    answers = [tool.step(state, reply) for reply in replies]
    assert [one.reward for one in answers] == rewards
    assert answers[0] == (Answer.saying("16", 0.25) if replies[0].endswith("=") else Answer(reward=rewards[0]))


def test_its_recipe_tells_it_every_prompt():
    compiled = compile_recipe(load_recipe(ROOT / "examples" / "tiny" / "columns.yaml"))
    plan = RunPlan.of("columns", "local", compiled)
    assert plan.task_of("rollouts", 0) == '{"prompt": "859+827"}'
    assert compiled.teachers == {}
    assert compiled.objective.terms[0].teacher == "environment"
