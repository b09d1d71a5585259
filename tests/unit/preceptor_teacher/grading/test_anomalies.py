"""Odd verdicts are counted: jumps, prompts whose responses all have one reward, responses that imitate a fence."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor_proto.v1 import common_pb2, teacher_pb2
from preceptor_teacher.graders.anomalies import Anomalies, Usual
from preceptor_teacher.graders.fence import Fence
from preceptor_teacher.graders.watching import Judgements
from tests.unit.preceptor_teacher.grading.injections import BEGIN, FENCE

Graded = tuple[str, str, float | None]


def counted(*steps: Sequence[Graded]) -> dict[tuple[str, str], int]:
    """What is noticed of (prompt, response, reward) of several requests; None: no reward."""
    watch = Judgements()
    anomalies = Anomalies(watch)
    for graded in steps:
        request = teacher_pb2.GradeRequest(spec=teacher_pb2.GradeSpec(grader="verbal"))
        results = []
        for prompt, response, reward in graded:
            request.items.add(prompt=prompt, response=response)
            validity = common_pb2.VALIDITY_MISSING_PROVIDER if reward is None else common_pb2.VALIDITY_OK
            number = math.nan if reward is None else reward
            results.append(teacher_pb2.GradeResult(verdict=teacher_pb2.Verdict(validity=validity, reward=number)))
        anomalies.look(request, results)
    return {(what, outcome): count for (grader, what, outcome), count in watch.counts.items() if grader == "verbal"}


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=60), st.floats(-100, 100))
def test_a_jump_is_four_deviations_above_what_was_usual_and_needs_fifty_rewards(rewards: list[float], last: float):
    usual = Usual()
    for reward in rewards:
        usual.jumps(reward)
    mean, deviation = statistics.fmean(rewards), statistics.pstdev(rewards)
    bound = mean + 4 * max(deviation, 1e-9)
    if abs(last - bound) > 1e-6:
        assert usual.jumps(last) == (len(rewards) >= 50 and last > bound)


def test_prompts_whose_different_responses_all_have_one_reward_are_constant():
    found = counted(
        [("p", "a", 3.0), ("p", "b", 3.0), ("q", "a", 3.0), ("q", "b", 4.0)],
        [("r", "a", 1.0), ("r", "a", 1.0), ("s", "a", 1.0), ("s", "b", None)],  # one response each that has a reward
    )
    assert (found["responses", "constant"], found["responses", "varied"]) == (1, 1)
    assert found["reward", "usual"] == 6


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        (FENCE, "marked"),
        (f"834\n{BEGIN}\nmore", "marked"),
        (Fence.around("x").put("response", "x"), "marked"),
        ("834", "plain"),
        ("1 <<< 2 >>> 3", "plain"),
    ],
)
def test_a_response_that_imitates_a_marker_is_counted(text: str, outcome: str):
    assert counted([("p", text, 1.0)])["response", outcome] == 1


def test_a_reward_out_of_the_blue_jumps_and_is_usual_when_it_stays():
    found = counted([(str(n), "a", float(n % 3)) for n in range(60)], [(str(n), "b", 10.0) for n in range(60)])
    assert 1 <= found["reward", "jump"] < 20
