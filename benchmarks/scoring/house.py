"""A teacher behind all of its doors, in processes of its own: gRPC, REST and the queue on an embedded Valkey."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from preceptor.local.child import spawn
from preceptor.local.stack import Doors, ServicePlan, Stack, build_stack

NAME = "teacher"


@asynccontextmanager
async def teacher_house(folder: Path, options: Mapping[str, Any]) -> AsyncGenerator[tuple[Doors, Stack]]:
    """Ready doors of one teacher called `teacher`; `options` are those of its entry in a teachers file."""
    stack = _stack(folder, options)
    async with AsyncExitStack() as running:
        for spec in (spec for stage in stack.stages for spec in stage):
            child = await spawn(spec)
            running.push_async_callback(child.stop)
            await child.wait_ready()
        yield stack.doors[NAME], stack


def _stack(folder: Path, options: Mapping[str, Any]) -> Stack:
    folder.mkdir(parents=True)
    file = folder / "teachers.yaml"
    file.write_text(json.dumps({"teachers": {NAME: dict(options)}}))
    return build_stack(folder, folder / "runs", [ServicePlan(NAME, "teacher", None, flags=("--teachers-file", str(file)))])
