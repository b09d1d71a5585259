"""The student's client against the service itself: a run from opening to its published weights."""

from __future__ import annotations

import pytest

from preceptor.client import AsyncStudentClient
from preceptor.errors import Conflict, Fenced, NotFound
from preceptor_proto.v1 import student_pb2
from tests.unit.preceptor_student import stepping
from tests.unit.preceptor_student.test_engine import made_batches
from tests.unit.preceptor_student.test_service import COMPILED, student


async def test_a_run_from_opening_to_publishing(tmp_path):
    async with student(tmp_path) as (house, _), AsyncStudentClient(f"127.0.0.1:{house.grpc_port}") as client:
        with pytest.raises(NotFound):
            await client.status("r")
        opened = await client.open_run("r", COMPILED.config_json)
        assert (opened.epoch, opened.applied_step, opened.published) == (1, 0, None)

        async def step(seed: int, epoch: int) -> student_pb2.StepReply:
            batches = made_batches(seed)
            head = stepping.header(COMPILED, batches, epoch, 1)
            return await client.step(head, [student_pb2.MicroBatch.FromString(raw) for raw in batches])

        assert [(await step(1, opened.epoch)).repeated_step for _ in range(2)] == [False, True]
        with pytest.raises(Conflict):
            await step(2, opened.epoch)
        assert (await client.checkpoint("r", opened.epoch)).durable_step == 1
        published = await client.publish("r", opened.epoch)
        status = await client.status("r")
        assert (status.applied_step, status.durable_step, status.published) == (1, 1, published)
        taken_over = await client.open_run("r", COMPILED.config_json)
        with pytest.raises(Fenced):
            await client.publish("r", opened.epoch)
        assert taken_over.epoch == opened.epoch + 1
