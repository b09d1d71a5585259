"""One lease in hand, whatever its task: kept alive while its work is done, and ended one way or another."""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass, replace

from preceptor.error_details import detail_of
from preceptor.errors import DeadlineExceeded, Fenced, Internal, PreceptorError, VersionGone
from preceptor.hooks import Hooks
from preceptor.logs import get_logger
from preceptor.queue import Lease, Queue, TaskState, Then
from preceptor.queue.envelopes import too_late
from preceptor.queue.parts import check_shape
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.quotas import Accounts
from preceptor_teacher.worker.holdings import Held
from preceptor_teacher.worker.logs import LogReader
from preceptor_teacher.worker.policy import WorkerPolicy

log = get_logger("preceptor.worker")


@dataclass(frozen=True, slots=True)
class Bench:
    """What all leases of one worker use."""

    queue: Queue
    logs: LogReader
    policy: WorkerPolicy
    hooks: Hooks
    accounts: Accounts
    teacher: str  # the name that its flows have at every door, whichever alias a task used


@dataclass(slots=True)
class LeasedTask(ABC):
    """Runs once. `run` returns when the lease has ended, one way or another."""

    bench: Bench
    lease: Lease
    held: Held
    deadline_s: float = math.inf  # on this process's clock, which nobody can set
    lost: Fenced | None = None  # what the queue said when the lease was another's

    @abstractmethod
    async def work(self) -> None:
        """Does what the task asks and commits it; the lease has ended when this returns."""

    def abandon(self) -> None:  # noqa: B027 - most kinds hold nothing
        """Lets go of what a lease that did not end well still holds."""

    async def run(self) -> None:
        """Commits, fails or hands back; a lease that somebody else took over is let go."""
        self.deadline_s = asyncio.get_running_loop().time() + self.lease.left_s
        beating = asyncio.create_task(self._beat(asyncio.current_task()), name="lease-heartbeat")
        try:
            check_shape(self.lease.task)  # whoever may write the queue's keys may have written anything
            await self.work()
        except Fenced:
            log.info("lease_lost", task_id=self.lease.task_id)
        except VersionGone as error:
            await self._tell(teacher_pb2.Envelope(error=detail_of(error)))
        except DeadlineExceeded as error:
            late = asyncio.get_running_loop().time() >= self.deadline_s  # else it was the engine that took too long
            await (self._tell(too_late(self.lease.task)) if late else self._fail(error))
        except PreceptorError as error:
            await self._fail(error)
        except asyncio.CancelledError:
            await self._give_back()
            raise
        except Exception as error:  # a defect of ours: the task must not look like a dead worker's
            log.error("task_defect", task_id=self.lease.task_id, exc_info=error)
            await self._fail(Internal("an unforeseen failure while working on this task", hint="see the teacher's log"))
        finally:
            self.abandon()
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating

    @property
    def cancelled(self) -> bool:
        """Nobody takes this task over."""
        return self.lost is not None and self.lost.value == TaskState.CANCELLED

    # ---- how a lease ends otherwise

    async def _beat(self, owner: asyncio.Task[None] | None) -> None:
        """Renews the lease; when it is lost, the work for it stops."""
        while True:
            await asyncio.sleep(self.bench.policy.heartbeat_s)
            try:
                renewed = await self.bench.queue.heartbeat(self.lease)
            except Fenced as error:
                self.lost = error
                if owner is not None:
                    owner.cancel()
                return
            except PreceptorError as error:
                log.warning("heartbeat_failed", task_id=self.lease.task_id, code=str(error.code))
            else:
                self.lease = replace(self.lease, expires_at_s=renewed.expires_at_s)
                self.bench.hooks.reached("lease renewed")

    async def _tell(self, envelope: teacher_pb2.Envelope) -> None:
        """The task ends with an error that its learner can act on: it opens the task again under served weights, or later."""
        with suppress(Fenced):
            await self.bench.queue.commit(self.lease, [envelope], self.lease.scored_upto, Then.FINISH)

    async def _fail(self, error: PreceptorError) -> None:
        """The queue decides by the code: a strike, a death, or nothing but another try."""
        log.warning("task_failed", task_id=self.lease.task_id, code=str(error.code), message=error.message)
        if error.retryable:
            await asyncio.sleep(min(error.retry_after_s or self.bench.policy.retry_pause_s, self.bench.policy.max_pause_s))
        with suppress(Fenced):
            await self.bench.queue.fail(self.lease, detail_of(error))

    async def _give_back(self) -> None:
        with suppress(PreceptorError):
            async with asyncio.timeout(self.bench.policy.hand_back_s):
                await self.bench.queue.hand_back(self.lease)
