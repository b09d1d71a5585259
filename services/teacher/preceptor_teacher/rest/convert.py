"""Friendly bodies to messages of the protocol, and replies back to plain JSON values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preceptor import limits, wire
from preceptor.error_details import error_body, error_of
from preceptor.types import (
    HiddenDtype,
    IdLogprobs,
    ModelInfo,
    ModelRef,
    RaggedIds,
    Receipt,
    Rows,
    Sequence,
    TailOf,
    Validity,
    Want,
    Window,
)
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.doors.rest_pieces import listed
from preceptor_teacher.rest.bodies import ItemBody, ScoreBody, WantBody


def to_request(body: ScoreBody) -> teacher_pb2.ScoreRequest:
    """The same request as a message, held to the limits of the protocol."""
    request = teacher_pb2.ScoreRequest(
        teacher=wire.choice_to_proto(body.teacher),
        tokenizer_sha256=bytes.fromhex(body.tokenizer_sha256),
        template_sha256=bytes.fromhex(body.template_sha256),
        job=body.job,
        band=body.band,
    )
    for item in body.items:
        request.items.add(
            sequence=wire.sequence_to_proto(_sequence(item)), want=wire.want_to_proto(_want(item.want or body.want))
        )
    limits.check(request)
    return request


def to_answer(request: teacher_pb2.ScoreRequest, reply: teacher_pb2.ScoreReply) -> dict[str, Any]:
    """A `ScoreAnswer` whose results are made one by one, when they are sent: ten times the reply's bytes, as Python's numbers."""
    return {"results": listed(_result(item, result) for item, result in zip(request.items, reply.results, strict=True))}


def teacher_answer(info: ModelInfo) -> dict[str, Any]:
    """A `TeacherAnswer` as plain values."""
    can = asdict(info.capabilities)
    lists = {name: [str(one) for one in value] for name, value in can.items() if isinstance(value, tuple)}
    return {
        "name": info.model.name,
        "aliases": list(info.aliases),
        "version": _model(info.model),
        "engine": info.engine,
        "engine_version": info.engine_version,
        "dtype": info.dtype,
        "tokenizer_sha256": info.tokenizer_sha256.hex(),
        "template_sha256": info.template_sha256.hex(),
        "head_sha256": info.head_sha256.hex(),
        "tokenizer_size": info.tokenizer_size,
        "head_rows": info.head_rows,
        "noise_floor_nats": info.noise_floor_nats,
        "capabilities": {**can, **lists},
    }


def _sequence(item: ItemBody) -> Sequence:
    if item.segments is not None:
        return Sequence.of_turns([(segment.kind, segment.ids) for segment in item.segments])
    return Sequence.of(item.context or [], item.response or [])


def _want(body: WantBody) -> Want:
    return Want(
        sampled=body.sampled,
        topk=body.topk,
        candidates=None if body.candidates is None else RaggedIds.from_rows(body.candidates),
        entropy=body.entropy,
        tail=TailOf[body.tail.upper()],
        samples=body.samples,
        sample_seed=body.sample_seed,
        hidden=body.hidden,
        next=body.next,
        window=None if body.window is None else Window(*body.window),
        temperature=body.temperature,
        deterministic=body.deterministic,
    )


def _result(item: teacher_pb2.ScoreItem, result: teacher_pb2.ScoreResult) -> dict[str, Any]:
    if result.WhichOneof("outcome") == "error":
        return {"error": error_body(error_of(result.error))}
    offsets = None
    if item.want.HasField("candidates"):
        offsets = wire.ragged_from_proto(item.want.candidates).offsets
    rows = wire.rows_from_proto(result.rows, offsets)
    return {"rows": _rows(rows), "receipt": receipt_answer(wire.receipt_from_proto(result.receipt))}


def _rows(rows: Rows) -> dict[str, Any]:
    found: dict[str, Any] = {
        "start": rows.start,
        "count": rows.count,
        "validity": [str(Validity(code)).lower() for code in rows.validity],
        "has_next": rows.has_next,
        "sampled": _numbers(rows.sampled),
        "entropy": _numbers(rows.entropy),
        "tail": _numbers(rows.tail),
        "topk": _lists(rows.topk),
        "samples": _lists(rows.samples),
    }
    if rows.candidates is not None:
        found["candidates"] = [_numbers(rows.candidates.row(r)) for r in range(rows.count)]
    if rows.hidden is not None:
        found["hidden"] = [_numbers(row) for row in _wide(rows.hidden.states, rows.hidden.dtype)]
    return {name: value for name, value in found.items() if value is not None}


def _numbers(values: NDArray[np.floating[Any]] | None) -> list[float | str | None] | None:
    if values is None:
        return None
    plain: list[float | str | None] = values.astype(np.float64).tolist()
    for index in np.flatnonzero(~np.isfinite(values)).tolist():
        plain[index] = None if np.isnan(values[index]) else "-inf"
    return plain


def _lists(lists: IdLogprobs | None) -> dict[str, Any] | None:
    return lists and {"ids": lists.ids.tolist(), "logprobs": [_numbers(row) for row in lists.logprobs]}


def _wide(states: NDArray[Any], dtype: HiddenDtype) -> NDArray[np.floating[Any]]:
    """bf16 is the upper half of an f32."""
    return (states.astype(np.uint32) << 16).view(np.float32) if dtype is HiddenDtype.BF16 else states


def _model(ref: ModelRef) -> dict[str, str | int]:
    return {"run": ref.run, "epoch": ref.epoch, "step": ref.step, "manifest_sha256": ref.manifest_sha256.hex()}


def receipt_answer(receipt: Receipt) -> dict[str, Any]:
    """A `ReceiptAnswer` as plain values."""
    return {
        "model": {"name": receipt.model.name, **_model(receipt.model)},
        "engine": receipt.engine,
        "engine_version": receipt.engine_version,
        "dtype": receipt.dtype,
        "temperature": receipt.temperature,
        "tokenizer_sha256": receipt.tokenizer_sha256.hex(),
        "template_sha256": receipt.template_sha256.hex(),
        "head_sha256": receipt.head_sha256.hex(),
        "tokens_computed": receipt.tokens_computed,
        "tokens_reused": receipt.tokens_reused,
        "tokens_recomputed": receipt.tokens_recomputed,
        "cache": str(receipt.cache).lower(),
        "time": asdict(receipt.time),
    }
