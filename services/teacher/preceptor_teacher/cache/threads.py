"""A thread for work on a disk, which nobody waits for where the disk never answers.

The threads of `concurrent.futures` are joined when the interpreter ends: a disk that hangs would keep the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
Job = Callable[[], None]


class DiskThread:
    """Does one thing after the other. It ends with `end`, or with its process."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Job] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """What the work returns, after everything that was asked for before it."""
        future: Future[T] = Future()

        def job() -> None:
            try:
                future.set_result(work(*args))
            except BaseException as error:
                future.set_exception(error)

        self._jobs.put((future, job))
        return await asyncio.wrap_future(future)

    def end(self) -> None:
        """What has not begun is given up; what has begun is left to itself."""
        with suppress(Empty):
            while (found := self._jobs.get_nowait()) is not None:
                found[0].cancel()
        self._jobs.put(None)

    def _work(self) -> None:
        while (found := self._jobs.get()) is not None:
            future, job = found
            if future.set_running_or_notify_cancel():
                job()
