"""A unit grows: one token for every sequence at a time, chunks as they become due.

In deterministic mode the batch keeps its shape until its last sequence ends: those that ended keep stepping, unread, so that
no token depends on when its neighbours end. Otherwise sequences that ended leave the batch once they are half of it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from preceptor import wire
from preceptor.errors import Corrupt
from preceptor.types import FinishReason, Ids
from preceptor_proto.v1 import rollout_pb2, teacher_pb2
from preceptor_rollout.chunks import Chunk, Stretch, chunk_of
from preceptor_rollout.decoding import Decoder
from preceptor_rollout.guide import Drawn, Guide, Question, Row
from preceptor_rollout.policies.base import Chance
from preceptor_rollout.sampling import Reading, SamplingRule, likeliest, read_rows
from preceptor_rollout.stops import StopRules
from preceptor_rollout.student import Student
from preceptor_rollout.units import rollouts_of

Steps = Generator[list[Chunk] | Question, teacher_pb2.ScoreReply | None, None]


@dataclass(slots=True)
class Columns:
    """What was drawn since the last boundary: one entry for each position, one number in it for each sequence."""

    ids: list[NDArray[np.int64]] = field(default_factory=list)
    policy: list[NDArray[np.float32]] = field(default_factory=list)
    behaviour: list[NDArray[np.float32]] = field(default_factory=list)
    provenance: list[NDArray[np.uint8]] = field(default_factory=list)
    top_ids: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, drawn: Drawn, top_ids_bk: Tensor | None) -> None:
        self.ids.append(drawn.ids_b.cpu().numpy())
        self.policy.append(drawn.policy_b.cpu().numpy())
        self.behaviour.append(drawn.behaviour_b.cpu().numpy())
        self.provenance.append(drawn.provenance_b)
        if top_ids_bk is not None:
            self.top_ids.append(top_ids_bk.cpu().numpy())


class Growth:
    """Grows one unit under one version of the weights."""

    def __init__(self, student: Student, request: rollout_pb2.GenerateRequest, chunk_tokens: int) -> None:
        self._student, self._request, self._chunk_tokens = student, request, chunk_tokens
        self._rule = SamplingRule.of(request.sampling)
        self._stops = StopRules.of(request.sampling, student.eos_ids)
        first_rows = (prompt.first_row for prompt in request.prompts for _ in range(prompt.samples))
        named = zip(rollouts_of(request), read_contexts(request), first_rows, strict=True)
        self._rows = [Row(rollout, context, first_row) for rollout, context, first_row in named]
        self._guide = Guide(request, student.vocabulary.size)
        contexts = [wire.ids_from_proto(prompt.context) for prompt in request.prompts]
        self._decoder = Decoder(student.model, contexts, [prompt.samples for prompt in request.prompts])
        self._columns = Columns()

    def steps(self) -> Steps:
        """After every token: the chunks that are due, often none. Nothing is computed between one and the next.

        A question wants to be sent its reply; the token that it is about is drawn from both.
        """
        logits_bv = self._decoder.first()
        for position in range(self._stops.max_new_tokens):
            chance = self._chance(position)
            reading = self._read(logits_bv, chance)
            question = self._guide.question(self._rows, reading, chance)
            reply = None if question is None else (yield question)
            drawn = self._guide.choose(reading, chance, question, reply)
            self._columns.add(drawn, self._top_ids(reading))
            due = self._ended()
            still_open = any(row.open for row in self._rows)
            at_boundary = (position + 1) % self._chunk_tokens == 0
            if at_boundary and still_open:
                due += [self._chunk(index) for index, row in enumerate(self._rows) if row.open]
            yield due
            if not still_open:
                return
            next_ids_b = drawn.ids_b
            if at_boundary:
                self._columns = Columns()
                next_ids_b = next_ids_b[self._rows_to_keep()]
            logits_bv = self._decoder.next(next_ids_b)

    def _chance(self, position: int) -> Chance:
        names = [row.rollout for row in self._rows]
        prompts, samples = np.array([name.prompt for name in names]), np.array([name.sample for name in names])
        positions = position + np.array([row.first_row for row in self._rows])
        return Chance(self._request.seed, self._request.step, prompts, samples, positions)

    def _read(self, logits_bv: Tensor, chance: Chance) -> Reading:
        if not bool(logits_bv.amax(-1).isfinite().all()):
            step = self._student.info.model.step
            raise Corrupt("the student's logits are not numbers", field="weights", value=f"step {step}")
        return read_rows(logits_bv, chance.token_b, self._rule, self._student.vocabulary.size)

    def _top_ids(self, reading: Reading) -> Tensor | None:
        return likeliest(reading.policy_bt, self._request.student_topk) if self._request.student_topk else None

    def _ended(self) -> list[Chunk]:
        """Takes the newest token of every open sequence, and closes those that end with it."""
        chunks: list[Chunk] = []
        newest_b = self._columns.ids[-1].tolist()
        for index, row in enumerate(self._rows):
            if not row.open:
                continue
            row.ids.append(newest_b[index])
            reason = self._stops.ends(row.ids, self._student.vocabulary.decode, row.first_row)
            if reason is not None:
                row.open = False
                chunks.append(self._chunk(index, reason))
        return chunks

    def _rows_to_keep(self) -> list[int]:
        """Indices of the sequences that go on."""
        everyone = list(range(len(self._rows)))
        alive = [index for index in everyone if self._rows[index].open]
        if self._request.deterministic or 2 * len(alive) > len(everyone):
            return everyone
        self._decoder.keep(alive)
        self._rows = [self._rows[index] for index in alive]
        return alive

    def _chunk(self, index: int, reason: FinishReason | None = None) -> Chunk:
        """The stretch of one sequence since the last boundary."""
        row, columns = self._rows[index], self._columns
        stretch = Stretch(
            ids=np.array([ids_b[index] for ids_b in columns.ids], np.uint32),
            policy=np.array([policy_b[index] for policy_b in columns.policy], np.float32),
            behaviour=np.array([behaviour_b[index] for behaviour_b in columns.behaviour], np.float32),
            provenance=np.array([provenance_b[index] for provenance_b in columns.provenance], np.uint8),
            top_ids=np.stack([top_bk[index] for top_bk in columns.top_ids]) if columns.top_ids else None,
        )
        text = self._stops.trimmed(self._student.vocabulary.text(row.ids)) if reason else ""
        return chunk_of(row.rollout, self._student.info.model, stretch, reason, text)


def read_contexts(request: rollout_pb2.GenerateRequest) -> Iterator[Ids]:
    """What the teacher of a policy reads before each response."""
    for prompt in request.prompts:
        context = prompt.teacher_context if prompt.HasField("teacher_context") else prompt.context
        yield from [wire.ids_from_proto(context)] * prompt.samples
