"""Copies of the student as teachers, and what teachers read instead of the prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from preceptor.errors import ConfigurationError
from preceptor.learner import RunPlan, training_prompts, training_views
from preceptor.recipes import compile_recipe, findings_of, recipe_from

SUPPORT = {"op": "support", "params": {"teacher_topk": 4, "student_topk": 4}}


def recipe(teacher: dict[str, Any], data: str = "unused", **changes: Any):
    return recipe_from(
        {
            "version": 1,
            "name": "r",
            "summary": "s",
            "data": {"path": data},
            "sources": {"rollouts": {"max_response_tokens": 9}},
            "teachers": {"self": {"model": "tiny-student"} | teacher},
            "terms": [{"on": "rollouts", "teacher": "self", "signal": SUPPORT, "objective": "reverse_kl"}],
            "optimizer": {"learning_rate": 1e-3},
            "schedule": {"steps": 3, "prompts_per_step": 1},
        }
        | changes
    )


def refusal(teacher: dict[str, Any], **changes: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as refused:
        compile_recipe(recipe(teacher, **changes))
    return refused.value


def test_a_copy_is_part_of_what_a_run_is_opened_with() -> None:
    compiled = compile_recipe(recipe({"student_copy": {"kind": "ema", "decay": 0.5}}))
    assert json.loads(compiled.config_json)["copies"] == {"self": {"kind": "ema", "every_steps": None, "decay": 0.5}}
    assert json.loads(compile_recipe(recipe({})).config_json)["copies"] == {}


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        ({}, 0),
        ({"publish_every_steps": 4}, 3),
        ({"staleness": 2}, 2),
        ({"staleness": 1, "ahead_steps": 9, "publish_every_steps": 2}, 10),
    ],
    ids=str,
)
def test_the_student_is_told_how_far_back_open_rollouts_reach(schedule: dict[str, int], steps: int) -> None:
    raw = recipe({}).model_dump(mode="json")
    told = compile_recipe(recipe_from(raw | {"schedule": raw["schedule"] | {"deterministic": False} | schedule}))
    assert json.loads(told.config_json)["look_back_steps"] == steps


@pytest.mark.parametrize(
    ("copy", "steps"),
    [("frozen", [0, 0, 0, 0, 0]), ("current", [0, 1, 2, 3, 4]), ({"kind": "lagged", "every_steps": 3}, [0, 0, 0, 3, 3])],
)
def test_a_copy_is_taken_at_its_step(copy: object, steps: list[int]) -> None:
    plan = compile_recipe(recipe({"student_copy": copy, "view": "{prompt}!"})).teachers["self"]
    assert plan.student_copy is not None
    assert [plan.student_copy.taken_at(step) for step in range(5)] == steps


@pytest.mark.parametrize(
    "copy",
    ["ema", "lagged", {"kind": "frozen", "decay": 0.5}, {"kind": "ema", "decay": 1.0}, {"kind": "lagged", "every_steps": 0}],
)
def test_a_copy_needs_its_own_number_and_no_other(copy: object) -> None:
    assert "student_copy" in refusal({"student_copy": copy}).field


def test_the_student_as_it_is_teaches_nothing_without_a_view() -> None:
    assert refusal({"student_copy": "current"}).field == "teachers.self.view"


def test_a_lagged_copy_is_taken_when_weights_are_published() -> None:
    schedule = {"steps": 3, "prompts_per_step": 1, "publish_every_steps": 2}
    found = refusal({"student_copy": {"kind": "lagged", "every_steps": 3}}, schedule=schedule)
    assert found.field == "teachers.self.student_copy.every_steps"
    compile_recipe(recipe({"student_copy": {"kind": "lagged", "every_steps": 4}}, schedule=schedule))


@pytest.mark.parametrize(("teacher", "field"), [({"student_copy": "frozen"}, "student_copy"), ({"view": "{prompt}"}, "view")])
def test_who_writes_has_neither_copy_nor_view(teacher: dict[str, Any], field: str) -> None:
    source = {"rollouts": {"max_response_tokens": 9, "writer": "self"}}
    assert f"teachers.self.{field}" in [one.field for one in findings_of(recipe(teacher, sources=source))]


@pytest.mark.parametrize("view", ["{prompt.x}", "{0}", "{}", "{prompt!r}", "{prompt:>9}", "{a[b]}", "{open"])
def test_a_place_of_a_view_holds_a_name_and_nothing_else(view: str) -> None:
    assert "view" in refusal({"view": view}).field


def test_views_are_filled_from_the_data_and_every_line_has_what_they_name(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"prompt": "1+1", "answer": "{2}"}\n{"prompt": "2+2", "answer": "4"}\n')
    made = recipe({"view": "{{{prompt}}}={answer}"}, str(data))
    assert training_views(made) == {"self": ("{1+1}={2}", "{2+2}=4")}
    with pytest.raises(ConfigurationError, match="solution"):
        training_views(recipe({"view": "{solution}"}, str(data)))
    with pytest.raises(ConfigurationError, match="view"):
        RunPlan("r", "local", compile_recipe(made), training_prompts(made))
