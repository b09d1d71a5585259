"""The entry points of the student service: `preceptor serve student`, and the same service inside a learner's process."""

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager

from preceptor.config.settings import ServiceSettings, StudentSettings
from preceptor.queue import Queue
from preceptor_serving.engine_host.placement import in_this_process
from preceptor_serving.inline import InlineCaller, calling
from preceptor_serving.run import run_service
from preceptor_student.service import StudentService


def service(settings: ServiceSettings, /) -> int:
    """Serves until it is told to stop; the exit code."""
    assert isinstance(settings, StudentSettings), "the student service runs on student settings"
    if is_one_of_several():
        from preceptor_student.ranks.torchrun import serve

        return serve(settings)
    return run_service(StudentService(), settings)


def is_one_of_several() -> bool:
    """Whether a launcher such as torchrun has started this process as one rank of several."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def inline(settings: ServiceSettings, _queue: Queue) -> AbstractAsyncContextManager[InlineCaller]:
    """The started service without doors, for the length of a block: `preceptor learn --inline`. It needs no queue."""
    return calling(StudentService(in_this_process), settings)
