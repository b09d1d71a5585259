"""A score call inside the engine's process: request bytes -> items -> outcomes -> reply bytes.

Rows are encoded here, in their final grade, so that the door's process never touches a value.
"""

from __future__ import annotations

import time
from dataclasses import replace

from preceptor import wire
from preceptor.error_details import detail_of
from preceptor.errors import Internal, PreceptorError
from preceptor.types import ModelRef, Want
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.engines.protocol import Engine, Outcome, ScoreItem


def score(engine: Engine, request: bytes) -> bytes:
    """Items that cannot be read fail alone, as those that cannot be scored do. Error fields are relative to the item."""
    message = teacher_pb2.ScoreRequest.FromString(request)
    _, version = wire.choice_from_proto(message.teacher)
    read = [_read(item) for item in message.items]
    good = [item for item in read if isinstance(item, ScoreItem)]
    outcomes = iter(engine.score(good, version) if good else [])
    sizes = {info.model: info.head_rows for info in engine.describe()}
    results = [_result(item.want, next(outcomes), sizes) if isinstance(item, ScoreItem) else _failed(item) for item in read]
    return teacher_pb2.ScoreReply(results=results).SerializeToString()


def _read(item: teacher_pb2.ScoreItem) -> ScoreItem | PreceptorError:
    try:
        return ScoreItem(wire.sequence_from_proto(item.sequence), wire.want_from_proto(item.want))
    except PreceptorError as error:
        return error


def _result(want: Want, outcome: Outcome, sizes: dict[ModelRef, int]) -> teacher_pb2.ScoreResult:
    if isinstance(outcome, PreceptorError):
        return _failed(outcome)
    began = time.perf_counter()
    try:
        rows, cost = wire.rows_to_proto(outcome.rows, want.grade, sizes[outcome.receipt.model])
    except PreceptorError as error:  # the engine's mistake, not the caller's, and of this item alone
        return _failed(Internal(f"the engine's rows break the protocol: {error.message}", field=error.field, value=error.value))
    spent = replace(outcome.receipt.time, serialise_s=time.perf_counter() - began)
    receipt = replace(
        outcome.receipt, grade=want.grade, error_bound_nats=cost.error_bound_nats, clipped_low=cost.clipped_low, time=spent
    )
    return teacher_pb2.ScoreResult(rows=rows, receipt=wire.receipt_to_proto(receipt))


def _failed(error: PreceptorError) -> teacher_pb2.ScoreResult:
    return teacher_pb2.ScoreResult(error=detail_of(error))
