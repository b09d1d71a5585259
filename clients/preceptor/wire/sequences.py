"""Sequences, wants and ragged id lists: message <-> typed value."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from preceptor import codec
from preceptor.errors import Corrupt, InvalidArgument
from preceptor.types import Grade, Ids, RaggedIds, Segment, Sequence, TailOf, Want, Window
from preceptor.wire.enums import known
from preceptor_proto.v1 import common_pb2


def ids_to_proto(ids: ArrayLike) -> common_pb2.TokenIds:
    return common_pb2.TokenIds(u32le=np.asarray(ids, "<u4").tobytes())


def ids_from_proto(message: common_pb2.TokenIds, field: str = "u32le") -> Ids:
    """A read-only view of the message's own bytes."""
    if len(message.u32le) % 4:
        raise InvalidArgument(
            f"{field} is not whole u32 ids", field=field, value=f"{len(message.u32le)} bytes", limit="a multiple of 4 bytes"
        )
    return np.frombuffer(message.u32le, "<u4")


def segment_to_proto(segment: Segment) -> common_pb2.Segment:
    ids = ids_to_proto(segment.ids)
    return common_pb2.Segment(context=ids) if segment.kind == "context" else common_pb2.Segment(response=ids)


def segment_from_proto(message: common_pb2.Segment, field: str = "segment") -> Segment:
    match message.WhichOneof("kind"):
        case "context":
            return Segment("context", ids_from_proto(message.context, f"{field}.context"))
        case "response":
            return Segment("response", ids_from_proto(message.response, f"{field}.response"))
        case _:
            raise InvalidArgument(f"{field} has no kind", field=field, value="nothing", limit="context | response")


def sequence_to_proto(sequence: Sequence) -> common_pb2.Sequence:
    return common_pb2.Sequence(segments=[segment_to_proto(s) for s in sequence.segments])


def sequence_from_proto(message: common_pb2.Sequence, field: str = "sequence") -> Sequence:
    return Sequence(tuple(segment_from_proto(s, f"{field}.segments[{i}]") for i, s in enumerate(message.segments)))


def ragged_to_proto(lists: RaggedIds) -> common_pb2.CandidateIds:
    offsets = np.asarray(lists.offsets, "<u4").tobytes()
    return common_pb2.CandidateIds(offsets_u32le=offsets, ids_u32le=np.asarray(lists.ids, "<u4").tobytes())


def ragged_from_proto(message: common_pb2.CandidateIds, field: str = "candidates") -> RaggedIds:
    """Lists whose offsets were checked to start at 0, never fall, and end at the number of ids."""
    if len(message.ids_u32le) % 4:
        found = f"{len(message.ids_u32le)} bytes"
        raise Corrupt(
            f"{field}.ids_u32le is not whole ids", field=f"{field}.ids_u32le", value=found, limit="a multiple of 4 bytes"
        )
    ids = np.frombuffer(message.ids_u32le, "<u4")
    rows = len(message.offsets_u32le) // 4 - 1
    offsets = codec.decode_offsets(message.offsets_u32le, rows, len(ids), field=f"{field}.offsets_u32le")
    return RaggedIds(offsets, ids)


def want_to_proto(want: Want) -> common_pb2.Want:
    message = common_pb2.Want(
        sampled=want.sampled,
        topk=want.topk,
        entropy=want.entropy,
        tail=common_pb2.TailOf.Name(want.tail),
        samples=want.samples,
        sample_seed=want.sample_seed,
        hidden=want.hidden,
        next=want.next,
        grade=common_pb2.Grade.Name(want.grade),
        deterministic=want.deterministic,
    )
    if want.temperature != 1.0:
        message.temperature = want.temperature
    if want.candidates is not None:
        message.candidates.CopyFrom(ragged_to_proto(want.candidates))
    elif want.log_candidates:
        message.log_candidates = True
    if want.window is not None:
        message.window.CopyFrom(common_pb2.RowRange(start=want.window.start, end=want.window.end))
    return message


def want_from_proto(message: common_pb2.Want, field: str = "want") -> Want:
    has_lists = message.WhichOneof("candidate_source") == "candidates"
    return Want(
        sampled=message.sampled,
        topk=message.topk,
        candidates=ragged_from_proto(message.candidates, f"{field}.candidates") if has_lists else None,
        log_candidates=message.log_candidates,
        entropy=message.entropy,
        tail=known(TailOf, message.tail, f"{field}.tail", InvalidArgument),
        samples=message.samples,
        sample_seed=message.sample_seed,
        hidden=message.hidden,
        next=message.next,
        window=Window(message.window.start, message.window.end) if message.HasField("window") else None,
        temperature=message.temperature if message.HasField("temperature") else 1.0,
        grade=known(Grade, message.grade, f"{field}.grade", InvalidArgument),
        deterministic=message.deterministic,
    )
