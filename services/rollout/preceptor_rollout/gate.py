"""The one queue before the engine: every unit of every call waits here, and gets its turn in fair order between jobs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from preceptor.errors import DeadlineExceeded, PreceptorError
from preceptor_serving.scheduler.cost import CostRule
from preceptor_serving.scheduler.scheduler import Scheduler
from preceptor_serving.scheduler.types import QueueLimits, Task, Work

UNBOUNDED_TOKENS = 1 << 62  # what waits is prompts, which the request's own size bounds; units are counted instead


def _promise() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True, eq=False)
class Turn:
    """One unit's place. `tokens` is what it has computed so far: its job pays for that, not for the estimate."""

    task: Task
    granted: asyncio.Future[None] = field(default_factory=_promise)
    running: bool = False
    aside: bool = False  # it had its turn, and waits for something else than the engine
    tokens: int = 0


class Gate:
    """At most `slots` units run at once; at most `max_waiting` wait. Who stepped aside comes back before anybody new begins."""

    def __init__(self, slots: int, max_waiting: int) -> None:
        limits = QueueLimits(max_waiting, UNBOUNDED_TOKENS, max_waiting, UNBOUNDED_TOKENS)
        self._scheduler = Scheduler(CostRule(0.0), limits=limits)
        self._free = slots
        self._turns: dict[str, Turn] = {}
        self._returning: deque[Turn] = deque()

    @property
    def waiting(self) -> int:
        """Units that have a place and no turn yet."""
        return self._scheduler.waiting_tasks

    def enter(self, tasks: Sequence[Task]) -> list[Turn]:
        """Places for all units of a call, or none: `Exhausted` with the position and when to come back."""
        entered: list[Turn] = []
        try:
            for task in tasks:
                self._scheduler.submit(task, self._now_s())
                turn = self._turns[task.task_id] = Turn(task)
                entered.append(turn)
        except PreceptorError:
            for turn in entered:
                self.leave(turn)
            raise
        self._grant()
        return entered

    def leave(self, turn: Turn) -> None:
        """Gives the place up, before or after the turn; leaving again does nothing."""
        if self._turns.pop(turn.task.task_id, None) is None:
            return
        self._free += turn.running
        with suppress(ValueError):
            self._returning.remove(turn)
        if turn.running or turn.aside:
            self._scheduler.finish(turn.task.task_id, self._now_s(), Work(turn.tokens, 0))
        else:
            self._scheduler.cancel(turn.task.task_id, self._now_s())
        self._grant()

    def step_aside(self, turn: Turn) -> None:
        """Lets others run while this unit has nothing for the engine."""
        if turn.running:
            turn.running, turn.aside = False, True
            self._free += 1
            self._grant()

    async def come_back(self, turn: Turn, left_s: float) -> None:
        """Returns when the unit runs again."""
        turn.granted = _promise()
        self._returning.append(turn)
        self._grant()
        try:
            async with asyncio.timeout(left_s):
                await turn.granted
        except TimeoutError as error:
            raise DeadlineExceeded("the deadline passed while the next turn was queued") from error

    def _grant(self) -> None:
        while self._free > 0 and self._returning:
            self._run(self._returning.popleft())
        while self._free > 0:
            batch = self._scheduler.next_batch(self._now_s(), budget_tokens=UNBOUNDED_TOKENS, max_tasks=1)
            self._tell_expired()
            if not batch:
                return
            self._run(self._turns[batch.tasks[0].task_id])

    def _run(self, turn: Turn) -> None:
        turn.running, turn.aside = True, False
        self._free -= 1
        with suppress(asyncio.InvalidStateError):  # its caller has just left, and will give the place back
            turn.granted.set_result(None)

    def _tell_expired(self) -> None:
        for dropped in self._scheduler.take_dropped():
            turn = self._turns.pop(dropped.task.task_id, None)
            if turn is not None and not turn.granted.done():
                turn.granted.set_exception(DeadlineExceeded("the deadline passed while the rollouts were queued"))

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
