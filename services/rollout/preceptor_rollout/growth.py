"""A unit grows: one token for every sequence that runs at a time, chunks as they become due."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preceptor import wire
from preceptor.errors import Corrupt, Unsupported
from preceptor.types import FinishReason, Ids
from preceptor_proto.v1 import rollout_pb2, teacher_pb2
from preceptor_rollout.batch import Batch, Grown
from preceptor_rollout.chunks import Chunk, chunk_of
from preceptor_rollout.guide import Draft, Drawn, Guide, Question
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

        A question wants to be sent its reply; the tokens that it is about are drawn from both.
        """
        logits_bv = self._batch.first()
        self._check_drafts()
        while True:
            drafts = self._drafts(logits_bv)
            question = self._guide.question(self._batch.rows, drafts)
            answer = None if question is None else self._guide.answer(question, (yield question))
            ids_b, taken_b = drafts[0].reading.ids_b, np.zeros(len(self._batch.rows), np.int64)
            stands_b = np.ones_like(taken_b, dtype=np.bool_)  # every token so far is the one that was drafted
            for place, draft in enumerate(drafts):
                drawn = self._guide.choose(draft, answer, place)
                yield self._taken(drawn, self._top_ids(draft.reading), stands_b)
                ids_b = torch.where(torch.from_numpy(stands_b).to(ids_b.device), drawn.ids_b, ids_b)
                taken_b += stands_b
                stands_b = stands_b & self._goes_on(draft, drawn)
                if not stands_b.any():
                    break
            if self._batch.over:
                return
            logits_bv = self._batch.next(ids_b, len(drafts) - taken_b)

    def _check_drafts(self) -> None:
        if self._guide.drafts > 1 and not self._batch.goes_back:
            raise Unsupported(
                "this student keeps a window or a state of its own, from which no draft can be taken back",
                field="policy_json.policy.params.block_tokens", value=self._guide.drafts, limit=1,
            )  # fmt: skip

    def _drafts(self, logits_bv: Tensor) -> list[Draft]:
        """The student's next tokens, as many as the policy wants and no sequence is too long for."""
        left = min(self._stops.max_new_tokens - row.first_row - len(row.ids) for row in self._batch.rows if row.open)
        drafts = [self._draft(logits_bv, 0)]
        for ahead in range(1, min(self._guide.drafts, left)):
            drafts.append(self._draft(self._batch.ahead(drafts[-1].reading.ids_b), ahead))
        return drafts

    def _draft(self, logits_bv: Tensor, ahead: int) -> Draft:
        chance = self._chance(ahead)
        return Draft(self._read(logits_bv, chance), chance)

    def _goes_on(self, draft: Draft, drawn: Drawn) -> NDArray[np.bool_]:
        """Sequences for which the next draft is one: they are open, and this one stood."""
        is_open_b = np.array([row.open for row in self._batch.rows])
        return is_open_b & (drawn.ids_b == draft.reading.ids_b).cpu().numpy()

    def _chance(self, ahead: int) -> Chance:
        rows = self._batch.rows
        names = [(row.rollout.prompt, row.rollout.sample, row.first_row + len(row.ids) + ahead) for row in rows]
        return Chance(self._request.seed, self._request.step, *np.array(names, np.int64).T)

    def _read(self, logits_bv: Tensor, chance: Chance) -> Reading:
        if not bool(logits_bv.amax(-1).isfinite().all()):
            step = self._student.info.model.step
            raise Corrupt("the student's logits are not numbers", field="weights", value=f"step {step}")
        return read_rows(logits_bv, chance.token_b, self._rule, self._student.vocabulary.size)

    def _top_ids(self, reading: Reading) -> Tensor | None:
        return likeliest(reading.policy_bt, self._request.student_topk) if self._request.student_topk else None

    def _taken(self, drawn: Drawn, top_ids_bk: Tensor | None, stands_b: NDArray[np.bool_]) -> list[Chunk]:
        """Gives every open sequence that stands its newest token, closes those that end, and takes the chunks that are due."""
        columns = (drawn.ids_b.tolist(), drawn.policy_b.tolist(), drawn.behaviour_b.tolist(), drawn.provenance_b.tolist())
        top_ids = None if top_ids_bk is None else top_ids_bk.cpu().numpy()
        due: list[Chunk] = []
        for index, (row, *newest) in enumerate(zip(self._batch.rows, *columns, strict=True)):
            if not row.open or not stands_b[index]:
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
