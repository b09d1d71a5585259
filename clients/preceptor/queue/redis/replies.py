"""Replies of scripts as typed values, and their refusals as errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from preceptor.errors import Conflict, Corrupt, Fenced, Gap, Internal, InvalidArgument
from preceptor.queue.types import TaskState
from preceptor.queue.values import TaskRow

FENCE_PLACE = 8  # in what `shown` of `common.lua` lists


def accepted(reply: Sequence[Any], about: str) -> list[Any]:
    """What follows ``OK``; a refusal raises. `about` names the task or log for people."""
    code, *rest = reply
    if code != b"OK":
        refuse(code.decode(), [_plain(part) for part in rest], about)
    return rest


def refuse(code: str, parts: Sequence[str], about: str) -> NoReturn:
    """The error that a script's refusal stands for."""
    match code, parts:
        case "FENCED", [state]:
            raise Fenced(f"the lease on {about} is lost", field="fence", value=state, hint="drop this work and lease again")
        case "GAP", [value, limit] if about.startswith("log"):
            hint = "append again from the log's length"
            raise Gap(f"the log ends at {limit}", field="offset", value=value, limit=limit, hint=hint)
        case "GAP", [value, limit]:
            raise Gap("these are not the task's next rows", field="rows.start", value=value, limit=limit)
        case "BACK", [value, limit]:
            raise InvalidArgument("scored_upto went back", field="scored_upto", value=value, limit=limit)
        case "CONFLICT", [message, field, value, limit]:
            raise Conflict(message, field=field, value=value, limit=limit)
        case _:
            raise Internal(f"a script answered {code}", field="reply", value=list(parts))


def task_row(values: Sequence[bytes | None]) -> TaskRow | None:
    """A task as `shown` of `common.lua` lists its fields; None when nobody knows it."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    try:
        return _task_row(known)
    except (ValueError, OverflowError):
        raise Corrupt("what is stored as a task cannot be read", field="task", value=f"{len(known)} fields") from None


def fence_in(values: Sequence[bytes | None]) -> bytes:
    """The fence of a task, readable or not."""
    return values[FENCE_PLACE] or b""


def _task_row(known: Sequence[bytes]) -> TaskRow:
    spec, state, dirty, suspect, alone, strikes, scored_upto, next_row, fence, expires_ms, worker, model, error = known
    return TaskRow(
        spec=spec,
        state=TaskState(state.decode()),
        dirty=dirty == b"1",
        suspect=suspect == b"1",
        alone=alone == b"1",
        strikes=int(strikes),
        scored_upto=int(scored_upto),
        next_row=int(next_row),
        fence=fence,
        expires_ms=int(expires_ms),
        worker=worker.decode(),
        model=model,
        error=error,
    )


def pairs(flat: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Items of a flat list that alternates names and values."""
    for name, value in zip(flat[::2], flat[1::2], strict=True):
        yield name.decode(), value


def _plain(part: bytes | int) -> str:
    return part.decode(errors="replace") if isinstance(part, bytes) else str(part)
