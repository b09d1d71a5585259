"""`python -m benchmarks.bench_redis_queue`: what the queue costs on an embedded Valkey, without any model.

A cycle is what one finished task costs: create, poke, lease, commit, read, delete. Once one after the other, once as a
service works: batches of leases, commits side by side, a learner beside it. Then how soon a sleeper hears of news, and what
waiting for nothing costs the server.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Literal

import redis
from rich.console import Console
from rich.table import Table

from preceptor.local.valkey import EmbeddedValkey, ValkeySettings
from preceptor.queue import Flow, Then
from preceptor.queue.redis import RedisQueue
from preceptor_proto.v1 import common_pb2, teacher_pb2

FLOW = Flow("teacher", "bench", "job")
CYCLES, BATCH, WAKES, IDLE_S = 400, 32, 100, 5.0
SIZES = {"1 KiB": 1 << 10, "64 KiB": 64 << 10, "256 KiB": 256 << 10}


def task(name: str) -> teacher_pb2.ScoreTask:
    segments = [
        common_pb2.Segment(context=common_pb2.TokenIds(u32le=bytes(256))),
        common_pb2.Segment(response=common_pb2.TokenIds(u32le=bytes(1024))),
    ]
    return teacher_pb2.ScoreTask(
        schema=1,
        task_id=name,
        inline=common_pb2.Sequence(segments=segments),
        teacher=common_pb2.ModelChoice(teacher=FLOW.teacher, latest=True),
        want=common_pb2.Want(sampled=True),
    )


def envelope(payload_bytes: int) -> teacher_pb2.Envelope:
    return teacher_pb2.Envelope(rows=common_pb2.Rows(start=0, count=256, sampled_f32le=bytes(payload_bytes)))


async def open_task(queue: RedisQueue, name: str) -> None:
    await queue.create(FLOW, task(name))
    await queue.poke(FLOW, name)


async def read_and_delete(queue: RedisQueue) -> int:
    entries = await queue.read_out(FLOW, timeout_s=5.0)
    named = [each.envelope.blob for each in entries if each.envelope.WhichOneof("body") == "blob"]
    for blob in named:
        await queue.read_blob(FLOW, blob)
    await queue.delete_out(FLOW, entries[-1].position, named)
    return len(entries)


async def one_by_one(queue: RedisQueue, payload_bytes: int) -> float:
    """Cycles a second of one caller who does everything."""
    rows, start_s = envelope(payload_bytes), time.perf_counter()
    for n in range(CYCLES):
        await open_task(queue, f"one-{payload_bytes}-{n}")
        (lease,) = await queue.lease(FLOW, "w")
        await queue.commit(lease, [rows], 0, Then.FINISH)
        await read_and_delete(queue)
    return CYCLES / (time.perf_counter() - start_s)


async def side_by_side(queue: RedisQueue, payload_bytes: int) -> float:
    """Cycles a second of opener, worker and learner in one event loop; the worker leases and commits in batches."""
    rows, left, start_s = envelope(payload_bytes), CYCLES, time.perf_counter()

    async def open_all() -> None:
        for n in range(CYCLES):
            await open_task(queue, f"many-{payload_bytes}-{n}")

    async def work() -> None:
        while left > 0:
            leases = await queue.lease(FLOW, "w", limit=BATCH)
            await asyncio.gather(*(queue.commit(lease, [rows], 0, Then.FINISH) for lease in leases))
            if not leases:
                await queue.wait_ready(FLOW.teacher, 0.05)

    async def learn() -> None:
        nonlocal left
        while left > 0:
            left -= await read_and_delete(queue)

    await asyncio.gather(open_all(), work(), learn())
    return CYCLES / (time.perf_counter() - start_s)


async def latencies_ms(wait: Callable[[], Awaitable[object]], change: Callable[[int], Awaitable[None]]) -> list[float]:
    """From before the change is sent until the waiter has returned with it."""
    found: list[float] = []
    for n in range(WAKES):
        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(0.02)
        start_s = time.perf_counter()
        await change(n)
        await waiting
        found.append(1000 * (time.perf_counter() - start_s))
    return found


async def worker_wakes(queue: RedisQueue, writer: RedisQueue) -> list[float]:
    async def wait() -> None:
        await queue.wait_ready(FLOW.teacher, 10.0)
        (lease,) = await queue.lease(FLOW, "w")
        await queue.commit(lease, [], 0, Then.FINISH)

    found = await latencies_ms(wait, lambda n: open_task(writer, f"wake-{n}"))
    await read_and_delete(queue)
    return found


async def learner_wakes(queue: RedisQueue, writer: RedisQueue) -> list[float]:
    rows = envelope(1 << 10)

    async def change(n: int) -> None:
        (lease,) = await writer.lease(FLOW, "w")
        await writer.commit(lease, [rows], 0, Then.FINISH)

    for n in range(WAKES):
        await open_task(writer, f"news-{n}")
    return await latencies_ms(lambda: read_and_delete(queue), change)


async def idle_commands_per_s(queue: RedisQueue, server: Any) -> float:
    """Commands that one worker and one learner send while nothing happens."""
    waiting = asyncio.gather(queue.wait_ready(FLOW.teacher, IDLE_S + 1), queue.read_out(FLOW, timeout_s=IDLE_S + 1))
    await asyncio.sleep(0.5)
    before = server.info("stats")["total_commands_processed"]
    await asyncio.sleep(IDLE_S - 1)
    after = server.info("stats")["total_commands_processed"]
    await waiting
    return (after - before) / (IDLE_S - 1)


async def measure(fsync: Literal["everysec", "always"], folder: Path) -> list[tuple[str, str]]:
    with EmbeddedValkey(folder, ValkeySettings(fsync=fsync)) as server:
        queue, writer = [await RedisQueue.connect(server.url, password=server.password) for _ in range(2)]
        rows: list[tuple[str, str]] = []
        for size, payload_bytes in SIZES.items():
            alone, many = await one_by_one(queue, payload_bytes), await side_by_side(queue, payload_bytes)
            rows.append((f"cycles/s, {size} of rows: one by one / in batches", f"{alone:,.0f} / {many:,.0f}"))
        for what, found in (("a worker", await worker_wakes(queue, writer)), ("a learner", await learner_wakes(queue, writer))):
            rows.append(
                (f"{what} has it in hand after, ms: p50 / p95", f"{median(found):.1f} / {quantiles(found, n=20)[-1]:.1f}")
            )
        client: Any = redis.Redis(port=server.port, password=server.password)
        rows.append(("commands/s of an idle worker and learner", f"{await idle_commands_per_s(queue, client):.1f}"))
        for each in (queue, writer):
            await each.close()
    return rows


def main() -> None:
    table = Table(title="queue on an embedded Valkey")
    for column in ("what", "appendfsync everysec", "appendfsync always"):
        table.add_column(column, justify="left" if column == "what" else "right")
    with tempfile.TemporaryDirectory() as folder:
        columns = [asyncio.run(measure(fsync, Path(folder) / fsync)) for fsync in ("everysec", "always")]
    for (what, every), (_, always) in zip(*columns, strict=True):
        table.add_row(what, every, always)
    Console().print(table)


if __name__ == "__main__":
    main()
