"""The student service under torchrun: rank 0 serves, every other rank follows it."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta

from torch.distributed.rendezvous import rendezvous

from preceptor.config.settings import StudentSettings
from preceptor_serving.engine_host.channel import EngineChannel, EngineSpec
from preceptor_serving.engine_host.inline import InlineEngine
from preceptor_serving.run import run_service
from preceptor_serving.service import ServiceContext
from preceptor_student.ranks.engine import LeadingEngine, follow
from preceptor_student.ranks.group import Group
from preceptor_student.service import StudentService, engine_spec


def serve(settings: StudentSettings) -> int:
    """The exit code of this rank; not 0 where the ranks fell out of step."""
    store, rank, ranks = next(rendezvous("env://", timeout=timedelta(seconds=settings.rank_deadline_s)))
    group = Group(store, rank, ranks, settings.rank_deadline_s)
    if rank:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # the launcher stops all ranks at once, and rank 0 has a step to finish
        follow(engine_spec(settings).options, group)
        return 0
    failed = run_service(StudentService(_Placed(group)), settings)
    return failed or int(bool(group.lost))


class _Placed:
    """Places rank 0's engine in this process: the other ranks cannot be met again by a second one."""

    def __init__(self, group: Group) -> None:
        self._group = group

    def __call__(self, spec: EngineSpec, context: ServiceContext) -> EngineChannel:
        loop = asyncio.get_running_loop()
        self._group.on_lost = lambda why: _tell(loop, context, why)
        return InlineEngine(lambda: LeadingEngine(spec.options, self._group))


def _tell(loop: asyncio.AbstractEventLoop, context: ServiceContext, why: str) -> None:
    loop.call_soon_threadsafe(context.stop, f"the ranks are no longer in step: {why}")
