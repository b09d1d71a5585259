"""How a teacher service stands: message <-> typed value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any, TypeVar

from google.protobuf.message import Message

from preceptor.types.status import (
    BudgetStatus,
    EngineStatus,
    FlowStatus,
    QueueStatus,
    ServiceState,
    TeacherStanding,
    TeacherState,
    TeacherStatus,
)
from preceptor.wire.enums import known
from preceptor.wire.models import model_info_from_proto, model_info_to_proto
from preceptor_proto.v1 import common_pb2, teacher_pb2

T = TypeVar("T", EngineStatus, FlowStatus, QueueStatus, TeacherStanding, BudgetStatus)


def teacher_status_to_proto(status: TeacherStatus) -> teacher_pb2.TeacherStatus:
    return teacher_pb2.TeacherStatus(
        state=common_pb2.ServiceState.Name(status.state),
        teachers=[model_info_to_proto(info) for info in status.teachers],
        flows=[teacher_pb2.FlowStatus(**_plain(flow)) for flow in status.flows],
        worker=status.worker,
        engines=[teacher_pb2.EngineStatus(**_plain(engine)) for engine in status.engines],
        queues=[teacher_pb2.QueueStatus(**_plain(queue)) for queue in status.queues],
        reasons=dict(status.reasons),
        standings=[teacher_pb2.TeacherStanding(**_plain(standing)) for standing in status.standings],
        budgets=[teacher_pb2.BudgetStatus(**_plain(budget)) for budget in status.budgets],
    )


def teacher_status_from_proto(message: teacher_pb2.TeacherStatus) -> TeacherStatus:
    return TeacherStatus(
        state=known(ServiceState, message.state, "state"),
        worker=message.worker,
        teachers=tuple(model_info_from_proto(info) for info in message.teachers),
        engines=tuple(_read(EngineStatus, engine) for engine in message.engines),
        flows=tuple(_read(FlowStatus, flow) for flow in message.flows),
        queues=tuple(_read(QueueStatus, queue) for queue in message.queues),
        reasons=dict(message.reasons),
        standings=tuple(_standing(standing) for standing in message.standings),
        budgets=tuple(_read(BudgetStatus, budget) for budget in message.budgets),
    )


def _standing(message: teacher_pb2.TeacherStanding) -> TeacherStanding:
    found = _read(TeacherStanding, message)
    return replace(found, state=known(TeacherState, message.state, "standings.state"))


def _plain(value: EngineStatus | FlowStatus | QueueStatus | TeacherStanding | BudgetStatus) -> Mapping[str, Any]:
    """Field for field; what is not known is left out."""
    return {name: one for name, one in asdict(value).items() if one is not None}


def _read(kind: type[T], message: Message) -> T:
    """Fields of one name; one that may be absent is None then."""
    optional = {one.name for one in message.DESCRIPTOR.fields if one.has_presence}
    absent = {name for name in optional if not message.HasField(name)}
    values: dict[str, Any] = {one.name: None if one.name in absent else getattr(message, one.name) for one in fields(kind)}
    return kind(**values)
