"""One request of each call that is fine: what the nearly valid ones start from."""

from __future__ import annotations

from functools import cache

import numpy as np
from google.protobuf.message import Message

from preceptor import wire
from preceptor.names import batch_digest
from preceptor.recipes import CompiledRecipe, compile_recipe, recipe_from
from preceptor.types import Grade, ModelRef, RaggedIds, RolloutId, Rows, Sequence, TailOf, Want
from preceptor_proto.v1 import rollout_pb2, student_pb2, teacher_pb2

RUN = "run-1"
RECIPE = {
    "version": 1,
    "name": "fuzz",
    "summary": "one sampled term",
    "data": {"path": "unused.jsonl"},
    "sources": {"rollouts": {"max_response_tokens": 8, "samples_per_prompt": 2}},
    "teachers": {"tutor": {"model": "tiny-teacher"}},
    "terms": [{"on": "rollouts", "teacher": "tutor", "signal": "sampled", "objective": "policy_gradient", "advantage": "k1"}],
    "optimizer": {"learning_rate": 0.0003},
    "schedule": {"steps": 3, "prompts_per_step": 4},
}


def _score() -> teacher_pb2.ScoreRequest:
    lists = RaggedIds.from_rows([[1, 2], [3], []])
    wants = (
        Want(sampled=True, topk=4, entropy=True, tail=TailOf.TOPK),
        Want(sampled=True, candidates=lists, samples=2, next=False),
        Want(hidden=True, next=True, temperature=0.7),
    )
    items = [
        teacher_pb2.ScoreItem(sequence=wire.sequence_to_proto(Sequence.of([1, 2, 3], [4, 5, 6])), want=wire.want_to_proto(want))
        for want in wants
    ]
    return teacher_pb2.ScoreRequest(teacher=wire.choice_to_proto("fake"), items=items, job="job-1")


def _grade() -> teacher_pb2.GradeRequest:
    item = teacher_pb2.GradeItem(prompt="What is one and one?", response="2", reference="2")
    spec = teacher_pb2.GradeSpec(grader="verbal")
    return teacher_pb2.GradeRequest(teacher=wire.choice_to_proto("judge"), spec=spec, items=[item])


def _generate() -> rollout_pb2.GenerateRequest:
    prompt = rollout_pb2.GeneratePrompt(context=wire.ids_to_proto([1, 2, 3]), samples=2)
    sampling = rollout_pb2.Sampling(temperature=1.0, max_new_tokens=4)
    return rollout_pb2.GenerateRequest(run=RUN, prompts=[prompt], sampling=sampling, student_topk=2, write_logs=True)


def _render() -> rollout_pb2.RenderRequest:
    message = rollout_pb2.Conversation(messages=[rollout_pb2.ChatMessage(role="user", content="abc")], add_generation_prompt=True)
    return rollout_pb2.RenderRequest(items=[rollout_pb2.RenderItem(conversation=message), rollout_pb2.RenderItem(text="abc")])


@cache
def _compiled() -> CompiledRecipe:
    return compile_recipe(recipe_from(RECIPE))


def _evaluate() -> student_pb2.EvaluateRequest:
    header, part = step_messages()
    return student_pb2.EvaluateRequest(run=RUN, objective=header.header.objective, batch=part.micro_batch)


def step_messages(epoch: int = 1, step: int = 1) -> list[student_pb2.StepMessage]:
    """A step that a run of that epoch can apply next."""
    rows, _ = wire.rows_to_proto(Rows(0, np.zeros(2, np.uint8), np.array([-1.0, -2.0], np.float32)), Grade.F32, 64)
    item = student_pb2.TrainItem(
        id=wire.rollout_id_to_proto(RolloutId(RUN, step, 0, 0)),
        sequence=wire.sequence_to_proto(Sequence.of([1, 2], [3, 4])),
        scores=[student_pb2.TeacherScores(source="tutor", rows=rows)],
        source="rollouts",
        group="prompt-0",
        weight=1.0,
    )
    batch = student_pb2.MicroBatch(items=[item])
    header = student_pb2.StepHeader(
        run=RUN,
        epoch=epoch,
        step=step,
        batch_sha256=batch_digest([batch.SerializeToString(deterministic=True)]),
        micro_batches=1,
        objective=student_pb2.ObjectiveSpec(schema=1, json=_compiled().objective.to_json()),
    )
    return [student_pb2.StepMessage(header=header), student_pb2.StepMessage(micro_batch=batch)]


def seeds() -> dict[str, list[Message]]:
    """Service.Method -> the messages of one call; more than one only where the call takes a stream."""
    version = rollout_pb2.WeightVersion(model=wire.model_ref_to_proto(ModelRef("tiny", RUN, 1, 1, bytes(32))))
    return {
        "Teacher.Describe": [teacher_pb2.DescribeRequest(teacher="fake")],
        "Teacher.Score": [_score()],
        "Teacher.Grade": [_grade()],
        "Teacher.LoadVersion": [teacher_pb2.LoadVersionRequest(teacher="fake", model=version.model)],
        "Teacher.PinVersion": [teacher_pb2.PinVersionRequest(teacher="fake", model=version.model, pinned=True)],
        "Teacher.DropVersion": [teacher_pb2.DropVersionRequest(teacher="fake", model=version.model)],
        "Rollout.Describe": [rollout_pb2.RolloutDescribeRequest()],
        "Rollout.Render": [_render()],
        "Rollout.Pieces": [rollout_pb2.PiecesRequest(ids=[wire.ids_to_proto([1, 2, 3])])],
        "Rollout.Generate": [_generate()],
        "Rollout.LoadWeights": [rollout_pb2.LoadWeightsRequest(version=version)],
        "Student.Status": [student_pb2.StudentStatusRequest(run=RUN)],
        "Student.OpenRun": [student_pb2.OpenRunRequest(run=RUN, config_json=_compiled().config_json)],
        "Student.Step": [*step_messages()],
        "Student.Checkpoint": [student_pb2.CheckpointRequest(run=RUN, epoch=1)],
        "Student.Publish": [student_pb2.PublishRequest(run=RUN, epoch=1)],
        "Student.Evaluate": [_evaluate()],
    }
