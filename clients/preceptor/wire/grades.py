"""Items for a grader and its verdicts: message <-> typed value."""

from __future__ import annotations

import math

from preceptor.codec import Validity
from preceptor.errors import Corrupt
from preceptor.types.grades import GradeItem, Verdict
from preceptor.wire.enums import known
from preceptor.wire.models import receipt_from_proto, receipt_to_proto
from preceptor_proto.v1 import common_pb2, teacher_pb2


def grade_item_to_proto(item: GradeItem) -> teacher_pb2.GradeItem:
    return teacher_pb2.GradeItem(prompt=item.prompt, response=item.response, reference=item.reference, group=item.group)


def grade_item_from_proto(message: teacher_pb2.GradeItem) -> GradeItem:
    return GradeItem(message.prompt, message.response, message.reference, message.group)


def verdict_to_proto(verdict: Verdict) -> teacher_pb2.Verdict:
    """A reward that is not there is NaN, never a number."""
    message = teacher_pb2.Verdict(
        validity=common_pb2.Validity.Name(verdict.validity),
        reward=math.nan if verdict.reward is None else verdict.reward,
        reason=verdict.reason,
        critique=verdict.critique,
        calls=verdict.calls,
        prompt_tokens=verdict.prompt_tokens,
        completion_tokens=verdict.completion_tokens,
    )
    if verdict.receipt is not None:
        message.receipt.CopyFrom(receipt_to_proto(verdict.receipt))
    return message


def verdict_from_proto(message: teacher_pb2.Verdict, field: str = "verdict") -> Verdict:
    """Refuses a verdict whose validity and reward contradict each other."""
    validity = known(Validity, message.validity, f"{field}.validity")
    if (validity is Validity.OK) != math.isfinite(message.reward):
        raise Corrupt(
            f"{field} is {validity.name} with reward {message.reward}",
            field=f"{field}.reward",
            value=message.reward,
            limit="a finite number exactly where the validity is OK",
        )
    return Verdict(
        validity,
        message.reward if validity is Validity.OK else None,
        message.reason,
        message.critique,
        message.calls,
        message.prompt_tokens,
        message.completion_tokens,
        receipt_from_proto(message.receipt) if message.HasField("receipt") else None,
    )
