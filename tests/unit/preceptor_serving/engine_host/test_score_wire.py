"""Rows that an engine got wrong fail their own item, as the engine's mistake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from preceptor import types, wire
from preceptor.types import ModelRef, Scored, Want
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.engine_host.score_wire import score
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from preceptor_serving.engines.protocol import Outcome, ScoreItem


class AboveOne(FakeEngine):
    """Says +inf of every row of its first item, which is no log-probability."""

    def score(self, items: Sequence[ScoreItem], version: ModelRef | None = None) -> list[Outcome]:
        first, *others = super().score(items, version)
        assert isinstance(first, Scored)
        wrong = np.full(first.rows.count, np.inf, np.float32)
        return [replace(first, rows=replace(first.rows, sampled=wrong)), *others]


def test_rows_that_cannot_be_sent_fail_alone() -> None:
    request = teacher_pb2.ScoreRequest(teacher=wire.choice_to_proto("t"))
    for _ in range(2):
        sequence, want = types.Sequence.of([1], [2, 3]), Want(sampled=True)
        request.items.add(sequence=wire.sequence_to_proto(sequence), want=wire.want_to_proto(want))
    wrong, right = teacher_pb2.ScoreReply.FromString(score(AboveOne(FakeOptions()), request.SerializeToString())).results
    assert (wrong.error.code, wrong.error.field) == (20, "rows.sampled[0]")  # INTERNAL: asking again differently cannot help
    assert right.rows.count == 2
