"""The bundled pair's environment: what it pays, what the models read of it, and the recipes that learn from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.tiny.carries import create
from examples.tiny.decode import MODEL_DIRS, load_model
from examples.tiny.play_carries import observation, play
from examples.tiny.task import load, parse
from examples.tiny.tokenizer import ASSISTANT_ID, EOS_ID, USER_ID, prompt_ids, text_ids
from preceptor.learner import RunPlan
from preceptor.recipes import compile_recipe, load_recipe
from preceptor_rollout.environments import Answer, Message
from preceptor_rollout.vocabulary import Vocabulary

PAIR = Path(__file__).parents[3] / "examples" / "tiny"


@pytest.mark.parametrize(
    ("replies", "rewards"),
    [
        (["9+7+0=", "6 5+2+1=", "8 8+8+0=", "6 1686"], [0.25, 0.25, 0.25, 0.25]),
        (["9+7+0=", "6 5+2+0=", "7 8+8+0=", "6 1676"], [0.25, 0.0, 0.25, 0.0]),
        (["9+7+0=", "6 5+2+1=", "8 8+8+0=", "6 8+8+0=", "6 1686"], [0.25, 0.25, 0.25, 0.0, 0.25]),
        (["1686"], [0.25]),
        (["99999*99999="], [0.0]),
        ([""], [0.0]),
    ],
)
def test_a_right_call_and_a_right_answer_are_a_quarter_each(replies, rewards):
    tool = create({})
    state = tool.start({"prompt": "859+827"})
    answers = [tool.step(state, reply) for reply in replies]
    assert [one.reward for one in answers] == rewards
    assert answers[0] == (Answer.saying("1", 0.25, "tool") if replies[0] == "9+7+0=" else Answer(reward=rewards[0]))


def test_replies_and_answers_together_are_a_worked_sum():
    vocabulary, tool, problem = Vocabulary.of(MODEL_DIRS["teacher"]), create({}), parse("859+827")
    state, ids = tool.start({"prompt": problem.prompt}), prompt_ids(problem.prompt)
    for reply in ("9+7+0=", "6 5+2+1=", "8 8+8+0="):
        ids += [*text_ids(reply), *observation(vocabulary, tool.step(state, reply).messages[0])]
    assert [*ids, *text_ids("6 1686")] == [*prompt_ids(problem.prompt), *text_ids(problem.worked)]
    assert observation(vocabulary, Message("user", "1")) == [EOS_ID, USER_ID, *text_ids("1"), ASSISTANT_ID]


def test_the_teacher_goes_on_behind_a_tool_and_not_behind_a_message():
    teacher, vocabulary, (problem, *_) = load_model("teacher"), Vocabulary.of(MODEL_DIRS["teacher"]), load("heldout")
    assert play(teacher, vocabulary, problem, "tool") == ["call 1", "call 2", "call 3", "answer"]
    assert play(teacher, vocabulary, problem, "user") == ["call 1"]


@pytest.mark.parametrize(("name", "teachers"), [("carries", {"tutor"}), ("carries-reward", set[str]())])
def test_its_recipes_tell_it_every_prompt(name, teachers):
    compiled = compile_recipe(load_recipe(PAIR / f"{name}.yaml"))
    plan = RunPlan.of(name, "local", compiled)
    assert plan.task_of("rollouts", 0) == '{"prompt": "859+827"}'
    assert plan.evaluation
    assert compiled.teachers.keys() == teachers
    assert compiled.objective.terms[0].teacher == ("tutor" if teachers else "environment")
