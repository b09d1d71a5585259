"""R3: four times more requests than a teacher can serve, for 30 s: what it serves, how it refuses, how soon it recovers.

    python -m benchmarks.bench_overload

A teacher service in its own process, its engine a fake one that takes as long as a model of a given speed; requests over gRPC in
an open loop: they come at their times whether or not the ones before them were answered. They are made beforehand. Times are the
client's; beside them stand the service's own, from admission on, and how late the client itself was.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import yaml

from benchmarks.results import Result, write_results
from preceptor import wire
from preceptor.local.child import ChildSpec, spawn
from preceptor.local.ports import free_ports
from preceptor.local.stack import Probe
from preceptor.rpc_errors import from_rpc
from preceptor.types import Sequence as TokenSequence
from preceptor.types import Want
from preceptor_proto.v1 import teacher_pb2, teacher_pb2_grpc

TOKENS, TOKENS_PER_S, VOCABULARY = 400, 16_000.0, 61
MODELLED_PER_S = TOKENS_PER_S / TOKENS
QUEUE_TASKS = 64
OVERLOAD, OVERLOAD_S = 4.0, 30.0
CALM_S, AFTER_S, DEADLINE_S = 8.0, 10.0, 5.0
NAP_S = 0.005
IN_FLIGHT = 16  # of the closed loop that finds the capacity
RECOVERED = 10  # answers in a row that are as quick as on an idle service


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: when it was sent, how long its answer took, and what that was."""

    sent_s: float
    took_s: float
    code: str


class Lateness:
    """How busy this process is while it asks: its share of a core, and how much later than asked its event loop wakes it."""

    def __init__(self) -> None:
        self.late_ms: list[float] = []
        self.cpu_share = 0.0

    @asynccontextmanager
    async def watching(self) -> AsyncGenerator[None]:
        began_s, cpu_s = time.perf_counter(), time.process_time()
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watch.cancel()
            self.cpu_share = (time.process_time() - cpu_s) / (time.perf_counter() - began_s)

    async def _watch(self) -> None:
        while True:
            asleep_s = time.perf_counter()
            await asyncio.sleep(NAP_S)
            self.late_ms.append(1000 * (time.perf_counter() - asleep_s - NAP_S))


class Load:
    """Sends requests to one teacher and keeps what came of them."""

    def __init__(self, stub: teacher_pb2_grpc.TeacherStub, seed: int = 1) -> None:
        self._stub, self._rng = stub, random.Random(seed)
        self.asked: list[Asked] = []

    def request(self) -> teacher_pb2.ScoreRequest:
        """One of its own tokens, so that no cache answers it."""
        ids = [self._rng.randrange(VOCABULARY) for _ in range(TOKENS)]
        sequence, want = TokenSequence.of(ids[: TOKENS // 2], ids[TOKENS // 2 :]), Want(sampled=True)
        item = teacher_pb2.ScoreItem(sequence=wire.sequence_to_proto(sequence), want=wire.want_to_proto(want))
        return teacher_pb2.ScoreRequest(teacher=wire.choice_to_proto("fake"), items=[item])

    async def ask(self, request: teacher_pb2.ScoreRequest | None = None) -> Asked:
        """One request, and what came of it."""
        request = request or self.request()
        sent_s, code = time.perf_counter(), "OK"
        try:
            await self._stub.Score(request, timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as failure:
            code = from_rpc(failure).code.value
        asked = Asked(sent_s, time.perf_counter() - sent_s, code)
        self.asked.append(asked)
        return asked

    async def closed(self, seconds: float, in_flight: int) -> float:
        """Answers a second with so many requests always under way."""
        began = time.perf_counter()

        async def one_after_another() -> int:
            served = 0
            while time.perf_counter() - began < seconds:
                served += (await self.ask()).code == "OK"
            return served

        served = sum(await asyncio.gather(*(one_after_another() for _ in range(in_flight))))
        return served / (time.perf_counter() - began)

    async def open(self, seconds: float, per_s: float) -> list[Asked]:
        """Requests at even times, then the rest of the answers."""
        requests = [self.request() for _ in range(int(seconds * per_s))]
        began, pending = time.perf_counter(), list[asyncio.Task[Asked]]()
        for number, request in enumerate(requests):
            await asyncio.sleep(max(0.0, began + number / per_s - time.perf_counter()))
            pending.append(asyncio.create_task(self.ask(request)))
        return await asyncio.gather(*pending)


@asynccontextmanager
async def teacher(folder: Path) -> AsyncGenerator[teacher_pb2_grpc.TeacherStub]:
    """A service of its own, ready."""
    engine = {"engine": "fake", "tokens_per_s": TOKENS_PER_S}
    (folder / "teachers.yaml").write_text(yaml.safe_dump({"teachers": {"fake": engine}}))
    grpc_port, rest_port = free_ports(2)
    command = (
        *(sys.executable, "-m", "preceptor", "serve", "teacher", "--teachers-file", str(folder / "teachers.yaml")),
        *("--grpc-port", str(grpc_port), "--rest-port", str(rest_port), "--max-queue-tasks", str(QUEUE_TASKS)),
    )
    child = await spawn(ChildSpec("teacher", command, folder / "teacher.log", Probe(f"http://127.0.0.1:{rest_port}/readyz")))
    try:
        await child.wait_ready()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
            yield teacher_pb2_grpc.TeacherStub(channel)
    finally:
        await child.stop()


def recovery_s(after: Sequence[Asked], began_s: float, quick_s: float) -> float:
    """From the end of the overload to the first of some answers in a row that are quick; the whole time where there are none."""
    in_row = 0
    for place, asked in enumerate(after):
        in_row = in_row + 1 if asked.code == "OK" and asked.took_s <= quick_s else 0
        if in_row == RECOVERED:
            return after[place - RECOVERED + 1].sent_s - began_s
    return AFTER_S


async def measure() -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="preceptor-overload-") as folder:
        async with teacher(Path(folder)) as stub:
            load = Load(stub)
            solo_s = float(np.median([(await load.ask()).took_s for _ in range(20)]))
            capacity = await load.closed(CALM_S, IN_FLIGHT)
            client = Lateness()
            async with client.watching():
                during = await load.open(OVERLOAD_S, OVERLOAD * capacity)
            over_s = during[0].sent_s + OVERLOAD_S
            after = await load.open(AFTER_S, capacity / 2)
        own_ms = refusals_ms(Path(folder) / "teacher.log")
    return results(
        solo_s, capacity, during, recovery_s(after, over_s, 3 * solo_s), percentiles("service", own_ms) | about(client)
    )


def refusals_ms(log: Path) -> list[float]:
    """What refusals took by the service's own log, from admission to their end."""
    events = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [event["took_ms"] for event in events if event.get("event") == "request" and event["code"] == "RESOURCE_EXHAUSTED"]


def about(client: Lateness) -> dict[str, Any]:
    return {"client_cpu_share": round(client.cpu_share, 2), **percentiles("client_late", client.late_ms)}


def percentiles(what: str, values_ms: Sequence[float]) -> dict[str, Any]:
    return {f"{what}_p{share}_ms": round(float(np.percentile(values_ms, share)), 1) for share in (50, 95, 100) if len(values_ms)}


def results(solo_s: float, capacity: float, during: Sequence[Asked], recovered_s: float, more: Mapping[str, Any]) -> list[Result]:
    """The four figures of R3."""
    codes = Counter(asked.code for asked in during)
    served = [asked for asked in during if asked.code == "OK"]
    last_s = max(asked.sent_s + asked.took_s for asked in during) - during[0].sent_s
    goodput = len(served) / last_s
    refused_ms = [1000 * asked.took_s for asked in during if asked.code == "RESOURCE_EXHAUSTED"]
    others = {code: count for code, count in codes.items() if code not in ("OK", "RESOURCE_EXHAUSTED")}
    detail = {
        "asked": len(during),
        "served": len(served),
        "refused": len(refused_ms),
        "others": others,
        "capacity_per_s": round(capacity, 2),
        "modelled_per_s": MODELLED_PER_S,
        "offered_per_s": round(OVERLOAD * capacity, 2),
        "solo_ms": round(1000 * solo_s, 1),
        "served_p95_ms": round(float(np.percentile([1000 * one.took_s for one in served], 95)), 1) if served else None,
        "refused_p50_ms": round(float(np.median(refused_ms)), 1) if refused_ms else None,
        "load_average": round(os.getloadavg()[0], 1),
        "engine": "fake, modelled speed",
        **more,
    }
    p95_ms = float(np.percentile(refused_ms, 95)) if refused_ms else float("inf")
    return [
        Result("R3.goodput", "served a second under 4x overload over capacity", goodput / capacity, 0.9, "higher", detail),
        Result("R3.refusal_p95", "p95 of the time to a refusal, ms", p95_ms, 50.0, "lower", detail),
        Result("R3.errors", "answers that are neither scores nor refusals", float(sum(others.values())), 0.0, "lower", detail),
        Result("R3.recovery", "seconds from the end of it to quick answers", max(0.0, recovered_s), 5.0, "lower", detail),
    ]


def main() -> None:
    notes = (
        f"engine: fake, {TOKENS_PER_S:,.0f} tokens/s, {TOKENS} tokens a request; client, service and engine share this machine",
        "where we lose: a request that is refused has no score; a queue without a bound would serve it, after its deadline",
    )
    write_results("overload", asyncio.run(measure()), notes)


if __name__ == "__main__":
    main()
