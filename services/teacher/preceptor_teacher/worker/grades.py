"""A leased task of a teacher that grades: its texts are judged as a request's are, and all verdicts are committed at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from preceptor.errors import DeadlineExceeded, Unsupported
from preceptor.names import effect_id
from preceptor.queue import Then
from preceptor.queue.quotas import Counter, Payment
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.scheduler.types import FlowKey
from preceptor_teacher.judging import Asker, Court
from preceptor_teacher.worker.tending import LeasedTask

ASKED = {Counter.REQUESTS: 1}


@dataclass(slots=True)
class GradeLease(LeasedTask):
    """Verdicts on the texts of one request."""

    court: Court = field(kw_only=True)

    async def work(self) -> None:
        """See `LeasedTask.work`. What failed for one text stands in its place, as in any reply."""
        request = self._request()
        self.held.weighs(len(request.items))
        results = await self._in_time(request)
        self.bench.hooks.reached("verdicts read")
        await self._commit(results)
        self.bench.hooks.reached("verdicts committed")

    def _request(self) -> teacher_pb2.GradeRequest:
        task = self.lease.task
        if task.WhichOneof("source") != "texts":
            raise Unsupported(
                f"teacher {self.bench.teacher} grades text; it does not score tokens",
                field="task.source",
                value=task.WhichOneof("source"),
            )
        return teacher_pb2.GradeRequest(teacher=task.teacher, spec=task.grade, items=task.texts.items, job=self.lease.flow.job)

    async def _in_time(self, request: teacher_pb2.GradeRequest) -> Sequence[teacher_pb2.GradeResult]:
        try:
            async with asyncio.timeout_at(self.deadline_s):
                return await self.court.grade(request, self._asker(len(request.items)))
        except TimeoutError:
            raise DeadlineExceeded("there was no verdict before the deadline") from None

    def _asker(self, texts: int) -> Asker:
        """A worker that takes the task over owns the same reservation."""
        flow = self.lease.flow
        terms = self.bench.accounts.terms(flow.tenant, flow.job)
        return Asker(
            FlowKey(self.bench.teacher, flow.tenant, flow.job, terms.band_for(self.lease.task.band)),
            terms,
            self.deadline_s,
            effect_id(flow.tenant, flow.job, self.lease.task_id, 0, texts),
            self.lease.fence.hex(),
        )

    async def _commit(self, results: Sequence[teacher_pb2.GradeResult]) -> None:
        envelope = teacher_pb2.Envelope(grades=teacher_pb2.GradeReply(results=results))
        payment = Payment(None, ASKED if self.bench.accounts.book.shared else {})
        await self.bench.queue.commit(self.lease, [envelope], self.lease.scored_upto, Then.FINISH, payment=payment)
        if not payment.counts:
            flow = self.lease.flow
            self.bench.accounts.count(FlowKey(self.bench.teacher, flow.tenant, flow.job, 0), ASKED)
