"""Everything that is refused before any engine time is spent, in one place: each refusal names field, value and limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from preceptor import wire
from preceptor.codec.ids import ONE_PLANE_HEAD_ROWS
from preceptor.errors import Corrupt, InvalidArgument, TooLarge, Unsupported, VersionGone, WrongPair
from preceptor.types import Grade, ModelInfo, ModelRef
from preceptor_proto.v1 import common_pb2, teacher_pb2
from preceptor_serving.engines.plan import RowPlan, plan_item
from preceptor_serving.engines.protocol import ScoreItem

VALUE_BYTES = {Grade.F32: 4, Grade.F16: 2, Grade.U8: 1}
COLUMN_BYTES = 4  # of sampled, entropy and tail, a row
SCALE_BYTES = {Grade.F32: 0, Grade.F16: 0, Grade.U8: 4}  # of a list, a row


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an operator allows, beside what an engine can do."""

    max_items: int
    max_sequence_tokens: int
    max_reply_bytes: int


def check_pair(request: teacher_pb2.ScoreRequest, info: ModelInfo) -> None:
    """A student of another tokenizer or template is told both digests: equal sizes prove nothing."""
    _check_digest("tokenizer", request.tokenizer_sha256, info.tokenizer_sha256, info)
    _check_digest("template", request.template_sha256, info.template_sha256, info)


def check_task(task: teacher_pb2.ScoreTask, info: ModelInfo) -> None:
    """The same for a task of the queue, which may also be meant for a grader."""
    _check_digest("tokenizer", task.tokenizer_sha256, info.tokenizer_sha256, info)
    if task.HasField("grade"):
        grader, name = task.grade.grader, info.model.name
        raise Unsupported(f"teacher {name} scores; it does not grade", field="task.grade", value=grader, limit="not served")


def _check_digest(what: str, theirs: bytes, ours: bytes, info: ModelInfo) -> None:
    if theirs and theirs != ours:
        raise WrongPair(
            f"the student's {what} is not the {what} of teacher {info.model.name}",
            field=f"{what}_sha256",
            value=theirs.hex(),
            limit=ours.hex(),
            hint=f"the student says {theirs.hex()[:12]}, the teacher {ours.hex()[:12]}: choose models that share one {what}",
        )


def choose_version(exact: ModelRef | None, infos: Sequence[ModelInfo]) -> ModelInfo:
    """The newest version, or exactly the named one."""
    for info in infos:
        if exact is None or info.model == exact:
            return info
    served = ", ".join(f"step {info.model.step}" for info in infos)
    asked = f"step {exact.step}" if exact else ""
    raise VersionGone("this version is not served", field="teacher.exact", value=asked, limit=served, hint="ask for latest")


def check_count(items: int, bounds: Bounds) -> None:
    if items > bounds.max_items:
        raise TooLarge(
            f"{items} items in one request; the limit is {bounds.max_items}",
            field="items",
            value=f"{items} items",
            limit=f"<= {bounds.max_items} items",
            hint="send several smaller requests",
        )


def read_item(message: teacher_pb2.ScoreItem, info: ModelInfo, others: Iterable[ModelInfo], bounds: Bounds) -> RowPlan:
    """The plan of one item that can be served; what it refuses is the caller's mistake, or `Unsupported` with who could."""
    item = _read(message)
    tokens = len(item.sequence.ids)
    if tokens > bounds.max_sequence_tokens:
        raise TooLarge(
            f"the sequence has {tokens} tokens; the limit here is {bounds.max_sequence_tokens}",
            field="sequence",
            value=f"{tokens} tokens",
            limit=f"<= {bounds.max_sequence_tokens} tokens",
        )
    try:
        plan = plan_item(item, info)
    except Unsupported as error:
        error.hint = error.hint or _who_could(item, others)
        raise
    _check_reply(reply_bytes(message.want, plan, info), bounds)
    return plan


def _read(message: teacher_pb2.ScoreItem) -> ScoreItem:
    """What does not fit together in a request is its sender's mistake, not damage on the way."""
    try:
        return ScoreItem(wire.sequence_from_proto(message.sequence), wire.want_from_proto(message.want))
    except Corrupt as error:
        raise InvalidArgument(error.message, field=error.field, value=error.value, limit=error.limit, hint=error.hint) from error


def _who_could(item: ScoreItem, others: Iterable[ModelInfo]) -> str:
    names = [info.model.name for info in others if _could(item, info)]
    return f"these teachers could: {', '.join(names)}" if names else "no teacher of this service could"


def _could(item: ScoreItem, info: ModelInfo) -> bool:
    try:
        plan_item(item, info)
    except (InvalidArgument, Unsupported):
        return False
    return True


def reply_row_bytes(want: common_pb2.Want, info: ModelInfo) -> int:
    """What one row of a reply takes; of candidates, whose number differs from row to row, only what every row has."""
    ids, grade = 2 if info.head_rows <= ONE_PLANE_HEAD_ROWS else 3, Grade(want.grade)
    columns = want.sampled + want.entropy + (want.tail != common_pb2.TAIL_OF_NONE)
    lists = (want.topk > 0) + (want.samples > 0) + want.HasField("candidates")
    widths = (want.topk + want.samples) * (VALUE_BYTES[grade] + ids)
    return 1 + columns * COLUMN_BYTES + lists * SCALE_BYTES[grade] + widths


def reply_bytes(want: common_pb2.Want, plan: RowPlan, info: ModelInfo) -> int:
    """What the rows of one item take at least. Hidden states are counted by the door when they are there."""
    entries = 0 if plan.candidates is None else len(plan.candidates.ids)
    return len(plan) * reply_row_bytes(want, info) + entries * VALUE_BYTES[Grade(want.grade)]


def check_replies(sizes_bytes: Iterable[int], bounds: Bounds) -> None:
    """Items whose rows go into a reply one by one, but not together, are refused before they are computed."""
    size = sum(sizes_bytes)
    if size > bounds.max_reply_bytes:
        hint = "send fewer items in one request, or ask for fewer signals"
        raise _too_large_reply(size, bounds, "items", hint)


def _check_reply(size_bytes: int, bounds: Bounds) -> None:
    """Lists that could not be sent back are not computed."""
    if size_bytes > bounds.max_reply_bytes:
        raise _too_large_reply(size_bytes, bounds, "want", "ask for fewer rows (want.window), a smaller topk, or grade u8")


def _too_large_reply(size_bytes: int, bounds: Bounds, field: str, hint: str) -> TooLarge:
    return TooLarge(
        f"the reply would have {size_bytes} bytes; the limit is {bounds.max_reply_bytes}",
        field=field,
        value=f"{size_bytes} bytes",
        limit=f"<= {bounds.max_reply_bytes} bytes",
        hint=hint,
    )
