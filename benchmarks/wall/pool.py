"""One teacher, its workers as processes, a queue, and a key for each job that says its weight."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.desk import queue_of
from benchmarks.scoring.house import NO_SCORE_CACHE, running, teacher_plan
from preceptor.client import AsyncTeacherClient
from preceptor.client.channel import Target
from preceptor.local.stack import build_stack
from preceptor.queue import Queue
from preceptor_serving.auth.identity import Scope
from preceptor_serving.auth.issue import issue_key

TENANT = "bench"


@dataclass(frozen=True, slots=True)
class Pool:
    """Ready workers; `addresses` are their gRPC doors."""

    queue: Queue
    addresses: tuple[str, ...]
    keys: Mapping[str, str]  # of each job

    @asynccontextmanager
    async def clients(self, job: str) -> AsyncGenerator[list[AsyncTeacherClient]]:
        """One for each worker, with the job's key."""
        async with AsyncExitStack() as open_clients:
            targets = [Target(address, self.keys[job]) for address in self.addresses]
            yield [await open_clients.enter_async_context(AsyncTeacherClient(target)) for target in targets]


@asynccontextmanager
async def pool(folder: Path, teacher: Mapping[str, Any], workers: int, weights: Mapping[str, float]) -> AsyncGenerator[Pool]:
    """Stopped in the end, with what they have not served."""
    key_file = folder / "keys.yaml"
    keys = _issued(key_file, weights)
    flags = (*NO_SCORE_CACHE, "--key-file", str(key_file))
    names = [f"worker-{number}" for number in range(workers)]
    stack = build_stack(folder, folder / "runs", [teacher_plan(folder, teacher, service=name, flags=flags) for name in names])
    async with running(stack), queue_of(stack) as queue:
        yield Pool(queue, tuple(stack.doors[name].grpc for name in names), keys)


def _issued(key_file: Path, weights: Mapping[str, float]) -> dict[str, str]:
    """A key for each job, which may name no other job."""
    key_file.parent.mkdir(parents=True)
    scopes = frozenset({Scope.SCORE})
    return {job: issue_key(key_file, TENANT, scopes, job=job, weight=weight)[0] for job, weight in weights.items()}
