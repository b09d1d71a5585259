"""One teachers file, several services, as the rendered containers run it: clients find each teacher by name and alias."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import yaml

from preceptor import wire
from preceptor.client import AsyncTeacherClient, ScoreItem
from preceptor.errors import NotFound
from preceptor.local.valkey import EmbeddedValkey
from preceptor.queue import Flow, ScoreStream
from preceptor.queue.redis import RedisQueue
from preceptor.types import Scored, Sequence, Want
from preceptor_proto.v1 import teacher_pb2
from tests.integration.serving.processes import ServiceProcess, module_process

EXAMPLE = Path(__file__).parents[2] / "configs" / "teachers-4gpu.yaml"
ITEM = ScoreItem(Sequence.of([1, 2, 3], [4, 5, 6]), Want(sampled=True))


def without_gpus(folder: Path) -> dict[str, list[str]]:
    """The example on engines without a model, each with other weights; names to aliases."""
    entries = yaml.safe_load(EXAMPLE.read_text())["teachers"]
    toys = {
        name: {"engine": "fake", "seed": seed, "aliases": entry["aliases"]} for seed, (name, entry) in enumerate(entries.items())
    }
    (folder / "teachers.yaml").write_text(yaml.safe_dump({"teachers": toys}, sort_keys=False))
    return {name: entry["aliases"] for name, entry in entries.items()}


async def started(stack: AsyncExitStack, *flags: str) -> ServiceProcess:
    command = ("serve", "teacher", "--grpc-port", "0", "--rest-port", "0", "--log-format", "json", *flags)
    service = await stack.enter_async_context(module_process("preceptor", *command))
    await service.ready()
    return service


async def sampled(client: AsyncTeacherClient, name: str) -> tuple[str, list[float]]:
    """Who answered under a name, and what."""
    [result] = await client.score(name, [ITEM], deadline_s=30)
    assert isinstance(result, Scored)
    assert result.rows.sampled is not None
    return result.receipt.model.name, result.rows.sampled.tolist()


@pytest.mark.slow
async def test_every_teacher_of_a_file_scores_by_name_and_alias_from_one_service_or_three(tmp_path):
    names = without_gpus(tmp_path)
    file = ("--teachers-file", str(tmp_path / "teachers.yaml"))
    async with AsyncExitStack() as stack:
        one, *three = await asyncio.gather(started(stack, *file), *(started(stack, *file, "--only", name) for name in names))
        together = await stack.enter_async_context(AsyncTeacherClient(f"127.0.0.1:{one.grpc_port}"))
        addresses = ",".join(f"127.0.0.1:{service.grpc_port}" for service in three)
        apart = await stack.enter_async_context(AsyncTeacherClient(addresses))
        for name, aliases in names.items():
            by_name = await sampled(together, name)
            assert by_name[0] == name
            for alias in (name, *aliases):
                assert await sampled(apart, alias) == await sampled(together, alias) == by_name
        everybody = [(info.model.name, list(info.aliases)) for info in await apart.describe()]
        assert everybody == [*names.items()]
        with pytest.raises(NotFound):
            await apart.score("nobody", [ITEM], deadline_s=30)
        assert len({str(await sampled(together, name)) for name in names}) == len(names)


@pytest.mark.slow
async def test_tasks_in_one_queue_reach_the_teacher_that_they_name_whichever_process_it_is_in(tmp_path):
    names = without_gpus(tmp_path)
    with EmbeddedValkey(tmp_path / "valkey") as valkey:
        (tmp_path / "secret").write_text(valkey.password)
        redis = ("--redis-url", valkey.url, "--redis-password-file", str(tmp_path / "secret"))
        file = ("--teachers-file", str(tmp_path / "teachers.yaml"))
        async with AsyncExitStack() as stack:
            await asyncio.gather(*(started(stack, *file, *redis, "--only", name) for name in names))
            queue = await RedisQueue.connect(valkey.url, password=valkey.password)
            stack.push_async_callback(queue.close)
            for name, aliases in names.items():
                assert [await through_queue(queue, called) for called in (name, *aliases)] == [name] * (1 + len(aliases))


async def through_queue(queue: RedisQueue, name: str) -> str:
    """Which teacher scored a task that was opened under a name."""
    stream = ScoreStream(queue, Flow(name, "local", "default"))
    task = teacher_pb2.ScoreTask(
        schema=1,
        task_id=f"task-{name}",
        inline=wire.sequence_to_proto(ITEM.sequence),
        teacher=wire.choice_to_proto(name),
        want=wire.want_to_proto(ITEM.want),
    )
    await stream.open(task)
    async with asyncio.timeout(30):
        while not (found := (await stream.take(timeout_s=0.5)).deliveries):
            pass
    return found[0].envelope.receipt.model.name
