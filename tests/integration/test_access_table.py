"""Every call and route of every service, read off the services, asked with every key that must be refused."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import grpc
import httpx
import pytest

from preceptor import wire
from preceptor.config.settings import RolloutSettings, ServiceSettings, StudentSettings, TeacherSettings
from preceptor.errors import Unavailable
from preceptor.rpc_errors import from_rpc
from preceptor.types import ModelRef, Sequence
from preceptor_proto.v1 import rollout_pb2, student_pb2, teacher_pb2
from preceptor_rollout.service import RolloutService
from preceptor_serving.auth.identity import Scope
from preceptor_serving.auth.key_file import write_key_file
from preceptor_serving.auth.keys import KeyRecord, mint_key
from preceptor_serving.engine_host.channel import EngineChannel, EngineSpec
from preceptor_serving.engine_host.placement import in_this_process
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from preceptor_serving.run import RunningService, running
from preceptor_serving.service import Service, ServiceContext
from preceptor_student.service import StudentService
from preceptor_teacher.catalog import TeacherSpec
from preceptor_teacher.service import TeacherService
from scripts.access_table import ANY, PAGE, TENANTS, Row, access_table, page_with, rows_of
from tests.integration.serving.clients import channel, score_request
from tests.integration.serving.processes import rest_client

RUN, JOB = "run-of-acme", "job-of-acme"
REFUSED = {"UNAUTHENTICATED", "PERMISSION_DENIED"}
DOORS = {"grpc_port": 0, "rest_port": 0}
MODEL = Path(__file__).parents[2] / "examples" / "tiny" / "student"


class Unused:
    """An engine that is described and never reached: whoever reaches it was let in."""

    async def start(self) -> None:
        """Nothing to load."""

    async def call(self, method: str, request: bytes, *, timeout_s: float) -> bytes:
        if method == "student":
            info = FakeEngine(FakeOptions()).describe()[0]
            return rollout_pb2.RolloutDescribeReply(student=wire.model_info_to_proto(info)).SerializeToString()
        raise Unavailable("let in")

    async def stream(self, method: str, request: bytes, *, timeout_s: float) -> AsyncGenerator[bytes]:
        raise Unavailable("let in")
        yield b""

    async def stop(self) -> None:
        """Nothing to stop."""


def unused(spec: EngineSpec, context: ServiceContext) -> EngineChannel:
    return Unused()


@dataclass
class Keys:
    """Keys by what they are; all records end up in one file."""

    path: Path
    records: list[KeyRecord] = field(default_factory=list)

    def mint(self, tenant: str = "acme", scopes: frozenset[Scope] = frozenset(Scope), **changes: object) -> str:
        key, record = mint_key(tenant, scopes)
        self.records.append(replace(record, **changes))
        return key

    def refused_for(self, scope: str) -> dict[str, str | None]:
        """The keys that no call of this scope takes."""
        good = self.mint()
        kinds: dict[str, str | None] = {
            "no key": None,
            "unknown": mint_key("acme", frozenset(Scope))[0],
            "wrong secret": f"{good.rpartition('_')[0]}_{'c' * 32}",
            "malformed": "no-key-at-all",
            "expired": self.mint(expires=datetime(2020, 1, 1, tzinfo=UTC)),
            "revoked": self.mint(revoked=True),
        }
        if scope != ANY:
            kinds["wrong scope"] = self.mint(scopes=frozenset(Scope) - {Scope(scope)})
        return kinds


@dataclass
class House:
    """All services behind their doors, and keys for them."""

    served: dict[str, RunningService]
    keys: Keys
    owner: str = ""
    stranger: str = ""
    bound: str = ""
    refused: dict[str, dict[str, str | None]] = field(default_factory=dict)

    @property
    def rows(self) -> list[Row]:
        return [row for house in self.served.values() for row in rows_of(house.service)]

    async def ask(self, row: Row, key: str | None, body: bytes = b"", json: object = None) -> str:
        """The code of the answer; OK where there was one."""
        house = self.served[row.service]
        if "/" not in row.name:
            return await _over_grpc(house, row, key, body)
        named = {"{run}": RUN, "{name}": "fake", "{model}": "fake", "{teacher}": "fake"}
        for parameter, value in named.items():
            row = replace(row, name=row.name.replace(parameter, value))
        method, path = row.name.split()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with rest_client() as client:
            reply: httpx.Response = await client.request(
                method, f"http://127.0.0.1:{house.rest_port}{path}", headers=headers, json=json if json is not None else {}
            )
        return "OK" if reply.is_success else reply.json()["code"]


async def _over_grpc(house: RunningService, row: Row, key: str | None, body: bytes) -> str:
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    async with channel(house.grpc_port) as opened:
        try:
            await opened.unary_unary(f"/preceptor.v1.{row.name.replace('.', '/')}")(body, metadata=metadata, timeout=30)
        except grpc.aio.AioRpcError as failure:
            return from_rpc(failure).code.value
    return "OK"


def services(tmp_path: Path, key_file: Path) -> list[tuple[Service, ServiceSettings]]:
    keyed = {**DOORS, "key_file": key_file}
    fake = TeacherSpec(EngineSpec("fake", "fake", {}))
    return [
        (TeacherService([fake], in_this_process), TeacherSettings(**keyed, weights_roots=str(tmp_path))),
        (RolloutService(place_engine=unused), RolloutSettings(**keyed, model=f"tiny={MODEL}", weights_roots=str(tmp_path))),
        (StudentService(unused), StudentSettings(**keyed, model=f"tiny={MODEL}", runs_root=str(tmp_path))),
    ]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    keys = Keys(tmp_path / "keys.yaml")
    house = House({}, keys, keys.mint(), keys.mint("globex"), keys.mint(job=JOB))
    house.refused = {scope: keys.refused_for(scope) for scope in (*Scope, ANY)}
    write_key_file(keys.path, keys.records)
    async with AsyncExitStack() as stack:
        for service, settings in services(tmp_path, keys.path):
            house.served[service.name] = await stack.enter_async_context(running(service, settings))
        yield house


def test_the_page_is_what_the_services_say() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page_with(access_table(), page) == page, "run scripts/access_table.py"


def test_every_call_says_how_tenants_are_apart_and_nothing_else_is_said() -> None:
    from scripts.access_table import services as every

    assert {row.key for service in every() for row in rows_of(service)} == set(TENANTS)


async def test_every_call_refuses_every_wrong_key(house: House) -> None:
    assert len(house.rows) >= 20
    for row in house.rows:
        for kind, key in house.refused[row.scope].items():
            expected = "PERMISSION_DENIED" if kind == "wrong scope" else "UNAUTHENTICATED"
            assert await house.ask(row, key) == expected, (row, kind)
        assert await house.ask(row, house.owner) not in REFUSED, row


async def test_what_names_a_run_refuses_another_tenants_key(house: House) -> None:
    opening = Row("student", "Student.OpenRun", Scope.TRAIN)
    asked = {row: (_proto_naming_the_run(row), _json_naming_the_run(row)) for row in house.rows if TENANTS[row.key] == "run"}
    assert await house.ask(opening, house.owner, *asked[opening]) not in REFUSED
    for row, (body, json) in asked.items():
        assert await house.ask(row, house.stranger, body, json) == "PERMISSION_DENIED", row
        assert await house.ask(row, house.owner, body, json) not in REFUSED, row


async def test_a_key_that_is_bound_to_a_job_names_no_other(house: House) -> None:
    for row in (row for row in house.rows if TENANTS[row.key] == "job"):
        if "/" in row.name:
            continue
        for job, refused in ((JOB, False), ("another", True)):
            request = _naming_the_job(row, job)
            assert (await house.ask(row, house.bound, request.SerializeToString()) == "PERMISSION_DENIED") is refused, (row, job)


def _naming_the_job(row: Row, job: str) -> teacher_pb2.ScoreRequest | teacher_pb2.GradeRequest:
    if row.name == "Teacher.Grade":
        spec = teacher_pb2.GradeSpec(grader="verbal")
        item = teacher_pb2.GradeItem(prompt="p", response="r")
        return teacher_pb2.GradeRequest(teacher=wire.choice_to_proto("fake"), spec=spec, items=[item], job=job)
    return score_request([1, 2], [3], job=job)


def _proto_naming_the_run(row: Row) -> bytes:
    ref = wire.model_ref_to_proto(ModelRef("tiny", RUN, 1, 1, bytes(32)))
    prompt = rollout_pb2.GeneratePrompt(context=wire.ids_to_proto([1]), samples=1)
    sampling = rollout_pb2.Sampling(temperature=1.0, max_new_tokens=1)
    header = student_pb2.StepHeader(
        run=RUN,
        epoch=1,
        step=1,
        batch_sha256=bytes(32),
        micro_batches=1,
        objective=student_pb2.ObjectiveSpec(schema=1, json="{}"),
    )
    sequence = wire.sequence_to_proto(Sequence.of([1], [2]))
    messages = {
        "Rollout.Generate": rollout_pb2.GenerateRequest(run=RUN, prompts=[prompt], sampling=sampling),
        "Rollout.LoadWeights": rollout_pb2.LoadWeightsRequest(version=rollout_pb2.WeightVersion(model=ref)),
        "Teacher.LoadVersion": teacher_pb2.LoadVersionRequest(teacher="fake", model=ref),
        "Teacher.PinVersion": teacher_pb2.PinVersionRequest(teacher="fake", model=ref, pinned=True),
        "Teacher.DropVersion": teacher_pb2.DropVersionRequest(teacher="fake", model=ref),
        "Student.Status": student_pb2.StudentStatusRequest(run=RUN),
        "Student.OpenRun": student_pb2.OpenRunRequest(run=RUN, config_json="{}"),
        "Student.Step": student_pb2.StepMessage(header=header),
        "Student.Checkpoint": student_pb2.CheckpointRequest(run=RUN, epoch=1),
        "Student.Publish": student_pb2.PublishRequest(run=RUN, epoch=1),
        "Student.Evaluate": student_pb2.EvaluateRequest(
            run=RUN, objective=header.objective, batch=student_pb2.MicroBatch(items=[student_pb2.TrainItem(sequence=sequence)])
        ),
    }
    return messages[row.name].SerializeToString() if "/" not in row.name else b""


def _json_naming_the_run(row: Row) -> object:
    return {"run": RUN, "prompts": [{"ids": [1]}], "max_new_tokens": 1} if row.name.endswith("/v1/generate") else None
