"""What a teacher is shown of finished rollouts: never one's own answer, never a wrong one, and nothing where there is nothing."""

from __future__ import annotations

from typing import Any

import pytest

from preceptor.journal import LearnerState, RolloutClosed, RowsReceived
from preceptor.learner import RunPlan
from preceptor.learner.requests import Terms, grade_name, grade_opened, inline_task, rereading_opened
from preceptor.learner.rereading import owed
from preceptor.learner.stages import Lane, Memory, Stage, next_work, score_names, unscored
from preceptor.recipes import compile_recipe, findings_of, recipe_from
from preceptor.recipes.views import filled_in_part
from preceptor.types import Behaviour, FinishReason, ModelRef, RaggedIds, Rollout, RolloutId, Sequence
from preceptor.wire import ids_to_proto, rollout_from_proto, rollout_to_proto
from preceptor_proto.v1 import common_pb2, rollout_pb2, teacher_pb2
from tests.unit.preceptor.learner.world import JUDGE, RUN, TEACHER, TENANT, recipe

VERDICT = {"op": "reward", "params": {"grader": "verbal"}}
VIEW = "{prompt}={sibling}{critique}"


def raw(samples: int = 3, view: str = VIEW, judge: str = "judge", **term: Any) -> dict[str, Any]:
    made = recipe(prompts_per_step=1)
    support = {"op": "support", "params": {"teacher_topk": 2, "student_topk": 2}}
    kept = {"op": "pass_rate_within", "params": {"passed_at": 1.0, "at_least": 0.01}, "teacher": "judge", "signal": VERDICT}
    taught = {"on": "rollouts", "teacher": "tutor", "signal": support, "objective": "reverse_kl", "when": kept}
    feedback = {"judge": judge, "passed_at": 1.0}
    return made | {
        "sources": {"rollouts": {"samples_per_prompt": samples, "max_response_tokens": 9}},
        "teachers": {"tutor": {"model": TEACHER, "view": view, "feedback": feedback}, "judge": {"model": JUDGE}},
        "terms": [taught | term],
        "evaluation": None,
    }


def plan(view: str = VIEW) -> RunPlan:
    views = {"tutor": (filled_in_part(view, {"prompt": "{1}+1"}),)}
    return RunPlan(RUN, TENANT, compile_recipe(recipe_from(raw(view=view))), ("{1}+1",), views=views)


def graded(plan: RunPlan, rewards: list[float | None], critiques: tuple[str, ...] = ("", "", "")) -> LearnerState:
    """One prompt's rollouts, closed and judged; None: the judge had no verdict."""
    state, judge = LearnerState(RUN), plan.compiled.teachers["judge"]
    for sample, (reward, critique) in enumerate(zip(rewards, critiques, strict=True)):
        rollout = RolloutId(RUN, 0, 0, sample, 0)
        listed = RaggedIds.from_rows([[1, 2], [3, 4]])
        sequence, model = Sequence.of([1, 2], [3, 4]), ModelRef("student", RUN, 1, 0, bytes(32))
        value = Rollout(rollout, sequence, Behaviour(), FinishReason.EOS, model, student_topk=listed)
        told = rollout_to_proto(value)
        told.text = f"answer {sample}"
        state.apply(grade_opened(rollout, judge))
        state.apply(RolloutClosed(rollout, told.SerializeToString()))
        verdict = teacher_pb2.Verdict(critique=critique, validity=common_pb2.VALIDITY_MISSING_PROVIDER)
        if reward is not None:
            verdict.validity, verdict.reward = common_pb2.VALIDITY_OK, reward
        payload = teacher_pb2.Envelope(schema=1, verdict=verdict, finished=True).SerializeToString()
        state.apply(RowsReceived(grade_name(rollout, judge), JUDGE, "1-0", 0, 0, True, payload))
    return state


@pytest.mark.parametrize(
    ("rewards", "shown"),
    [
        ([0.0, 1.0, 0.0], {0: 1, 2: 1}),
        ([1.0, 0.0, 1.0], {0: 2, 1: 0, 2: 0}),
        ([0.0, 0.5, 0.0], {}),
        ([None, 0.0, 1.0], {0: 2, 1: 2}),
    ],
)
def test_a_rollout_is_read_again_after_the_first_other_one_that_passed(rewards, shown) -> None:
    made = plan()
    found = {one.closed.rollout.sample: one.text for one in owed(graded(made, rewards), made, 0)}
    assert found == {sample: f"{{1}}+1=answer {other}" for sample, other in shown.items()}


def test_what_the_judge_said_of_a_rollout_is_enough() -> None:
    made = plan()
    found = {
        one.closed.rollout.sample: one.text for one in owed(graded(made, [0.0, 0.0, 0.0], ("", "{off} by one", "")), made, 0)
    }
    assert found == {1: "{1}+1={off} by one"}


def test_a_step_waits_for_the_tasks_that_it_owes_and_for_no_other() -> None:
    made = plan()
    state = graded(made, [0.0, 1.0, 0.0])
    work = next_work(Lane.TRAIN, state, made, Memory(published_step=0))
    assert work.stage is Stage.REREAD
    for one in list(owed(state, made, 0)):
        state.apply(rereading_opened(one.closed, one.scorer, ids_to_proto([7, 8, 9]), Terms(bytes(32))))
    assert next_work(Lane.TRAIN, state, made, Memory(published_step=0)).stage is Stage.SCORES
    assert len(list(unscored(state, made, 0))) == 2
    assert [list(score_names(state, made, closed)) for closed in state.closed.values()] == [["tutor"], [], ["tutor"]]


def test_its_task_holds_the_ids_behind_the_view_and_is_asked_for_again_as_it_is() -> None:
    made = plan()
    one = next(owed(graded(made, [0.0, 1.0, 0.0]), made, 0))
    opened = rereading_opened(one.closed, one.scorer, ids_to_proto([7, 8, 9]), Terms(bytes(32)))
    task = teacher_pb2.ScoreTask.FromString(opened.payload)
    assert task.inline.segments[0].context == ids_to_proto([7, 8, 9])
    assert task.inline.segments[1].response == ids_to_proto([3, 4])
    assert task.want.HasField("candidates")
    assert not task.want.log_candidates
    rollout = rollout_from_proto(rollout_pb2.RolloutResult.FromString(one.closed.payload))
    assert inline_task(task, rollout, b"") == task


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"view": "{prompt}"}, "teachers.tutor.view"),
        ({"judge": "jugde"}, "teachers.tutor.feedback.judge"),
        ({"when": []}, "teachers.tutor.feedback.judge"),
        ({"samples": 1}, "sources.rollouts.samples_per_prompt"),
    ],
)
def test_what_cannot_be_shown_is_refused(changes: dict[str, Any], field: str) -> None:
    assert findings_of(recipe_from(raw())) == []
    assert field in [one.field for one in findings_of(recipe_from(raw(**changes)))]
