"""A unit grows: one token for every sequence that runs at a time, chunks as they become due."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np
from torch import Tensor

from preceptor import wire
from preceptor.errors import Corrupt
from preceptor.types import FinishReason, Ids
from preceptor_proto.v1 import rollout_pb2, teacher_pb2
from preceptor_rollout.batch import Batch, Grown
from preceptor_rollout.chunks import Chunk, chunk_of
from preceptor_rollout.guide import Drawn, Guide, Question
from preceptor_rollout.policies.base import Chance
from preceptor_rollout.sampling import Reading, SamplingRule, likeliest, read_rows
from preceptor_rollout.stops import StopRules
from preceptor_rollout.student import Student
from preceptor_rollout.units import rollouts_of

Steps = Generator[list[Chunk] | Question, teacher_pb2.ScoreReply | None, None]


class Growth:
    """Grows one unit under one version of the weights."""

    def __init__(self, student: Student, request: rollout_pb2.GenerateRequest, chunk_tokens: int, batch_tokens: int) -> None:
        self._student, self._request, self._chunk_tokens = student, request, chunk_tokens
        self._rule = SamplingRule.of(request.sampling)
        self._stops = StopRules.of(request.sampling, student.eos_ids)
        self._guide = Guide(request, student.vocabulary.size)
        rows, most = list(grown_of(request)), self._stops.max_new_tokens
        self._batch = Batch(student.model, rows, most, batch_tokens, fixed=request.deterministic)

    def steps(self) -> Steps:
        """After every token: the chunks that are due, often none. Nothing is computed between one and the next.

        A question wants to be sent its reply; the token that it is about is drawn from both.
        """
        logits_bv = self._batch.first()
        while True:
            chance = self._chance()
            reading = self._read(logits_bv, chance)
            question = self._guide.question(self._batch.rows, reading, chance)
            reply = None if question is None else (yield question)
            drawn = self._guide.choose(reading, chance, question, reply)
            yield self._taken(drawn, self._top_ids(reading))
            if self._batch.over:
                return
            logits_bv = self._batch.next(drawn.ids_b)

    def _chance(self) -> Chance:
        rows = self._batch.rows
        names = np.array([(row.rollout.prompt, row.rollout.sample, row.first_row + len(row.ids)) for row in rows], np.int64)
        return Chance(self._request.seed, self._request.step, *names.T)

    def _read(self, logits_bv: Tensor, chance: Chance) -> Reading:
        if not bool(logits_bv.amax(-1).isfinite().all()):
            step = self._student.info.model.step
            raise Corrupt("the student's logits are not numbers", field="weights", value=f"step {step}")
        return read_rows(logits_bv, chance.token_b, self._rule, self._student.vocabulary.size)

    def _top_ids(self, reading: Reading) -> Tensor | None:
        return likeliest(reading.policy_bt, self._request.student_topk) if self._request.student_topk else None

    def _taken(self, drawn: Drawn, top_ids_bk: Tensor | None) -> list[Chunk]:
        """Gives every open sequence its newest token, closes those that end with it, and takes the chunks that are due."""
        columns = (drawn.ids_b.tolist(), drawn.policy_b.tolist(), drawn.behaviour_b.tolist(), drawn.provenance_b.tolist())
        top_ids = None if top_ids_bk is None else top_ids_bk.cpu().numpy()
        due: list[Chunk] = []
        for index, (row, *newest) in enumerate(zip(self._batch.rows, *columns, strict=True)):
            if not row.open:
                continue
            for column, value in zip((row.ids, row.policy, row.behaviour, row.provenance), newest, strict=True):
                column.append(value)
            if top_ids is not None:
                row.top_ids.append(top_ids[index])
            reason = self._stops.ends(row.ids, self._student.vocabulary.decode, row.first_row)
            row.open = reason is None
            if reason is not None or len(row.ids) % self._chunk_tokens == 0:
                due.append(self._chunk(row, reason))
        return due

    def _chunk(self, row: Grown, reason: FinishReason | None) -> Chunk:
        """The stretch of one sequence since its last chunk."""
        text = self._stops.trimmed(self._student.vocabulary.text(row.ids)) if reason else ""
        return chunk_of(row.rollout, self._student.info.model, row.taken(), reason, text)


def grown_of(request: rollout_pb2.GenerateRequest) -> Iterator[Grown]:
    """Every sequence of a request before its first token. A policy's teacher may read another context before the response.

    Equal contexts are one array, so that whoever runs them sees that they are.
    """
    rollouts, contexts = rollouts_of(request), dict[bytes, Ids]()
    for prompt in request.prompts:
        context = contexts.setdefault(prompt.context.u32le, wire.ids_from_proto(prompt.context))
        taught = wire.ids_from_proto(prompt.teacher_context) if prompt.HasField("teacher_context") else context
        for _ in range(prompt.samples):
            yield Grown(rollout=next(rollouts), teacher_context=taught, first_row=prompt.first_row, context=context)
