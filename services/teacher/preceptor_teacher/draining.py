"""Teachers that an operator has taken out of work: what is new is refused, what is accepted is finished, until it is undone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from preceptor.errors import Unavailable
from preceptor.logs import get_logger
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.lifecycle.state import Lifecycle
from preceptor_serving.scheduler.scheduler import Scheduler
from preceptor_teacher.worker import QueueWorker

COME_BACK_S = 1.0
log = get_logger("preceptor.drain")


class Draining:
    """Which teachers of a service take no new work. All of them: the service itself is draining, and probes say so."""

    def __init__(self, lifecycle: Lifecycle, names: Collection[str], stop: Callable[[str], None]) -> None:
        self._lifecycle, self._names, self._stop = lifecycle, names, stop
        self._waiting: dict[str, Scheduler] = {}
        self._workers: dict[str, QueueWorker] = {}
        self.drained: set[str] = set()
        lifecycle.probe("drain", self._told)

    def watch(self, name: str, waiting: Scheduler) -> None:
        """Where the work of a teacher waits and is counted until it is finished."""
        self._waiting[name] = waiting

    def watch_worker(self, name: str, worker: QueueWorker) -> None:
        """It leases no more while its teacher is drained."""
        self._workers[name] = worker

    def check(self, name: str) -> None:
        """Returns where the teacher takes new work."""
        if name in self.drained:
            raise Unavailable(
                f"teacher {name} is drained: it finishes what it has and takes nothing new",
                field="teacher.teacher",
                value=name,
                hint="ask another replica, or come back",
                retry_after_s=COME_BACK_S,
            )

    def drain(self, names: Iterable[str]) -> None:
        """From now on; asking again changes nothing."""
        for name in set(names) - self.drained:
            self.drained.add(name)
            log.info("drained", teacher=name)
            if name in self._workers:
                self._workers[name].drain()
        if self.drained >= set(self._names):
            self._lifecycle.pause("drained by an operator")

    def undo(self, names: Iterable[str]) -> None:
        """They take work again."""
        again = set(names) & self.drained
        self.drained -= again
        if again:
            self._lifecycle.resume()
        for name in sorted(again):
            log.info("undrained", teacher=name)
            if name in self._workers:
                self._workers[name].resume()

    def stop(self, who: str) -> None:
        """The service ends in order, as after a SIGTERM."""
        self._stop(f"drained and stopped by {who}")

    def left(self, names: Iterable[str]) -> teacher_pb2.DrainReply:
        """Who is drained, and what the named ones still have."""
        asked = list(names)
        found = [self._waiting[name] for name in asked if name in self._waiting]
        return teacher_pb2.DrainReply(
            draining=sorted(self.drained),
            tasks=sum(one.waiting_tasks + one.running_tasks for one in found),
            leases=sum(self._workers[name].finishing for name in asked if name in self._workers),
        )

    def _told(self) -> str | None:
        return f"drained: {', '.join(sorted(self.drained))}" if self.drained else None
