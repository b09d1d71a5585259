"""A started rollout service over the bundled student, and versions of its weights on disk."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from examples.tiny.decode import MODEL_DIRS
from preceptor import wire
from preceptor.client import AsyncRolloutClient, GenerateOptions, Prompt
from preceptor.config import RolloutSettings
from preceptor.queue import LogName, MemoryQueue
from preceptor.queue.types import LogView
from preceptor.types import ModelRef, Rollout, as_ids
from preceptor_rollout.service import RolloutService
from preceptor_serving.engine_host.placement import in_this_process
from preceptor_serving.run import RunningService, running
from preceptor_serving.weights import version_name, versions_folder, write_manifest
from tests.unit.preceptor_rollout.drawing import tiny_prompts

RUN, JOB = "r", "job"


@asynccontextmanager
async def serving(
    queue: MemoryQueue | None = None,
    place=in_this_process,
    model: str = f"tiny={MODEL_DIRS['student']}",
    playing=None,
    hooks=None,
    **settings,
) -> AsyncGenerator[tuple[RunningService, AsyncRolloutClient]]:
    """The service behind its doors, and a client of it."""
    service = RolloutService(queue, place, environments=playing, hooks=hooks)
    async with AsyncExitStack() as stack:
        started = running(service, RolloutSettings(grpc_port=0, rest_port=0, model=model, **settings))
        house = await stack.enter_async_context(started)
        yield house, await stack.enter_async_context(AsyncRolloutClient(f"127.0.0.1:{house.grpc_port}"))


def prompts_of(count: int, samples: int = 2) -> list[Prompt]:
    return [Prompt(i, as_ids(ids), samples) for i, ids in tiny_prompts(count).items()]


def options(**fields) -> GenerateOptions:
    """As `drawing.request`."""
    return GenerateOptions(**{"run": RUN, "max_new_tokens": 24, "step": 3, "seed": 7, "job": JOB, **fields})


def log_of(rollout) -> LogName:
    return LogName.of("local", JOB, rollout)


def publish(root: Path, step: int, epoch: int = 1, source: str = "teacher") -> ModelRef:
    """A version of the run whose weights are those of a bundled model."""
    ref = ModelRef("tiny", RUN, epoch, step)
    folder = versions_folder(root, RUN) / version_name(ref)
    shutil.copytree(MODEL_DIRS[source], folder)
    return replace(ref, manifest_sha256=write_manifest(folder))


def by_name(outcomes) -> dict[tuple[int, int], Rollout]:
    return {(one.id.prompt, one.id.sample): one for one in outcomes}


async def assert_logged(queue: MemoryQueue, rollout: Rollout) -> LogView:
    """The rollout's log, which holds exactly the rollout."""
    view = await queue.read(log_of(rollout.id))
    segments = view.entries
    assert view.length == rollout.sequence.row_count
    assert view.finish_reason == rollout.finish_reason
    ids = np.concatenate([wire.ids_from_proto(entry.segment.response) for entry in segments])
    assert ids.tolist() == rollout.sequence.response_ids.tolist()
    columns = wire.behaviour_to_proto(rollout.behaviour)
    for column in ("versions_u32le", "provenance_u8", "logprob_policy_f32le", "logprob_behaviour_f32le"):
        assert b"".join(getattr(entry.behaviour, column) for entry in segments) == getattr(columns, column) != b""
    lists = np.concatenate([wire.ragged_from_proto(entry.candidates).ids for entry in segments])
    assert rollout.student_topk is not None
    assert lists.tolist() == rollout.student_topk.ids.tolist()
    return view
