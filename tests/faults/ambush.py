"""A proxy before the queue's server that kills it around a chosen request of the queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from preceptor.queue.redis.loading import scripts
from tests.faults.marks import Kill
from tests.support.tcp_proxy import TcpProxy

WRITERS = (
    "append_to_log",
    "create_task",
    "subscribe",
    "poke_task",
    "lease_tasks",
    "quota",
    "renew_lease",
    "commit_rows",
    "delete_results",
)
POINTS = tuple(f"{script}: {moment}" for script in WRITERS for moment in ("request lost", "reply lost"))
"""The server dies before it has read the request, or after it has carried it out and before anybody knows."""


class Ambush(TcpProxy):
    """Waits for the nth request of a script; `kill` ends the server at once."""

    def __init__(self, port: int, kill: Callable[[], None], when: Kill) -> None:
        super().__init__(port)
        self.died: str = ""
        self.seen: Counter[str] = Counter()
        self._kill, self._when = kill, when
        self._script, _, self._moment = when.point.partition(": ")
        self._markers = {name: scripts()[name].sha1.encode() for name in WRITERS}

    def dooms(self, request: bytes) -> bool:
        inside = [name for name, marker in self._markers.items() if marker in request]
        self.seen.update(inside)
        if self._script not in inside or self.seen[self._script] != self._when.hit:
            return super().dooms(request)
        if self._moment == "request lost":
            self._strike()
        return True

    def reply_lost(self) -> None:
        if not self.died and self._moment == "reply lost":
            self._strike()

    def _strike(self) -> None:
        self.died = self._when.point
        self._kill()
