"""`--inline`: the same services in this process, reached through the entry points that `preceptor serve` uses.

The module behind each entry point of `preceptor.services` also has `inline(settings, queue)`: an asynchronous context manager
around its started service, with the engine in a thread of this process, that gives a `Caller`. The rollout service is also lent
the teacher that its behaviour policies ask. No socket is opened.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from preceptor.config import RolloutSettings, ServiceSettings, StudentSettings, TeacherSettings, load
from preceptor.config.settings import ClientSettings
from preceptor.errors import Unsupported
from preceptor.extras import pip_command, require_extra
from preceptor.learner.callers import Caller, RolloutCalls, StudentCalls, TeacherCalls
from preceptor.learner.connect import writers_of
from preceptor.learner.grade_port import grading_as
from preceptor.learner.ports import Ports
from preceptor.queue import MemoryQueue

GROUP = "preceptor.services"

Inline = Callable[..., AbstractAsyncContextManager[Caller]]
"""(settings, queue), and for the rollout service `teacher`: whom its behaviour policies ask."""


@asynccontextmanager
async def in_this_process(
    client: ClientSettings, runs: Path, config: Path | None = None, environ: Mapping[str, str] = os.environ
) -> AsyncGenerator[Ports]:
    """Ports to services that live as long as the block, configured like those that `preceptor serve` starts.

    Students keep their runs in `runs`, and the other services load versions from there alone.
    """
    queue = MemoryQueue()
    teacher = load(TeacherSettings, flags={"weights_roots": str(runs)}, file=config, environ=environ).settings
    rollout = load(RolloutSettings, flags={"weights_roots": str(runs)}, file=config, environ=environ).settings
    student = load(StudentSettings, flags={"runs_root": str(runs)}, file=config, environ=environ).settings
    async with AsyncExitStack() as stack:
        stack.push_async_callback(queue.close)

        async def opened(settings: ServiceSettings, **lent: TeacherCalls) -> Caller:
            return await stack.enter_async_context(find_inline(settings.section)(settings, queue, **lent))

        asked = TeacherCalls(await opened(teacher))
        yield Ports(
            RolloutCalls(await opened(rollout, teacher=asked)),
            StudentCalls(await opened(student)),
            await stack.enter_async_context(grading_as(client, asked, queue)),
            queue,
            {
                name: RolloutCalls(await opened(rollout.model_copy(update={"model": f"{name}={folder}"})))
                for name, folder in writers_of(client).items()
            },
        )


def find_inline(name: str) -> Inline:
    """The service of that name for this process; what is missing is named."""
    require_extra(name)
    for point in entry_points(group=GROUP, name=name):
        return import_module(point.module).inline
    hint = f"install a release that has it: {pip_command(name)} --upgrade"
    raise Unsupported(f"this installation has no {name} service for --inline", field="service", value=name, hint=hint)
