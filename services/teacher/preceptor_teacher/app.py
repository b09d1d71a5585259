"""The entry points: `preceptor serve teacher`, and the same service inside a run of `preceptor learn --inline`."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from preceptor.config.settings import ServiceSettings, TeacherSettings
from preceptor.queue import Queue
from preceptor_serving.engine_host.placement import in_this_process
from preceptor_serving.inline import InlineCaller, calling
from preceptor_serving.run import run_service
from preceptor_teacher.service import TeacherService


def service(settings: ServiceSettings, /) -> int:
    """Serves until it is told to stop; the exit code."""
    assert isinstance(settings, TeacherSettings), "the teacher runs on teacher settings"
    return run_service(TeacherService(), settings)


def inline(settings: ServiceSettings, queue: Queue) -> AbstractAsyncContextManager[InlineCaller]:
    """The started service without doors, for the length of a block: `preceptor learn --inline`."""
    return calling(TeacherService(place_engine=in_this_process, queue=queue), settings)
