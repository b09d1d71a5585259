"""Slots that look at whole rollouts, through the training engine: the loss is that of the plain formula, whatever the batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from examples.tiny.decode import load_model
from preceptor import wire
from preceptor.types import Behaviour
from preceptor_proto.v1 import student_pb2
from tests.unit.preceptor_student import stepping
from tests.unit.preceptor_student.test_engine import made_items, opened

GRADED = {"teacher": "judge", "signal": {"op": "reward", "params": {"grader": "g"}}}
PREFERENCE = {
    "on": "rollouts",
    "objective": {"op": "bradley_terry", "params": {"beta": 0.1}},
    "pairs": {"op": "reward_pairs", "params": {}, **GRADED},
    "normaliser": "pairs",
}
STALE = {
    "on": "rollouts",
    "teacher": "tutor",
    "signal": "sampled",
    "objective": {"op": "ppo_clip", "params": {"against": "policy"}},
    "advantage": ["k1", {"op": "reward_to_go", "params": {"discount": 0.9}}, {"op": "group_relative", **GRADED}],
    "normaliser": "sequence_means",
}


def compiled_with(term):
    names = ("tutor", "judge") if term is STALE else ("judge",)
    schedule = {"steps": 3, "prompts_per_step": 4, "publish_every_steps": 2}
    return stepping.recipe(term, teachers={name: {"model": name} for name in names}, schedule=schedule)


def graded_items():
    """Two groups of two, the second of each better."""
    items = made_items(5)
    for place, item in enumerate(items):
        item.scores.append(student_pb2.TeacherScores(source="judge", reward=float(place % 2)))
        rows = wire.sequence_from_proto(item.sequence).row_count
        column = np.full(rows, -3.0, np.float32)
        item.behaviour.CopyFrom(wire.behaviour_to_proto(Behaviour(logprob_policy=column)))
    return items


def plain_loss(items):
    model = load_model("student")
    sums = []
    for item in items:
        sequence = wire.sequence_from_proto(item.sequence)
        ids, rows = torch.tensor(sequence.ids.astype(np.int64)), torch.tensor(sequence.targets)
        with torch.no_grad():
            log_probs = model(input_ids=ids[None]).logits[0].log_softmax(-1)
        sums.append(float(log_probs[rows - 1, ids[rows]].double().sum()))
    gaps = [sums[1] - sums[0], sums[3] - sums[2]]
    return -float(torch.nn.functional.logsigmoid(0.1 * torch.tensor(gaps, dtype=torch.float64)).mean())


@pytest.mark.parametrize("term", [PREFERENCE, STALE], ids=["preference", "stale rewards"])
def test_micro_batches_change_nothing_but_rounding(tmp_path, term):
    items, results = graded_items(), []
    for size in (1, 3, 100):
        compiled = compiled_with(term)
        student, epoch = opened(tmp_path / str(size), compiled)
        reply = stepping.take_step(student, compiled, stepping.cut(items, size), epoch, 1)
        results.append((reply.metrics["loss"], reply.metrics["grad_norm"], reply.valid_rows, reply.skipped_rows))
    assert results[0][1] > 1e-3
    for loss, norm, *rows in results[1:]:
        assert (loss, norm) == pytest.approx(results[0][:2], rel=1e-4)
        assert tuple(rows) == results[0][2:]


def test_the_loss_of_a_preference_is_that_of_its_pairs(tmp_path):
    items, compiled = graded_items(), compiled_with(PREFERENCE)
    student, epoch = opened(tmp_path, compiled)
    reply = stepping.take_step(student, compiled, stepping.cut(items, 2), epoch, 1)
    assert reply.metrics["loss"] == pytest.approx(plain_loss(items), abs=1e-5)
    again = stepping.take_step(student, compiled, stepping.cut(items, 2), epoch, 2)
    assert again.metrics["loss"] < reply.metrics["loss"], "one step of its gradient lowers it"


def test_rows_without_the_logged_column_are_skipped_and_counted(tmp_path):
    items, compiled = graded_items(), compiled_with(STALE)
    items[0].ClearField("behaviour")
    student, epoch = opened(tmp_path, compiled)
    reply = stepping.take_step(student, compiled, stepping.cut(items, 2), epoch, 1)
    assert reply.skipped_rows == wire.sequence_from_proto(items[0].sequence).row_count


def test_a_behaviour_that_does_not_fit_the_response_is_refused_by_name(tmp_path):
    from preceptor.errors import InvalidArgument

    items, compiled = graded_items(), compiled_with(STALE)
    items[0].behaviour.logprob_policy_f32le = b"\0" * 8 * 4
    student, epoch = opened(tmp_path, compiled)
    with pytest.raises(InvalidArgument) as refused:
        stepping.take_step(student, compiled, stepping.cut(items, 2), epoch, 1)
    assert refused.value.field == "micro_batches[0].items[0].behaviour.logprob_policy_f32le"
