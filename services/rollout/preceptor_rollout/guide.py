"""The teacher in the loop of a unit, as the engine sees it: a question about the next token, and the token once it is answered.

The engine has no connection of its own. A question is a `ScoreRequest` that names no teacher: the door sends it to the one that
the policy names, at the address that the operator configured, and hands the reply back. What is asked is row R of each open
sequence: the teacher's distribution of the token that follows everything accepted so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preceptor import wire
from preceptor.errors import Corrupt
from preceptor.recipes.behaviour import behaviour_from_json
from preceptor.recipes.schedules import params_at_step
from preceptor.types import IdLogprobs, Ids, Provenance, RaggedIds, RolloutId, TailOf, Want, Window
from preceptor.types import Sequence as TokenSequence
from preceptor_proto.v1 import rollout_pb2, teacher_pb2
from preceptor_rollout.policies import POLICIES, STUDENT_ALONE, Policy
from preceptor_rollout.policies.base import Advice, Ask, Chance, Choice, Proposed, all_by, at
from preceptor_rollout.sampling import Reading


@dataclass(slots=True)
class Row:
    """One sequence of the batch."""

    rollout: RolloutId
    teacher_context: Ids  # what the policy's teacher reads before the response
    first_row: int = 0  # response tokens of the turns before
    ids: list[int] = field(default_factory=list)  # the response so far
    open: bool = True


@dataclass(frozen=True, slots=True)
class Question:
    """What the teacher is asked, and of which sequences of the batch."""

    rows: NDArray[np.int64]
    request: teacher_pb2.ScoreRequest


@dataclass(frozen=True, slots=True)
class Drawn:
    """One token for each sequence, what it was drawn from, and who chose it."""

    ids_b: Tensor
    policy_b: Tensor  # log-probability under the student's temperature alone
    behaviour_b: Tensor  # log-probability as drawn
    provenance_b: NDArray[np.uint8]


def policy_of(request: rollout_pb2.GenerateRequest) -> Policy:
    """The policy of a request, its ramps at the step that its rollouts are for: they make step index + 1."""
    if not request.policy_json:
        return STUDENT_ALONE
    behaviour = behaviour_from_json(request.policy_json)
    return POLICIES[behaviour.spec.name](params_at_step(behaviour.params, request.step + 1))


class Guide:
    """Asks and chooses for one unit."""

    def __init__(self, request: rollout_pb2.GenerateRequest, tokenizer_size: int) -> None:
        self._policy = policy_of(request)
        ask = self._policy.ask
        self._ask = Ask(min(ask.topk, tokenizer_size), ask.draw, ask.proposal)
        self._temperature = request.sampling.temperature if request.sampling.HasField("temperature") else 1.0
        self._deterministic = request.deterministic

    def question(self, rows: Sequence[Row], reading: Reading, chance: Chance) -> Question | None:
        """What has to be known before the next token; None: nothing. Sequences that ended are not asked about."""
        is_open_b = np.array([row.open for row in rows])
        asked = np.flatnonzero(self._policy.asks(chance) & is_open_b)
        if not len(asked):
            return None
        request = teacher_pb2.ScoreRequest()
        seeds, proposals = chance.sample_seed_b, reading.ids_b.cpu().numpy()
        for index in asked.tolist():
            sequence = TokenSequence.of(rows[index].teacher_context, rows[index].ids)
            want = self._want(len(rows[index].ids), int(seeds[index]), int(proposals[index]))
            request.items.add(sequence=wire.sequence_to_proto(sequence), want=wire.want_to_proto(want))
        return Question(asked, request)

    @torch.inference_mode()
    def choose(self, reading: Reading, chance: Chance, question: Question | None, reply: teacher_pb2.ScoreReply | None) -> Drawn:
        """The next token of every sequence."""
        own = Choice(reading.ids_b, reading.own_b, all_by(Provenance.STUDENT, chance))
        if question is None:
            return _drawn(reading, own)
        if reply is None or len(reply.results) != len(question.rows):
            raise Corrupt("the teacher's reply is not that to the question", field="results", limit=len(question.rows))
        asked = torch.from_numpy(question.rows).to(reading.ids_b.device)
        proposed = Proposed(reading.log_probs_bt[asked], reading.ids_b[asked])
        chosen = self._policy.choose(proposed, self._advice(reply, asked.device), chance.at(question.rows))
        return _drawn(reading, _merged(own, chosen, asked))

    def _want(self, row: int, seed: int, proposal: int) -> Want:
        """Row R alone."""
        return Want(
            topk=self._ask.topk,
            tail=TailOf.TOPK if self._ask.topk else TailOf.NONE,
            samples=int(self._ask.draw),
            sample_seed=seed if self._ask.draw else 0,
            candidates=RaggedIds.from_rows([[proposal]]) if self._ask.proposal else None,
            next=True,
            window=Window(row, row),
            temperature=self._temperature,
            deterministic=self._deterministic,
        )

    def _advice(self, reply: teacher_pb2.ScoreReply, device: torch.device) -> Advice:
        offsets = np.array([0, 1], np.uint32) if self._ask.proposal else None
        rows = [wire.rows_from_proto(result.rows, offsets, field="rows") for result in reply.results]
        top_ids_bk, top_bk = _lists([one.topk for one in rows], self._ask.topk)
        drawn_b1, drawn_logprob_b1 = _lists([one.samples for one in rows], int(self._ask.draw))
        columns = (
            top_ids_bk,
            top_bk,
            _column([one.tail for one in rows], wanted=self._ask.topk > 0),
            drawn_b1.ravel(),
            drawn_logprob_b1.ravel(),
            _column([one.candidates.logprobs if one.candidates else None for one in rows], wanted=self._ask.proposal),
        )
        return Advice(*(torch.from_numpy(column).to(device) for column in columns))


def _drawn(reading: Reading, choice: Choice) -> Drawn:
    return Drawn(choice.ids_b, at(reading.policy_bt, choice.ids_b), choice.behaviour_b, choice.provenance_b)


def _merged(own: Choice, chosen: Choice, asked: Tensor) -> Choice:
    """The policy's choice where it was asked for, the student's own elsewhere."""
    provenance_b = own.provenance_b.copy()
    provenance_b[asked.cpu().numpy()] = chosen.provenance_b
    return Choice(
        own.ids_b.index_copy(0, asked, chosen.ids_b), own.behaviour_b.index_copy(0, asked, chosen.behaviour_b), provenance_b
    )


def _lists(lists: Sequence[IdLogprobs | None], width: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Ids and values, one row each; a list that is missing, or holds what is no number, is an error: nothing is filled in."""
    if not width:
        return np.zeros((len(lists), 0), np.int64), np.zeros((len(lists), 0), np.float32)
    found = [one for one in lists if one is not None and one.ids.shape == (1, width)]
    if len(found) != len(lists):
        raise Corrupt("a list that was asked for is missing", field="rows", value=len(found), limit=len(lists))
    values = np.concatenate([one.logprobs for one in found])
    _check_numbers(values)
    return np.concatenate([one.ids for one in found]).astype(np.int64), values


def _column(values: Sequence[NDArray[np.float32] | None], *, wanted: bool) -> NDArray[np.float32]:
    if not wanted:
        return np.zeros(len(values), np.float32)
    found = [one for one in values if one is not None and one.shape == (1,)]
    if len(found) != len(values):
        raise Corrupt("a column that was asked for is missing", field="rows", value=len(found), limit=len(values))
    column = np.concatenate(found)
    _check_numbers(column)
    return column


def _check_numbers(values: NDArray[np.float32]) -> None:
    if np.isnan(values).any():
        raise Corrupt("the teacher left out a value that the next token depends on", field="rows", value="missing")
