"""`preceptor dlq list|show|replay|drop`: tasks that were given up, why, and what becomes of them."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from preceptor import wire
from preceptor.cli.options import Json, parameter, with_flags
from preceptor.cli.output import print_json, print_table, say
from preceptor.cli.queue_access import on_queue
from preceptor.config import Settings
from preceptor.errors import Corrupt, InvalidArgument, NotFound, PreceptorError
from preceptor.names import rollout_text
from preceptor.queue import DeadEntry, Flow, Queue
from preceptor_proto.v1 import common_pb2, teacher_pb2

PAGE = 1000  # letters of one job that are looked at

FILTERS = (
    parameter("teacher", Annotated[str | None, typer.Option("--teacher", metavar="NAME", help="Only this teacher's.")], None),
    parameter("tenant", Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Only this tenant's.")], None),
    parameter("job", Annotated[str | None, typer.Option("--job", metavar="NAME", help="Only this job's.")], None),
)
AS_JSON = parameter("as_json", Json, False)
NAMED = parameter(
    "letters", Annotated[list[str] | None, typer.Argument(metavar="[LETTER]...", help="As `dlq list` names them.")], None
)
ALL = parameter("every", Annotated[bool, typer.Option("--all", help="Every letter that the filters leave.")], False)


@dataclass(frozen=True, slots=True)
class Found:
    """A dead letter, and the job that it belongs to."""

    flow: Flow
    entry: DeadEntry

    def as_dict(self) -> dict[str, object]:
        letter, reason = self.entry.letter, self.entry.letter.reason
        return {
            "letter": self.entry.letter_id,
            "teacher": self.flow.teacher,
            "tenant": self.flow.tenant,
            "job": self.flow.job,
            "task": letter.task.task_id,
            "code": common_pb2.ErrorCode.Name(reason.code),
            "message": reason.message,
            "field": reason.field,
            "value": reason.value,
            "limit": reason.limit,
            "attempts": letter.attempts,
            "died": _when(letter.died_unix_ms),
            "trace": letter.trace,
        }


def _list(config: Path | None, given: dict[str, Any]) -> None:
    """The oldest first."""
    found = _found(config, given)
    if given["as_json"]:
        print_json([one.as_dict() for one in found])
        return
    columns = ("letter", "teacher", "tenant", "job", "task", "code", "died")
    print_table(columns, [tuple(str(one.as_dict()[column]) for column in columns) for one in found])


def _show(config: Path | None, given: dict[str, Any]) -> None:
    """Everything that the letter says, and the task without its tokens or texts."""
    one = _only(_found(config, given), given["letter"])
    task = one.entry.letter.task
    kind = "grader" if task.WhichOneof("source") == "texts" else "want"
    asked = task.grade.grader if kind == "grader" else str(task.want).strip().replace("\n", " ")
    shown = {**one.as_dict(), "band": task.band, "reads": _source(task), kind: asked}
    if given["as_json"]:
        print_json(shown)
    else:
        print_table(("", ""), [(name, str(value)) for name, value in shown.items() if value != ""])


def _source(task: teacher_pb2.ScoreTask) -> str:
    if task.WhichOneof("source") == "rollout":
        return f"response log {rollout_text(wire.rollout_id_from_proto(task.rollout))}"
    if task.WhichOneof("source") == "texts":
        return f"{len(task.texts.items)} texts"
    return f"{len(wire.sequence_from_proto(task.inline).ids)} tokens of its own"


def _replay(config: Path | None, given: dict[str, Any]) -> None:
    """Ready again with a clean record, from the row they had reached."""

    async def replay(queue: Queue, one: Found) -> str:
        return str(await queue.replay_dead_letter(one.flow, one.entry.letter_id))

    _each(config, given, replay)


def _drop(config: Path | None, given: dict[str, Any]) -> None:
    """The letter is gone; its task stays dead."""

    async def drop(queue: Queue, one: Found) -> str:
        await queue.drop_dead_letter(one.flow, one.entry.letter_id)
        return "dropped"

    _each(config, given, drop)


def _each(config: Path | None, given: dict[str, Any], act: Callable[[Queue, Found], Awaitable[str]]) -> None:
    """Every letter that was chosen. One that cannot be acted on keeps none of the others; the first of them is told."""

    async def on_all(queue: Queue) -> None:
        failed: list[PreceptorError] = []
        for one in _chosen(await _letters(queue, given), given):
            try:
                outcome = await act(queue, one)
            except NotFound:  # somebody else was quicker
                outcome = "gone"
            except (InvalidArgument, Corrupt) as error:
                failed.append(error)
                outcome = f"failed: {error.message}"
            say(f"{one.entry.letter_id}\t{one.entry.letter.task.task_id}\t{outcome}")
        if failed:
            raise failed[0]

    on_queue(config, _flags(given), on_all)


def _found(config: Path | None, given: dict[str, Any]) -> list[Found]:
    return on_queue(config, _flags(given), lambda queue: _letters(queue, given))


async def _letters(queue: Queue, given: dict[str, Any]) -> list[Found]:
    """Those that the filters leave, the oldest first."""
    teachers = [given["teacher"]] if given["teacher"] else await queue.teachers()
    views = [view for teacher in teachers for view in await queue.describe_flows(teacher)]
    flows = [view.flow for view in views if view.dead_letters and _passes(view.flow, given)]
    found = [Found(flow, entry) for flow in flows for entry in await _of_job(queue, flow)]
    return sorted(found, key=lambda one: one.entry.letter.died_unix_ms)


async def _of_job(queue: Queue, flow: Flow) -> Sequence[DeadEntry]:
    """The oldest letters of a job; none of one whose keys somebody else wrote, which is told."""
    name = f"{flow.tenant}/{flow.job} of {flow.teacher}"
    try:
        found = await queue.dead_letters(flow, limit=PAGE)
    except Corrupt as error:
        _warn(f"{name} cannot be read: {error.message}")
        return ()
    if len(found) == PAGE:
        _warn(f"of {name} these are the oldest {PAGE} letters; there may be more")
    return found


def _passes(flow: Flow, given: dict[str, Any]) -> bool:
    return given["tenant"] in (None, flow.tenant) and given["job"] in (None, flow.job)


def _chosen(found: Sequence[Found], given: dict[str, Any]) -> list[Found]:
    names: list[str] = given["letters"] or []
    if bool(names) == given["every"]:
        raise InvalidArgument(
            "name letters, or say --all", field="letters", value=" ".join(names) or "none", limit="LETTER... | --all"
        )
    return list(found) if given["every"] else [_only(found, name) for name in names]


def _only(found: Sequence[Found], name: str) -> Found:
    """The letter of that name; two jobs may have used one in the same millisecond."""
    named = [one for one in found if one.entry.letter_id == name]
    if not named:
        raise NotFound(f"no dead letter {name}", field="letter", value=name, hint="preceptor dlq list")
    if len(named) > 1:
        jobs = ", ".join(f"{one.flow.tenant}/{one.flow.job} of {one.flow.teacher}" for one in named)
        raise InvalidArgument(f"{name} is in {jobs}", field="letter", value=name, hint="choose with --teacher, --tenant, --job")
    return named[0]


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr)


def _flags(given: dict[str, Any]) -> dict[str, Any]:
    """What is left for the settings."""
    own = {"teacher", "tenant", "job", "as_json", "letter", "letters", "every"}
    return {name: value for name, value in given.items() if name not in own}


def _when(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="seconds")


list_letters = with_flags(Settings, _list, (*FILTERS, AS_JSON))
show = with_flags(
    Settings,
    _show,
    (parameter("letter", Annotated[str, typer.Argument(metavar="LETTER", help="As `dlq list` names it.")]), *FILTERS, AS_JSON),
)
replay = with_flags(Settings, _replay, (NAMED, ALL, *FILTERS))
drop = with_flags(Settings, _drop, (NAMED, ALL, *FILTERS))
