"""Scores of rows: message <-> typed value, through the codec's planes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preceptor import codec
from preceptor.codec import EncodedValues, Grade
from preceptor.types import Hidden, IdLogprobs, RaggedLogprobs, Rows
from preceptor_proto.v1 import common_pb2

WIDEST_HEAD_ROWS = 1 << 24
ONE_PLANE_HEAD_ROWS = 1 << 16
COLUMNS = (("sampled_f32le", "sampled"), ("entropy_f32le", "entropy"), ("tail_f32le", "tail"))

Validity = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class GradeCost:
    """What sending in a grade did to the values: goes into the receipt."""

    error_bound_nats: float
    clipped_low: int


def rows_to_proto(rows: Rows, grade: Grade, head_rows: int) -> tuple[common_pb2.Rows, GradeCost]:
    """The message, and what the grade cost. Candidate offsets are left out: the request carried them."""
    message = common_pb2.Rows(start=rows.start, count=rows.count, has_next=rows.has_next)
    message.validity = codec.encode_validity(rows.validity, field="rows.validity")
    for field, attribute in COLUMNS:
        column: NDArray[np.float32] | None = getattr(rows, attribute)
        if column is not None:
            setattr(message, field, codec.encode_column(column, validity=rows.validity, field=f"rows.{attribute}"))
    costs: list[EncodedValues] = []
    for name in ("topk", "samples"):
        lists: IdLogprobs | None = getattr(rows, name)
        if lists is not None and lists.ids.shape[1]:
            payload, cost = _listed(lists, grade, head_rows, rows.validity, f"rows.{name}")
            getattr(message, name).CopyFrom(payload)
            costs.append(cost)
    if rows.candidates is not None:
        payload, cost = _candidates(rows.candidates, grade, rows.validity)
        message.candidates.CopyFrom(payload)
        costs.append(cost)
    if rows.hidden is not None:
        message.hidden.CopyFrom(_hidden(rows.hidden, rows.validity))
    bound = max((c.error_bound_nats for c in costs), default=0.0)
    return message, GradeCost(bound, sum(c.clipped for c in costs))


def rows_from_proto(
    message: common_pb2.Rows, candidate_offsets: NDArray[Any] | None = None, head_rows: int | None = None, field: str = "rows"
) -> Rows:
    """The typed value, after every check. Ids are checked against `head_rows` where the caller knows the teacher."""
    validity = codec.decode_validity(message.validity, message.count, field=f"{field}.validity")
    columns = {
        attribute: codec.decode_column(getattr(message, name), message.count, validity=validity, field=f"{field}.{attribute}")
        for name, attribute in COLUMNS
        if getattr(message, name)
    }
    return Rows(
        start=message.start,
        validity=validity,
        topk=_id_logprobs(message, "topk", validity, head_rows, field),
        candidates=_ragged(message, validity, candidate_offsets, field),
        samples=_id_logprobs(message, "samples", validity, head_rows, field),
        hidden=_hidden_from(message, validity, field),
        has_next=message.has_next,
        **columns,
    )


def _listed(
    lists: IdLogprobs, grade: Grade, head_rows: int, validity: Validity, field: str
) -> tuple[common_pb2.Payload, EncodedValues]:
    ids = codec.encode_ids(lists.ids, head_rows, field=f"{field}.ids")
    values = codec.encode_values(lists.logprobs, grade, validity=validity, field=f"{field}.values")
    payload = _payload(values)
    payload.width = lists.ids.shape[1]
    payload.ids_low_u16le = ids.low
    payload.ids_high_u8 = ids.high
    return payload, values


def _candidates(lists: RaggedLogprobs, grade: Grade, validity: Validity) -> tuple[common_pb2.Payload, EncodedValues]:
    values = codec.encode_values(lists.logprobs, grade, offsets=lists.offsets, validity=validity, field="rows.candidates")
    return _payload(values), values


def _payload(values: EncodedValues) -> common_pb2.Payload:
    return common_pb2.Payload(
        grade=common_pb2.Grade.Name(values.grade), values=values.values, bases_f16le=values.bases, steps_f16le=values.steps
    )


def _hidden(hidden: Hidden, validity: Validity) -> common_pb2.HiddenStates:
    return common_pb2.HiddenStates(
        dtype=common_pb2.Dtype.Name(hidden.dtype),
        width=hidden.states.shape[1],
        values=codec.encode_hidden(hidden.states, hidden.dtype, validity=validity, field="rows.hidden"),
        head_sha256=hidden.head_sha256,
    )


def _values(payload: common_pb2.Payload, validity: Validity, offsets: NDArray[Any] | None, field: str) -> NDArray[np.float32]:
    return codec.decode_values(
        payload.values,
        payload.grade,
        rows=len(validity),
        width=payload.width,
        offsets=offsets,
        bases=payload.bases_f16le,
        steps=payload.steps_f16le,
        validity=validity,
        field=field,
    )


def _id_logprobs(message: common_pb2.Rows, name: str, validity: Validity, head_rows: int | None, field: str) -> IdLogprobs | None:
    if not message.HasField(name):
        return None
    payload: common_pb2.Payload = getattr(message, name)
    where = f"{field}.{name}"
    widest = WIDEST_HEAD_ROWS if payload.ids_high_u8 else ONE_PLANE_HEAD_ROWS
    ids = codec.decode_ids(
        payload.ids_low_u16le,
        payload.ids_high_u8,
        widest if head_rows is None else head_rows,
        rows=len(validity),
        width=payload.width,
        field=f"{where}.ids",
    )
    return IdLogprobs(ids, _values(payload, validity, None, f"{where}.values"))


def _ragged(message: common_pb2.Rows, validity: Validity, offsets: NDArray[Any] | None, field: str) -> RaggedLogprobs | None:
    if not message.HasField("candidates"):
        return None
    where = f"{field}.candidates"
    if offsets is None:
        offsets = codec.decode_offsets(message.candidates.offsets_u32le, len(validity), field=f"{where}.offsets")
    cut = np.asarray(offsets, np.uint32)
    return RaggedLogprobs(cut, _values(message.candidates, validity, cut, f"{where}.values"))


def _hidden_from(message: common_pb2.Rows, validity: Validity, field: str) -> Hidden | None:
    if not message.HasField("hidden"):
        return None
    hidden = message.hidden
    states = codec.decode_hidden(
        hidden.values, hidden.dtype, rows=len(validity), width=hidden.width, validity=validity, field=f"{field}.hidden"
    )
    return Hidden(states, codec.HiddenDtype(hidden.dtype), hidden.head_sha256)
