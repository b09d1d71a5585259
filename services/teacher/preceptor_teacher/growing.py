"""The call by which growing tasks are scored: a `ScoreRequest`, and for each item where its state is kept, if it grows.

An engine that offers it (capability `streaming`) keeps keys and values of a task between calls, so that a chunk costs its own
tokens; one that does not is sent the whole sequence each time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from preceptor.errors import Internal
from preceptor.types import ModelInfo, ModelRef
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.engine_host.frames import join_name, split_name
from preceptor_serving.engine_host.score_wire import score
from preceptor_serving.engines.protocol import Engine, Outcome, ScoreItem

SCORE_GROWING = "score_growing"


@dataclass(frozen=True, slots=True)
class Growth:
    """Where a task's state is kept: states are shared inside a scope only. `open`: more tokens may come.

    A sequence that is sent once is not `kept`: it finds what others left, and shares with its batch, but leaves nothing.
    """

    scope: str
    task: str
    open: bool
    kept: bool = True


ScoreGrowing = Callable[[Sequence[ScoreItem], Sequence[Growth | None], ModelRef | None], list[Outcome]]


def to_bytes(request: teacher_pb2.ScoreRequest, growths: Sequence[Growth | None]) -> bytes:
    """What a worker sends."""
    head = json.dumps([g and [g.scope, g.task, g.open, g.kept] for g in growths])
    return join_name(head, request.SerializeToString())


def answer(payload: bytes, score_growing: ScoreGrowing, describe: Callable[[], tuple[ModelInfo, ...]]) -> bytes:
    """What the engine's process answers: a `ScoreReply`, as for any other score call."""
    head, request = split_name(payload)
    growths = [fields and Growth(*fields) for fields in json.loads(head)]
    return score(cast(Engine, _OneCall(growths, score_growing, describe)), request)  # a call uses these two methods only


@dataclass(frozen=True, slots=True)
class _OneCall:
    """The part of an engine that a score call needs, for one call."""

    growths: Sequence[Growth | None]
    score_growing: ScoreGrowing
    describe: Callable[[], tuple[ModelInfo, ...]]

    def score(self, items: Sequence[ScoreItem], version: ModelRef | None = None) -> list[Outcome]:
        if len(items) != len(self.growths):
            raise Internal("a growing task's item cannot be read", field="items", value=len(items), limit=len(self.growths))
        return self.score_growing(items, self.growths, version)
