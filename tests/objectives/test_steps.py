"""Verdicts on steps: smoothed by the numbers of the catalogue, held to a plain formula, and rows that no verdict covers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from preceptor.errors import ConfigurationError, InvalidArgument
from preceptor.recipes.ops.step_belief import StepBeliefParams
from preceptor.recipes.ops.step_relative import StepRelativeParams
from preceptor_proto.v1 import student_pb2
from preceptor_student.objectives import step_belief, step_relative
from preceptor_student.objectives.rows import TermRows
from preceptor_student.objectives.signals import Signal
from preceptor_student.objectives.student import Observed, StudentRows
from preceptor_student.step_columns import steps_of
from tests.objectives.test_every_knob import FKL, STEPPED
from tests.objectives.world import Rollout, gradient, loss_of, prepared, recipe, world

AUDITED = STEPPED | {"objective": "policy_gradient", "advantage": {"op": "step_belief", "params": {"own": 0.5}}}
HERE = world(60)


def rows_of(log_probs: list[float], rewards: list[float], steps: list[int], owners: list[int]) -> TermRows:
    """Rows of responses, with what `step_belief` reads."""
    sampled = torch.tensor(log_probs, dtype=torch.float64)
    none = torch.zeros(len(sampled), 0)
    student = StudentRows(sampled, none, none, none, Observed(none, none, none))
    return TermRows(
        student,
        torch.zeros(len(sampled), dtype=torch.long),
        step_reward_n=torch.tensor(rewards, dtype=torch.float64),
        step_n=torch.tensor(steps, dtype=torch.float64),
        owner_n=torch.tensor(owners),
    )


def test_the_belief_is_that_of_the_catalogue():
    """Chunk probabilities 0.5 and 0.8, three of four continuations alike, alpha 1: 0.7265."""
    rows = rows_of([math.log(0.5), math.log(0.8)], [0.75, 0.75], [0, 0], [0, 0])
    found = step_belief.per_row(rows, StepBeliefParams(own=0.25))
    assert found.tolist() == pytest.approx([0.7265, 0.7265], abs=5e-5)
    sure = rows_of([0.0], [1.0], [0], [0])
    assert step_belief.per_row(sure, StepBeliefParams(own=0.25)).tolist() == [1.0]


@given(st.lists(st.tuples(st.floats(-9, 0), st.floats(0, 1), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=9))
def test_steps_of_different_responses_are_apart_and_beliefs_are_shares(parts):
    logs, rewards, steps, owners = map(list, zip(*parts, strict=True))
    found = step_belief.per_row(rows_of(logs, rewards, steps, owners), StepBeliefParams(own=2.0)).tolist()
    for reward, step, owner, got in zip(rewards, steps, owners, found, strict=True):
        same = [logs[at] for at in range(len(logs)) if (steps[at], owners[at]) == (step, owner)]
        assert got == pytest.approx((reward + 2 * math.exp(sum(same) / len(same))) / 3, abs=1e-12)
        assert 0 <= got <= 1


def signal_of_steps(rewards: list[float], steps: list[int]) -> Signal:
    column = np.array(rewards, np.float32)
    return Signal(np.isfinite(column), step_reward_r=column, step_r=np.array(steps, np.int64))


def test_a_step_counts_once_against_all_steps_of_its_group_however_long_it_is():
    """Steps 4 (three rows), 1, and 7 of another response: mean 4, deviation sqrt 6; a row without a verdict has none."""
    first, second = signal_of_steps([4, 4, 4, 1, math.nan], [0, 0, 0, 1, 2]), signal_of_steps([7, 7], [0, 0])
    other, bare = signal_of_steps([2, 3], [0, 1]), Signal(np.zeros(2, bool))
    of = [first, second, other, bare, bare], ["a", "a", "b", "a", "c"]
    plain = [one.tolist() for one in step_relative.over_steps(*of, StepRelativeParams())]
    assert plain[0] == pytest.approx([0, 0, 0, -3, math.nan], nan_ok=True)
    assert plain[1:3] == [[3, 3], [-0.5, 0.5]]
    assert all(math.isnan(one) for rows in plain[3:] for one in rows)
    scaled = [one.tolist() for one in step_relative.over_steps(*of, StepRelativeParams(std_offset=0.5))]
    spreads = (6**0.5 + 0.5, 6**0.5 + 0.5, 0.5 + 0.5)
    for before, values, spread in zip(plain, scaled, spreads, strict=False):
        assert values == pytest.approx([one / spread for one in before], nan_ok=True)


@given(st.lists(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=4), min_size=1, max_size=4), st.floats(-3, 3))
def test_relative_steps_sum_to_nothing_and_a_generous_judge_changes_nothing(rewards, shift):
    def of(add: float) -> list[list[float]]:
        signals = [signal_of_steps([one + add for one in own], list(range(len(own)))) for own in rewards]
        return [
            one.tolist() for one in step_relative.over_steps(signals, ["g"] * len(rewards), StepRelativeParams(std_offset=1.0))
        ]

    found = [one for rows in of(0.0) for one in rows]
    assert sum(found) == pytest.approx(0.0, abs=1e-9)
    assert [one for rows in of(shift) for one in rows] == pytest.approx(found, abs=1e-5)


def test_each_row_is_pushed_by_its_own_step_beside_the_whole_and_micro_batches_change_nothing():
    """`ovd-steps`' advantage: of two responses with judged steps behind their first rows, in the plain formula."""
    whole = {"op": "group_relative", "teacher": "judge", "signal": {**STEPPED["signal"], "op": "reward"}}
    term = STEPPED | {"objective": "policy_gradient", "advantage": ["step_relative", whole]}
    first, second = Rollout((0, 1, 2), rewards={"judge": 0.5}), Rollout((2, 2, 1), rewards={"judge": 0.2})
    wanted = torch.zeros_like(HERE.student)
    for one in (first, second):
        logs = torch.stack([HERE.rows(HERE.student, one.tokens)[at, one.tokens[at]] for at in (1, 2)])
        wanted = wanted + gradient(HERE, -2 * (one.rewards["judge"] - 0.35) * logs.sum() / 4)
    for size in (100, 1):
        torch.testing.assert_close(slope(term, first, second, size=size), wanted, rtol=0, atol=1e-7)


def slope(term: dict[str, Any], *rollouts: Rollout, size: int = 100) -> torch.Tensor:
    return gradient(HERE, loss_of(HERE, recipe(term), rollouts, size=size))


def test_no_gradient_flows_through_the_belief_and_micro_batches_change_nothing():
    first, second = Rollout((0, 1, 2), rewards={"judge": 0.5}), Rollout((2, 2, 1), rewards={"judge": 0.2})
    wanted = torch.zeros_like(HERE.student)
    for one in (first, second):
        logs = torch.stack([HERE.rows(HERE.student, one.tokens)[at, one.tokens[at]] for at in (1, 2)])
        belief = (one.rewards["judge"] + 0.5 * float(logs.detach().mean().exp())) / 1.5
        wanted = wanted + gradient(HERE, -belief * logs.sum() / 4)
    for size in (100, 1):
        torch.testing.assert_close(slope(AUDITED, first, second, size=size), wanted, rtol=0, atol=1e-12)


def test_rows_of_a_step_without_a_reward_are_skipped_and_counted_and_a_rollout_without_a_verdict_is_skipped_whole():
    judged, bare = Rollout((0, 1, 2), rewards={"judge": 0.5}), Rollout((2, 2, 1))
    ready, _ = prepared(HERE, recipe(AUDITED), [judged, bare])
    assert [one.loss_rows.tolist() for one in ready.terms[0].items if one] == [[1, 2], []]
    assert [one.skipped.tolist() for one in ready.terms[0].items if one] == [[0], [0, 1, 2]]
    assert ready.terms[0].infinite_rows == 0
    torch.testing.assert_close(slope(AUDITED, judged, bare), slope(AUDITED, judged), rtol=0, atol=0)


def test_unjudged_rows_are_those_that_a_verdict_left_out():
    term = FKL | {"token_weights": {"op": "unjudged", **STEPPED}}
    judged, bare = Rollout((0, 1, 2), rewards={"judge": 0.5}), Rollout((2, 2, 1))
    ready, _ = prepared(HERE, recipe(term), [judged, bare])
    assert [one.loss_rows.tolist() for one in ready.terms[0].items if one] == [[0], []]
    assert ready.terms[0].skipped_rows == 0
    first = FKL | {"token_weights": {"op": "positions", "params": {"first": 1}}}
    torch.testing.assert_close(slope(term, judged, bare), slope(first, replace(judged, rewards={})), rtol=0, atol=1e-12)


def test_one_teacher_has_one_grader():
    whole = {"op": "reward", "params": {"grader": "verbal"}}
    both = AUDITED | {"sample_weights": {"op": "pass_rate", "params": {"passed_at": 0.5}, "teacher": "judge", "signal": whole}}
    with pytest.raises(ConfigurationError, match="another signal"):
        recipe(both)
    both["sample_weights"]["signal"] = {"op": "reward", "params": {"grader": "chunks"}}
    [plan] = [one for one in recipe(both).teachers.values() if one.grading]
    assert plan.grading is not None
    assert (plan.grading.grader, plan.grading.steps) == ("chunks", True)


# ---------------------------------------------------------------- as they arrive


def sent(rewards: list[float], ends: list[int]) -> student_pb2.TeacherScores:
    return student_pb2.TeacherScores(
        step_rewards_f32le=np.array(rewards, "<f4").tobytes(), step_rows_u32le=np.array(ends, "<u4").tobytes()
    )


def test_rewards_are_spread_over_the_rows_of_their_steps():
    found = steps_of(sent([1.0, 0.25, math.nan], [2, 2, 3]), 5, "x")
    assert found is not None
    np.testing.assert_array_equal(found[0], np.array([1, 1, np.nan, np.nan, np.nan], np.float32))
    assert found[1].tolist() == [0, 0, 2, 3, 3]
    assert steps_of(student_pb2.TeacherScores(reward=1.0), 5, "x") is None


@pytest.mark.parametrize(
    ("rewards", "ends"), [([1.0], [6]), ([1.0, 1.0], [3, 2]), ([1.0], []), ([], [1]), ([math.inf], [3]), ([1.0, 2.0], [3])]
)
def test_steps_that_are_none_are_refused_by_field(rewards, ends):
    with pytest.raises(InvalidArgument) as refused:
        steps_of(sent(rewards, ends), 5, "items[0].scores[judge]")
    assert refused.value.field == "items[0].scores[judge].step_rows_u32le"
