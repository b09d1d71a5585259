"""Rollouts and their behaviour columns: message <-> typed value."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from preceptor.errors import Corrupt
from preceptor.types import Behaviour, FinishReason, Rollout, RolloutId
from preceptor.wire.enums import known
from preceptor.wire.models import model_ref_from_proto, model_ref_to_proto
from preceptor.wire.sequences import ragged_from_proto, ragged_to_proto, sequence_from_proto, sequence_to_proto
from preceptor_proto.v1 import common_pb2, rollout_pb2

# field of the message, attribute of the type, dtype on the wire
BEHAVIOUR_COLUMNS = (
    ("versions_u32le", "versions", "<u4"),
    ("provenance_u8", "provenance", "u1"),
    ("logprob_policy_f32le", "logprob_policy", "<f4"),
    ("logprob_behaviour_f32le", "logprob_behaviour", "<f4"),
    ("kv_mixed_u8", "kv_mixed", "u1"),
)


def rollout_id_to_proto(rollout: RolloutId) -> common_pb2.RolloutId:
    return common_pb2.RolloutId(
        run=rollout.run, step=rollout.step, prompt=rollout.prompt, sample=rollout.sample, attempt=rollout.attempt
    )


def rollout_id_from_proto(message: common_pb2.RolloutId) -> RolloutId:
    return RolloutId(message.run, message.step, message.prompt, message.sample, message.attempt)


def behaviour_to_proto(behaviour: Behaviour) -> common_pb2.Behaviour:
    message = common_pb2.Behaviour()
    for field, attribute, dtype in BEHAVIOUR_COLUMNS:
        column: NDArray[np.generic] | None = getattr(behaviour, attribute)
        if column is not None:
            setattr(message, field, np.asarray(column, dtype).tobytes())
    return message


def behaviour_from_proto(message: common_pb2.Behaviour, response_tokens: int) -> Behaviour:
    """Columns of exactly one value for each response token; an empty column is absent."""
    columns = {
        attribute: _column(getattr(message, field), dtype, response_tokens, field)
        for field, attribute, dtype in BEHAVIOUR_COLUMNS
    }
    return Behaviour(**columns)


def _column(data: bytes, dtype: str, count: int, field: str) -> NDArray[Any] | None:
    expected = count * np.dtype(dtype).itemsize
    if not data:
        return None
    if len(data) != expected:
        raise Corrupt(f"{field} does not fit the response", field=field, value=f"{len(data)} bytes", limit=f"{expected} bytes")
    return np.frombuffer(data, dtype)


def rollout_to_proto(rollout: Rollout) -> rollout_pb2.RolloutResult:
    message = rollout_pb2.RolloutResult(
        id=rollout_id_to_proto(rollout.id),
        sequence=sequence_to_proto(rollout.sequence),
        behaviour=behaviour_to_proto(rollout.behaviour),
        finish_reason=common_pb2.FinishReason.Name(rollout.finish_reason),
        model=model_ref_to_proto(rollout.model),
        text=rollout.text,
    )
    if rollout.student_topk is not None:
        message.student_topk.CopyFrom(ragged_to_proto(rollout.student_topk))
    if rollout.reward is not None:
        message.reward = rollout.reward
    return message


def rollout_from_proto(message: rollout_pb2.RolloutResult) -> Rollout:
    sequence = sequence_from_proto(message.sequence)
    return Rollout(
        id=rollout_id_from_proto(message.id),
        sequence=sequence,
        behaviour=behaviour_from_proto(message.behaviour, sequence.row_count),
        finish_reason=known(FinishReason, message.finish_reason, "finish_reason"),
        model=model_ref_from_proto(message.model),
        student_topk=ragged_from_proto(message.student_topk) if message.HasField("student_topk") else None,
        text=message.text,
        reward=message.reward if message.HasField("reward") else None,
    )
