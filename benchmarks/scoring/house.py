"""A teacher behind all of its doors, in processes of its own: gRPC, REST and the queue on an embedded Valkey."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from preceptor.local.child import spawn
from preceptor.local.stack import Doors, ServicePlan, Stack, build_stack

NAME = "teacher"
NO_SCORE_CACHE = ("--score-cache-memory-bytes", "0")  # for measurements that ask for the same rows again
READY_S = 600.0  # a machine that others use too starts several engines slowly


@asynccontextmanager
async def teacher_house(
    folder: Path, options: Mapping[str, Any], *, flags: tuple[str, ...] = ()
) -> AsyncGenerator[tuple[Doors, Stack]]:
    """Ready doors of one teacher called `teacher`; `options` are those of its entry in a teachers file."""
    stack = build_stack(folder, folder / "runs", [teacher_plan(folder, options, flags=flags)])
    async with running(stack):
        yield stack.doors[NAME], stack


def teacher_plan(folder: Path, options: Mapping[str, Any], *, service: str = NAME, flags: tuple[str, ...] = ()) -> ServicePlan:
    """One service that serves the teacher; several under other names serve it together."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "teachers.yaml"
    file.write_text(json.dumps({"teachers": {NAME: dict(options)}}))
    return ServicePlan(service, "teacher", None, flags=("--teachers-file", str(file), *flags))


@asynccontextmanager
async def running(stack: Stack) -> AsyncGenerator[None]:
    """Every process of the stack, ready; stopped again in the end."""
    async with AsyncExitStack() as processes:
        for spec in (spec for stage in stack.stages for spec in stage):
            child = await spawn(replace(spec, ready_timeout_s=READY_S))
            processes.push_async_callback(child.stop)
            await child.wait_ready()
        yield
