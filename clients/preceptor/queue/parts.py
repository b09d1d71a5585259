"""Messages taken apart into what the atomic steps need, checked at the edge against the limits of the protocol."""

from __future__ import annotations

from preceptor.errors import InvalidArgument, Unsupported
from preceptor.limits import check
from preceptor.queue.envelopes import SCHEMA, SCHEMA_OF_TEXTS
from preceptor.queue.keys import Flow, check_id
from preceptor.queue.scripts.logs import Part
from preceptor.queue.scripts.tasks import Spec
from preceptor.queue.stored import stored
from preceptor.queue.types import TaskInfo
from preceptor.queue.values import Position, TaskRow
from preceptor.types import ModelRef
from preceptor.wire import model_ref_from_proto, model_ref_to_proto
from preceptor_proto.v1 import common_pb2, rollout_pb2, teacher_pb2


def log_part(entry: rollout_pb2.LogEntry) -> Part:
    """One entry as a log compares it."""
    check(entry, "entry")
    payload = entry.SerializeToString(deterministic=True)
    if entry.WhichOneof("body") == "close":
        return Part(entry.offset, "close", b"", payload, entry.close.finish_reason)
    kind = entry.segment.WhichOneof("kind") or ""
    plane = getattr(entry.segment, kind).u32le
    if not plane:
        raise InvalidArgument("a log entry has tokens", field=f"entry.segment.{kind}", value="no tokens", limit=">= 1 token")
    return Part(entry.offset, kind, plane, payload)


def task_spec(flow: Flow, task: teacher_pb2.ScoreTask) -> Spec:
    """One task as the queue orders it. It must be addressed to the flow's teacher."""
    check_shape(task)
    if task.teacher.teacher != flow.teacher:
        raise InvalidArgument(
            "the task is for another teacher", field="task.teacher.teacher", value=task.teacher.teacher, limit=flow.teacher
        )
    return Spec(
        task_id=check_id(task.task_id, "task.task_id"),
        payload=task.SerializeToString(deterministic=True),
        band=task.band,
        deadline_ms=task.deadline_unix_ms,
        first_row=first_row(task),
        model=task.teacher.exact.SerializeToString(deterministic=True) if task.teacher.HasField("exact") else b"",
    )


def check_shape(task: teacher_pb2.ScoreTask) -> None:
    """Whether it is one of the two kinds that a queue holds: a sequence and what is wanted of it, or texts and a grader."""
    check(task, "task")
    texts = task.WhichOneof("source") == "texts"
    schema, needed = (SCHEMA_OF_TEXTS, "grade") if texts else (SCHEMA, "want")
    if task.schema != schema:
        raise Unsupported("another version wrote this task", field="task.schema", value=task.schema, limit=schema)
    if not task.HasField(needed):
        raise InvalidArgument(f"task.{needed} is missing", field=f"task.{needed}", value="nothing", limit="required")
    if texts and task.HasField("want"):
        raise InvalidArgument("texts are not scored", field="task.want", value="set", limit="unset beside texts")


def first_row(task: teacher_pb2.ScoreTask) -> int:
    """Where the rows of a task begin."""
    return task.want.window.start if task.want.HasField("window") else 0


def task_info(row: TaskRow) -> TaskInfo:
    """The row, typed."""
    return TaskInfo(
        task=stored(teacher_pb2.ScoreTask, row.spec, "task"),
        state=row.state,
        dirty=row.dirty,
        suspect=row.suspect,
        strikes=row.strikes,
        scored_upto=row.scored_upto,
        next_row=row.next_row,
        model=pinned_model(row),
        worker=row.worker,
        error=stored(common_pb2.ErrorDetail, row.error, "task.error") if row.error else None,
    )


def pinned_model(row: TaskRow) -> ModelRef | None:
    """The weights that score this task, once they are decided."""
    return model_ref_from_proto(stored(common_pb2.ModelRef, row.model, "task.model")) if row.model else None


def model_bytes(model: ModelRef | None) -> bytes:
    """What a lease pins."""
    return model_ref_to_proto(model).SerializeToString(deterministic=True) if model is not None else b""


def position_text(position: Position) -> str:
    """``milliseconds-number``."""
    return f"{position[0]}-{position[1]}"


def parse_position(text: str) -> Position:
    """The inverse; a lone number means ``number-0``."""
    milliseconds, _, number = text.partition("-")
    if not milliseconds.isdecimal() or not (number or "0").isdecimal():
        raise InvalidArgument(f"{text!r} is no position", field="position", value=text, limit="milliseconds-number")
    return int(milliseconds), int(number or "0")
