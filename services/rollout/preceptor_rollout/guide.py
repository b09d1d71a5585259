"""The teacher in the loop of a unit, as the engine sees it: a question about the next token, and the token once it is answered.

The engine has no connection of its own. A question is a `ScoreRequest` that names no teacher: the door sends it to the one that
the policy names, at the address that the operator configured, and hands the reply back. What is asked is row R of each open
sequence, the teacher's distribution of the token that follows everything accepted so far, and the rows behind the student's next
tokens where a policy drafts several.
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
    first_row: int = 0  # response tokens of the turns before, which both contexts hold
    ids: list[int] = field(default_factory=list)  # the response so far
    open: bool = True


@dataclass(frozen=True, slots=True)
class Draft:
    """The student's own draw of one token of every sequence, and the numbers that it was drawn with."""

    reading: Reading
    chance: Chance


@dataclass(frozen=True, slots=True)
class Question:
    """What the teacher is asked, and of which sequences of the batch."""

    rows: NDArray[np.int64]
    request: teacher_pb2.ScoreRequest
    drafts: int = 1  # rows of each sequence


@dataclass(frozen=True, slots=True)
class Answer:
    """What it said of every draft, one after the other, and of which sequences."""

    rows: NDArray[np.int64]
    advice: Sequence[Advice]


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
        self._ask = Ask(min(ask.topk, tokenizer_size), ask.draw, ask.proposal, ask.drafts)
        self._temperature = request.sampling.temperature if request.sampling.HasField("temperature") else 1.0
        self._deterministic = request.deterministic

    @property
    def drafts(self) -> int:
        """How many tokens the student draws before its teacher is asked."""
        return self._ask.drafts

    def question(self, rows: Sequence[Row], drafts: Sequence[Draft]) -> Question | None:
        """What has to be known before the next tokens; None: nothing. Sequences that ended are not asked about."""
        chance = drafts[0].chance
        is_open_b = np.array([row.open for row in rows])
        asked = np.flatnonzero(self._policy.asks(chance) & is_open_b)
        if not len(asked):
            return None
        request = teacher_pb2.ScoreRequest()
        seeds, proposals_bn = chance.sample_seed_b, np.stack([one.reading.ids_b.cpu().numpy() for one in drafts], 1)
        for index in asked.tolist():
            row, proposals = rows[index], proposals_bn[index].tolist()
            want = self._want(row.first_row + len(row.ids), int(seeds[index]), proposals)
            request.items.add(sequence=wire.sequence_to_proto(_as_taught(row, proposals[:-1])), want=wire.want_to_proto(want))
        return Question(asked, request, len(drafts))

    def answer(self, question: Question, reply: teacher_pb2.ScoreReply | None) -> Answer:
        """A reply, as the policy reads it."""
        if reply is None or len(reply.results) != len(question.rows):
            raise Corrupt("the teacher's reply is not that to the question", field="results", limit=len(question.rows))
        return Answer(question.rows, self._advice(reply, question.drafts))

    @torch.inference_mode()
    def choose(self, draft: Draft, answer: Answer | None, place: int = 0) -> Drawn:
        """The token of every sequence whose drafts before this one stood."""
        reading, chance = draft.reading, draft.chance
        own = Choice(reading.ids_b, reading.own_b, all_by(Provenance.STUDENT, chance))
        if answer is None:
            return _drawn(reading, own)
        asked = torch.from_numpy(answer.rows).to(reading.ids_b.device)
        proposed = Proposed(reading.log_probs_bt[asked], reading.ids_b[asked])
        chosen = self._policy.choose(proposed, answer.advice[place].to(asked.device), chance.at(answer.rows))
        return _drawn(reading, _merged(own, chosen, asked))

    def _want(self, row: int, seed: int, proposals: Sequence[int]) -> Want:
        """The rows of the drafts, which begin with row R."""
        return Want(
            topk=self._ask.topk,
            tail=TailOf.TOPK if self._ask.topk else TailOf.NONE,
            samples=int(self._ask.draw),
            sample_seed=seed if self._ask.draw else 0,
            candidates=RaggedIds.from_rows([[one] for one in proposals]) if self._ask.proposal else None,
            next=True,
            window=Window(row, row + len(proposals) - 1),
            temperature=self._temperature,
            deterministic=self._deterministic,
        )

    def _advice(self, reply: teacher_pb2.ScoreReply, drafts: int) -> list[Advice]:
        offsets = np.arange(drafts + 1, dtype=np.uint32) if self._ask.proposal else None
        rows = [wire.rows_from_proto(result.rows, offsets, field="rows") for result in reply.results]
        top_ids_nbk, top_nbk = _lists([one.topk for one in rows], drafts, self._ask.topk)
        drawn_nb1, drawn_logprob_nb1 = _lists([one.samples for one in rows], drafts, int(self._ask.draw))
        proposals = [one.candidates.logprobs if one.candidates else None for one in rows]
        columns = (
            top_ids_nbk,
            top_nbk,
            _column([one.tail for one in rows], drafts, wanted=self._ask.topk > 0),
            drawn_nb1.reshape(drafts, -1),
            drawn_logprob_nb1.reshape(drafts, -1),
            _column(proposals, drafts, wanted=self._ask.proposal),
        )
        return [Advice(*(torch.from_numpy(column[place]) for column in columns)) for place in range(drafts)]


def _as_taught(row: Row, drafted: Sequence[int]) -> TokenSequence:
    """What its teacher reads, so many tokens of it as response that the next row has the number of the next token: what the
    teacher draws is keyed by that number, and would be drawn again in a turn that began at row 0 once more."""
    begins = len(row.teacher_context) - row.first_row
    return TokenSequence.of(row.teacher_context[:begins], [*row.teacher_context[begins:], *row.ids, *drafted])


def _drawn(reading: Reading, choice: Choice) -> Drawn:
    return Drawn(choice.ids_b, at(reading.policy_bt, choice.ids_b), choice.behaviour_b, choice.provenance_b)


def _merged(own: Choice, chosen: Choice, asked: Tensor) -> Choice:
    """The policy's choice where it was asked for, the student's own elsewhere."""
    provenance_b = own.provenance_b.copy()
    provenance_b[asked.cpu().numpy()] = chosen.provenance_b
    return Choice(
        own.ids_b.index_copy(0, asked, chosen.ids_b), own.behaviour_b.index_copy(0, asked, chosen.behaviour_b), provenance_b
    )


def _lists(lists: Sequence[IdLogprobs | None], drafts: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Ids and values [n, b, width]; a list that is missing, or holds what is no number, is an error: nothing is filled in."""
    if not width:
        return np.zeros((drafts, len(lists), 0), np.int64), np.zeros((drafts, len(lists), 0), np.float32)
    found = [one for one in lists if one is not None and one.ids.shape == (drafts, width)]
    if len(found) != len(lists):
        raise Corrupt("a list that was asked for is missing", field="rows", value=len(found), limit=len(lists))
    values = np.stack([one.logprobs for one in found], 1)
    _check_numbers(values)
    return np.stack([one.ids for one in found], 1).astype(np.int64), values


def _column(values: Sequence[NDArray[np.float32] | None], drafts: int, *, wanted: bool) -> NDArray[np.float32]:
    """[n, b]."""
    if not wanted:
        return np.zeros((drafts, len(values)), np.float32)
    found = [one for one in values if one is not None and one.shape == (drafts,)]
    if len(found) != len(values):
        raise Corrupt("a column that was asked for is missing", field="rows", value=len(found), limit=len(values))
    column = np.stack(found, 1)
    _check_numbers(column)
    return column


def _check_numbers(values: NDArray[np.float32]) -> None:
    if np.isnan(values).any():
        raise Corrupt("the teacher left out a value that the next token depends on", field="rows", value="missing")
