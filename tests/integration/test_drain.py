"""A teacher is taken out of work under load: nothing that was asked fails, probes say so, and it comes back or ends with 0."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import Any

import pytest

from preceptor import wire
from preceptor.cli import run
from preceptor.client import AsyncTeacherClient, ScoreItem
from preceptor.client.channel import Target
from preceptor.errors import PermissionDenied, Unavailable
from preceptor.local.valkey import EmbeddedValkey
from preceptor.queue import Flow, ScoreStream
from preceptor.queue.redis import RedisQueue
from preceptor.types import Scored, Sequence, Want
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.auth.identity import Scope
from preceptor_serving.auth.issue import issue_key
from tests.integration.serving.processes import ServiceProcess, module_process, rest_client

SLOW = "teachers: {toy: {engine: fake, tokens_per_s: 400.0, aliases: [default]}, other: {engine: fake}}"
ITEM = ScoreItem(Sequence.of(range(1, 17), range(1, 9)), Want(sampled=True))
TASKS = 40


async def started(stack: AsyncExitStack, file: str, *flags: str) -> ServiceProcess:
    command = ("serve", "teacher", "--grpc-port", "0", "--rest-port", "0", "--log-format", "json", "--teachers-file", file)
    off = ("--score-cache-memory-bytes", "0")  # every request is work
    service = await stack.enter_async_context(module_process("preceptor", *command, *off, *flags))
    await service.ready()
    return service


async def command(*words: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "preceptor", "teachers", *words), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


async def state_of(service: ServiceProcess) -> tuple[int, str]:
    async with rest_client() as http:
        reply = await http.get(f"{service.rest_url}/readyz")
    return reply.status_code, reply.json()["state"]


async def open_tasks(queue: RedisQueue, count: int) -> ScoreStream:
    stream = ScoreStream(queue, Flow("toy", "local", "default"))
    for number in range(count):
        await stream.open(
            teacher_pb2.ScoreTask(
                schema=1,
                task_id=f"task-{number}",
                inline=wire.sequence_to_proto(ITEM.sequence),
                teacher=wire.choice_to_proto("toy"),
                want=wire.want_to_proto(ITEM.want),
            )
        )
    return stream


async def finished(stream: ScoreStream, count: int) -> list[bool]:
    """Whether each task brought rows, once all have ended."""
    ended: dict[str, bool] = {}
    async with asyncio.timeout(60):
        while len(ended) < count:
            for one in (await stream.take(timeout_s=0.5)).deliveries:
                if one.finished:
                    ended[one.envelope.task_id] = one.envelope.WhichOneof("body") == "rows"
    return list(ended.values())


@pytest.mark.slow
async def test_one_of_two_replicas_is_drained_under_load_and_ends_while_the_other_does_all_the_rest(tmp_path):
    (tmp_path / "teachers.yaml").write_text(SLOW)
    with EmbeddedValkey(tmp_path / "valkey") as valkey:
        (tmp_path / "secret").write_text(valkey.password)
        redis = ("--redis-url", valkey.url, "--redis-password-file", str(tmp_path / "secret"))
        async with AsyncExitStack() as stack:
            file = str(tmp_path / "teachers.yaml")
            going, staying = await asyncio.gather(*(started(stack, file, *redis) for _ in range(2)))
            queue = await RedisQueue.connect(valkey.url, password=valkey.password)
            stack.push_async_callback(queue.close)
            stream = await open_tasks(queue, TASKS)
            client = await stack.enter_async_context(AsyncTeacherClient(f"127.0.0.1:{going.grpc_port}"))
            direct = [asyncio.create_task(client.score("toy", [ITEM], deadline_s=60)) for _ in range(5)]
            await going.in_flight(len(direct))
            code, told = await command("drain", f"127.0.0.1:{going.grpc_port}", "--exit")
            assert code == 0, told
            assert "drained other, toy" in told
            assert [type(one) for reply in await asyncio.gather(*direct) for one in reply] == [Scored] * len(direct)
            assert await going.exit_code() == 0
            assert await finished(stream, TASKS) == [True] * TASKS
            assert await state_of(staying) == (200, "ready")
            assert not going.event("requests_cut_off")


async def test_a_drained_service_says_so_refuses_with_a_reason_to_come_back_and_is_taken_back(tmp_path, capsys):
    (tmp_path / "teachers.yaml").write_text(SLOW)
    async with AsyncExitStack() as stack:
        service = await started(stack, str(tmp_path / "teachers.yaml"))
        address = f"127.0.0.1:{service.grpc_port}"
        client = await stack.enter_async_context(AsyncTeacherClient(address))
        assert (await command("drain", address))[0] == 0
        assert await state_of(service) == (503, "draining")
        assert await asyncio.to_thread(run, ["teachers", "--teacher", address]) == 0
        rows = [line.split("\t")[:2] for line in capsys.readouterr().out.splitlines()]
        assert rows == [["name", "state"], ["toy", "draining"], ["other", "draining"]]
        waiting = asyncio.create_task(client.score("toy", [ITEM], deadline_s=60))
        with pytest.raises(Unavailable, match="drained"):
            await once(address, "other")
        assert (await command("undrain", address)) == (0, f"{address}: takes work\n")
        assert await state_of(service) == (200, "ready")
        assert isinstance((await waiting)[0], Scored)  # a client that waits notices nothing but the time


@pytest.mark.slow
async def test_one_teacher_of_several_is_drained_by_its_alias_and_the_others_go_on(tmp_path):
    (tmp_path / "teachers.yaml").write_text(SLOW)
    async with AsyncExitStack() as stack:
        service = await started(stack, str(tmp_path / "teachers.yaml"))
        address = f"127.0.0.1:{service.grpc_port}"
        code, told = await command("drain", "default", "--teacher", address)
        assert (code, told) == (0, f"{address}: drained toy\n")
        with pytest.raises(Unavailable, match="toy is drained"):
            await once(address, "toy")
        assert isinstance(await once(address, "other"), Scored)
        assert await state_of(service) == (200, "degraded")
        assert (await command("drain", "nobody", "--teacher", address))[0] != 0
        assert (await command("drain", "toy", "--exit", "--teacher", address))[0] == 2


async def once(address: str, name: str) -> object:
    """One attempt."""
    async with AsyncTeacherClient(address) as client:
        method = client.connection.unary("preceptor.v1.Teacher/Score", teacher_pb2.ScoreReply)
        request = teacher_pb2.ScoreRequest(teacher=wire.choice_to_proto(name))
        request.items.add(sequence=wire.sequence_to_proto(ITEM.sequence), want=wire.want_to_proto(ITEM.want))
        await client.connection.call(method, request, deadline_s=30, idempotent=False)
        [result] = await client.score(name, [ITEM], deadline_s=30)
        return result


async def test_draining_takes_a_key_of_an_operator_at_either_door(tmp_path):
    (tmp_path / "teachers.yaml").write_text(SLOW)
    keys = tmp_path / "keys.yaml"
    operator, _ = issue_key(keys, "ops", frozenset({Scope.ADMIN, Scope.STATUS}))
    user, _ = issue_key(keys, "acme", frozenset(Scope) - {Scope.ADMIN})
    async with AsyncExitStack() as stack:
        service = await started(stack, str(tmp_path / "teachers.yaml"), "--key-file", str(keys))
        address = f"127.0.0.1:{service.grpc_port}"
        async with AsyncTeacherClient(Target(address, user)) as client:
            with pytest.raises(PermissionDenied):
                await client.drain("toy")
        async with AsyncTeacherClient(Target(address, operator)) as client:
            assert (await client.drain("toy")).teachers == ("toy",)
            assert [str(one.state) for one in (await client.status()).standings] == ["draining", "serving"]
        http = await stack.enter_async_context(rest_client())

        async def over_rest(key: str = operator, **body: object) -> dict[str, Any]:
            reply = await http.post(f"{service.rest_url}/v1/drain", json=body, headers={"Authorization": f"Bearer {key}"})
            return reply.json()

        assert (await over_rest(user))["code"] == "PERMISSION_DENIED"
        assert await over_rest(undo=True) == {"draining": [], "tasks": 0, "leases": 0}
        assert await over_rest(teacher="default") == {"draining": ["toy"], "tasks": 0, "leases": 0}
        assert (await over_rest(teacher="nobody"))["code"] == "NOT_FOUND"
        assert (await over_rest(exit=True))["code"] == "INVALID_ARGUMENT"
        assert await over_rest(stop=True) == {"draining": ["other", "toy"], "tasks": 0, "leases": 0}
        assert await service.exit_code() == 0
