"""One unit in vLLM: its sequences, when each of them ends, and the chunks that are due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from preceptor import wire
from preceptor.errors import Corrupt, Internal
from preceptor.types import FinishReason, Ids, ModelRef, RolloutId
from preceptor_proto.v1 import rollout_pb2
from preceptor_rollout.chunks import Chunk, Stretch, chunk_of
from preceptor_rollout.stops import StopRules
from preceptor_rollout.units import rollouts_of
from preceptor_rollout.vllm.draws import DrawRule, Draws
from preceptor_rollout.vocabulary import Vocabulary


@dataclass(slots=True)
class Grown:
    """One sequence of a unit."""

    request_id: str
    rollout: RolloutId
    context: Ids
    draws: Draws
    ids: list[int] = field(default_factory=list)  # the response so far
    reason: FinishReason | None = None


class GrowingUnit:
    """Sequences that are drawn under one version of the weights; chunks wait here until the unit's turn."""

    def __init__(
        self, number: int, request: rollout_pb2.GenerateRequest, model: ModelRef, vocabulary: Vocabulary, eos_ids: Sequence[int]
    ) -> None:
        self.model, self.salt = model, f"unit-{number}"
        self._vocabulary = vocabulary
        self._stops = StopRules.of(request.sampling, eos_ids)
        rule = DrawRule.of(request)
        begun = [(wire.ids_from_proto(one.context), one.first_row) for one in request.prompts for _ in range(one.samples)]
        self.sequences = [
            Grown(f"{self.salt}-{index}", rollout, context, Draws.of(rule, rollout, first_row))
            for index, (rollout, (context, first_row)) in enumerate(zip(rollouts_of(request), begun, strict=True))
        ]
        self._due: list[Chunk] = []

    def most_tokens(self, one: Grown) -> int:
        """That may still be drawn for a sequence in this turn."""
        return self._stops.max_new_tokens - one.draws.first_row

    @property
    def open(self) -> list[Grown]:
        """Sequences that go on."""
        return [one for one in self.sequences if one.reason is None]

    def drew(self, one: Grown, token: int, chunk_tokens: int) -> bool:
        """Takes the newest token of a sequence; True where a chunk of it is due."""
        one.ids.append(token)
        one.reason = self._stops.ends(one.ids, self._vocabulary.decode, one.draws.first_row)
        return one.reason is not None or len(one.ids) % chunk_tokens == 0

    def took(self, one: Grown, stretch: Stretch) -> None:
        """The chunk of a stretch that was drawn for one of the sequences."""
        if np.isnan(stretch.policy).any():
            step = self.model.step
            raise Corrupt("the student's logits are not numbers", field="weights", value=f"step {step}")
        if stretch.ids.tolist() != one.ids[len(one.ids) - len(stretch.ids) :]:
            raise Internal("vLLM went on with other tokens than were drawn", field="sequence", value=one.request_id)
        text = self._stops.trimmed(self._vocabulary.text(one.ids)) if one.reason is not None else ""
        self._due.append(chunk_of(one.rollout, self.model, stretch, one.reason, text))

    def due(self) -> list[Chunk]:
        """The chunks that wait, which no longer do."""
        due, self._due = self._due, []
        return due
