"""What the engine's process sends while it generates: for each rollout its newest tokens, and at its end why it ended.

A chunk is a `RolloutResult` that holds one stretch of the response and nothing of the context. Only the last one of a rollout
has a finish reason and the text. A reply is a list of chunks, each preceded by its length as u32le; an empty reply says that
the engine is alive and nothing is due.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preceptor import wire
from preceptor.types import Behaviour, FinishReason, Ids, ModelRef, Provenance, RaggedIds, RolloutId
from preceptor_proto.v1 import common_pb2, rollout_pb2

LENGTH = struct.Struct("<I")
COLUMNS = ("versions_u32le", "provenance_u8", "logprob_policy_f32le", "logprob_behaviour_f32le")

Chunk = rollout_pb2.RolloutResult


@dataclass(frozen=True, slots=True)
class Stretch:
    """Newly drawn tokens of one rollout, and what they were drawn from: one entry a token in each column."""

    ids: Ids
    policy: NDArray[np.float32]
    behaviour: NDArray[np.float32]
    top_ids: NDArray[np.int64] | None = None  # [tokens, k]
    provenance: NDArray[np.uint8] | None = None  # who chose each token; None: the student all of them


def chunk_of(rollout: RolloutId, model: ModelRef, stretch: Stretch, reason: FinishReason | None = None, text: str = "") -> Chunk:
    """The chunk of a stretch that was drawn under these weights of the student."""
    by_student = np.full(len(stretch.ids), Provenance.STUDENT, np.uint8)
    behaviour = Behaviour(
        versions=np.full(len(stretch.ids), model.step, np.uint32),
        provenance=by_student if stretch.provenance is None else stretch.provenance,
        logprob_policy=stretch.policy,
        logprob_behaviour=stretch.behaviour,
    )
    chunk = Chunk(
        id=wire.rollout_id_to_proto(rollout),
        behaviour=wire.behaviour_to_proto(behaviour),
        model=wire.model_ref_to_proto(model),
        finish_reason=common_pb2.FinishReason.Name(reason or common_pb2.FINISH_REASON_UNSPECIFIED),
        text=text,
    )
    chunk.sequence.segments.add(response=wire.ids_to_proto(stretch.ids))
    if stretch.top_ids is not None:
        chunk.student_topk.CopyFrom(_lists(stretch.top_ids))
    return chunk


def _lists(ids_nk: NDArray[np.int64]) -> common_pb2.CandidateIds:
    count, width = ids_nk.shape
    offsets = np.arange(count + 1, dtype=np.uint32) * np.uint32(width)
    flat: Ids = ids_nk.astype(np.uint32).ravel()
    return wire.ragged_to_proto(RaggedIds(offsets, flat))


def to_bytes(chunks: Iterable[Chunk]) -> bytes:
    """One reply."""
    payloads = [chunk.SerializeToString() for chunk in chunks]
    return b"".join(LENGTH.pack(len(payload)) + payload for payload in payloads)


def from_bytes(reply: bytes) -> Iterator[Chunk]:
    """The chunks of a reply."""
    start = 0
    while start < len(reply):
        (length,) = LENGTH.unpack_from(reply, start)
        start += LENGTH.size + length
        yield Chunk.FromString(reply[start - length : start])


def is_last(chunk: Chunk) -> bool:
    return chunk.finish_reason != common_pb2.FINISH_REASON_UNSPECIFIED


def response_of(chunk: Chunk) -> common_pb2.Segment:
    """The stretch of tokens in a chunk."""
    return chunk.sequence.segments[0]


def turn_of(chunks: Sequence[Chunk], context: common_pb2.TokenIds) -> list[common_pb2.Segment]:
    """What was read, and the response that these chunks make up."""
    response = common_pb2.TokenIds(u32le=b"".join(response_of(chunk).response.u32le for chunk in chunks))
    return [common_pb2.Segment(context=context), common_pb2.Segment(response=response)]


def joined(chunks: Sequence[Chunk], segments: Sequence[common_pb2.Segment]) -> rollout_pb2.RolloutResult:
    """The whole rollout that its chunks, of all turns, make up, byte for byte."""
    whole = Chunk()
    whole.CopyFrom(chunks[-1])
    del whole.sequence.segments[:]
    whole.sequence.segments.extend(segments)
    for column in COLUMNS:
        setattr(whole.behaviour, column, b"".join(getattr(chunk.behaviour, column) for chunk in chunks))
    if whole.HasField("student_topk"):
        whole.student_topk.CopyFrom(_joined_lists([chunk.student_topk for chunk in chunks]))
    return whole


def _joined_lists(lists: Sequence[common_pb2.CandidateIds]) -> common_pb2.CandidateIds:
    """Ragged lists one after the other: offsets go on where the lists before ended."""
    offsets = [0]
    for one in lists:
        _, *ends = struct.unpack(f"<{len(one.offsets_u32le) // 4}I", one.offsets_u32le)
        start = offsets[-1]
        offsets += [start + end for end in ends]
    return common_pb2.CandidateIds(
        offsets_u32le=struct.pack(f"<{len(offsets)}I", *offsets), ids_u32le=b"".join(one.ids_u32le for one in lists)
    )
