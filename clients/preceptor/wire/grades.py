"""Items for a grader and its verdicts: message <-> typed value."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preceptor.codec import Validity
from preceptor.errors import Corrupt
from preceptor.types.grades import CriterionVerdict, GradeItem, Verdict
from preceptor.wire.enums import known
from preceptor.wire.models import receipt_from_proto, receipt_to_proto
from preceptor_proto.v1 import common_pb2, teacher_pb2


def grade_item_to_proto(item: GradeItem) -> teacher_pb2.GradeItem:
    return teacher_pb2.GradeItem(
        prompt=item.prompt, response=item.response, reference=item.reference, group=item.group, unsure_at=item.unsure_at
    )


def grade_item_from_proto(message: teacher_pb2.GradeItem) -> GradeItem:
    return GradeItem(message.prompt, message.response, message.reference, message.group, tuple(message.unsure_at))


def verdict_to_proto(verdict: Verdict) -> teacher_pb2.Verdict:
    """A reward that is not there is NaN, never a number."""
    message = teacher_pb2.Verdict(
        validity=common_pb2.Validity.Name(verdict.validity),
        reward=_or_nan(verdict.reward),
        criteria=[_criterion_to_proto(criterion) for criterion in verdict.criteria],
        reason=verdict.reason,
        critique=verdict.critique,
        step_rewards_f32le=np.asarray(verdict.step_rewards, "<f4").tobytes(),
        step_ends_u32le=np.asarray(verdict.step_ends, "<u4").tobytes(),
        cost_usd=verdict.cost_usd,
        agreement=verdict.agreement,
        calls=verdict.calls,
        prompt_tokens=verdict.prompt_tokens,
        completion_tokens=verdict.completion_tokens,
    )
    if verdict.receipt is not None:
        message.receipt.CopyFrom(receipt_to_proto(verdict.receipt))
    return message


def verdict_from_proto(message: teacher_pb2.Verdict, field: str = "verdict") -> Verdict:
    """Refuses a verdict whose validity and numbers contradict each other."""
    validity, reward = _judged(message.validity, message.reward, field, "reward")
    step_rewards, step_ends = _steps(message, field)
    return Verdict(
        validity,
        reward,
        reason=message.reason,
        critique=message.critique,
        calls=message.calls,
        prompt_tokens=message.prompt_tokens,
        completion_tokens=message.completion_tokens,
        receipt=receipt_from_proto(message.receipt) if message.HasField("receipt") else None,
        criteria=tuple(_criterion_from_proto(each, f"{field}.criteria[{n}]") for n, each in enumerate(message.criteria)),
        step_rewards=step_rewards,
        step_ends=step_ends,
        cost_usd=message.cost_usd if message.HasField("cost_usd") else None,
        agreement=message.agreement if message.HasField("agreement") else None,
    )


def verdict_body(verdict: Verdict) -> dict[str, Any]:
    """The verdict in JSON, at the REST door and in files; its receipt is left out."""
    return {
        "validity": str(verdict.validity),
        "reward": verdict.reward,
        "reason": verdict.reason,
        "critique": verdict.critique,
        "criteria": [{**asdict(criterion), "validity": str(criterion.validity)} for criterion in verdict.criteria],
        "step_rewards": [None if math.isnan(one) else one for one in verdict.step_rewards],
        "step_ends": list(verdict.step_ends),
        "agreement": verdict.agreement,
        "cost_usd": verdict.cost_usd,
        "calls": verdict.calls,
        "prompt_tokens": verdict.prompt_tokens,
        "completion_tokens": verdict.completion_tokens,
    }


def _criterion_to_proto(criterion: CriterionVerdict) -> teacher_pb2.CriterionVerdict:
    validity = common_pb2.Validity.Name(criterion.validity)
    return teacher_pb2.CriterionVerdict(
        name=criterion.name,
        validity=validity,
        score=_or_nan(criterion.score),
        reason=criterion.reason,
        text=criterion.text,
        weight=criterion.weight,
    )


def _criterion_from_proto(message: teacher_pb2.CriterionVerdict, field: str) -> CriterionVerdict:
    validity, score = _judged(message.validity, message.score, field, "score")
    return CriterionVerdict(message.name, validity, score, message.reason, message.text, message.weight)


def _steps(message: teacher_pb2.Verdict, field: str) -> tuple[tuple[float, ...], tuple[int, ...]]:
    rewards = _column(message.step_rewards_f32le, "<f4", f"{field}.step_rewards_f32le")
    ends = _column(message.step_ends_u32le, "<u4", f"{field}.step_ends_u32le")
    if len(ends) not in (0, len(rewards)) or (np.diff(ends.astype(np.int64)) < 0).any():
        where = f"{field}.step_ends_u32le"
        raise Corrupt(f"{where} are not the ends of the steps", field=where, value=len(ends), limit="ascending, one a reward")
    return tuple(rewards.tolist()), tuple(ends.tolist())


def _column(packed: bytes, dtype: str, where: str) -> NDArray[Any]:
    if len(packed) % 4:
        raise Corrupt(f"{where} is cut off", field=where, value=f"{len(packed)} bytes", limit="4 bytes each")
    return np.frombuffer(packed, dtype)


def _or_nan(number: float | None) -> float:
    return math.nan if number is None else number


def _judged(validity_number: int, number: float, field: str, name: str) -> tuple[Validity, float | None]:
    """The number of something valid, None for the rest; a contradiction is refused."""
    validity = known(Validity, validity_number, f"{field}.validity")
    if (validity is Validity.OK) != math.isfinite(number):
        raise Corrupt(
            f"{field} is {validity.name} with {name} {number}",
            field=f"{field}.{name}",
            value=number,
            limit="a finite number exactly where the validity is OK",
        )
    return validity, number if validity is Validity.OK else None
