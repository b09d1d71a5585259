"""The entry points of the rollout service: `preceptor serve rollout`, and the same service inside a learner's process."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from preceptor.config.settings import RolloutSettings, ServiceSettings
from preceptor.queue import Queue
from preceptor_rollout.advisor import TeacherPort
from preceptor_rollout.service import RolloutService
from preceptor_serving.engine_host.placement import in_this_process
from preceptor_serving.inline import InlineCaller, calling
from preceptor_serving.run import run_service


def service(settings: ServiceSettings, /) -> int:
    """Serves until it is told to stop; the exit code."""
    assert isinstance(settings, RolloutSettings), "the rollout service runs on rollout settings"
    return run_service(RolloutService(), settings)


def inline(
    settings: ServiceSettings, queue: Queue, *, teacher: TeacherPort | None = None
) -> AbstractAsyncContextManager[InlineCaller]:
    """The started service without doors, for the length of a block: `preceptor learn --inline`. Policies ask `teacher`."""
    return calling(RolloutService(queue, in_this_process, teacher), settings)
