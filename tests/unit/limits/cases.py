"""Requests on both sides of every declared limit. A kind of limit without a builder here is a failing test, and so is a new
limit that no request can reach."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from preceptor_proto.v1 import limits_pb2
from scripts.limits_page import ONE_REQUIRED, Declared


@dataclass(frozen=True, slots=True)
class Case:
    """One request, and the limit that its refusal names; None where it is within all limits."""

    what: str
    request: Message
    field: str
    value: str | None = None
    limit: str | None = None


def cases_of(limit: Declared) -> Iterator[Case]:
    """Just inside, at, and just beyond."""
    yield from BUILDERS[limit.kind](limit)


def minimal(descriptor: Any) -> Message:
    """The smallest message of a type that keeps every limit."""
    message = GetMessageClass(descriptor)()
    for oneof in descriptor.oneofs:
        if oneof.GetOptions().Extensions[limits_pb2.one_required]:
            _fill(message, oneof.fields[0])
    for field in descriptor.fields:
        limit = _limit(field)
        if limit.required or limit.min_items or (limit.min > 0 and not field.has_presence):
            _fill(message, field)
    return message


def _limit(field: Any) -> Any:
    return field.GetOptions().Extensions[limits_pb2.limit]


def _fill(message: Message, field: Any) -> None:
    if field.is_repeated:
        getattr(message, field.name).extend([_one(field)] * max(1, _limit(field).min_items))
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(minimal(field.message_type))
    else:
        setattr(message, field.name, _one(field))


def _one(field: Any) -> Any:
    limit = _limit(field)
    if field.message_type is not None:
        return minimal(field.message_type)
    if field.type == field.TYPE_BYTES:
        return b"\0" * max(limit.min_bytes, limit.unit_bytes, 1)
    if field.type == field.TYPE_STRING:
        return "a" * max(limit.min_bytes, 1)
    if field.type == field.TYPE_ENUM:
        return field.enum_type.values[-1].number
    return True if field.type == field.TYPE_BOOL else int(max(limit.min, 1))


def _parent(limit: Declared) -> tuple[Message, Message, str]:
    """A request, the message in it that owns the limit's field, and that field's name in a refusal."""
    request = parent = minimal(limit.root)
    where = ""
    for name in limit.path[:-1]:
        field = parent.DESCRIPTOR.fields_by_name[name]
        if not (len(getattr(parent, name)) if field.is_repeated else parent.HasField(name)):
            _fill(parent, field)
        parent = getattr(parent, name)[0] if field.is_repeated else getattr(parent, name)
        where += f"{name}[0]." if field.is_repeated else f"{name}."
    return request, parent, where + limit.path[-1]


def _case(limit: Declared, what: str, change: Callable[[Message], None], value: Any = None, told: str | None = None) -> Case:
    request, parent, field = _parent(limit)
    change(parent)
    return Case(f"{'.'.join(limit.name)} {what}", request, field, None if value is None else str(value), told)


def _field(limit: Declared) -> Any:
    return limit.owner.fields_by_name[limit.path[-1]]


def _number(limit: Declared, value: Any, told: str | None = None) -> Case:
    name = limit.path[-1]
    shown = int(value) if math.isfinite(value) and float(value).is_integer() else value
    return _case(limit, str(value), lambda parent: setattr(parent, name, value), shown if told else None, told)


def _step(limit: Declared) -> Callable[[float, int], Any]:
    """The next representable value: the next whole number, or the next double."""
    if _is_float(limit):
        return lambda value, way: math.nextafter(value, math.inf * way)
    return lambda value, way: int(value) + way


def _not_finite(limit: Declared) -> Iterator[Case]:
    if _is_float(limit):
        for value in (math.nan, math.inf, -math.inf):
            yield _number(limit, value, "a finite number")


def _max(limit: Declared) -> Iterator[Case]:
    step = _step(limit)
    yield from (_number(limit, step(limit.bound, -1)), _number(limit, _same(limit)))
    yield _number(limit, step(limit.bound, +1), f"<= {int(limit.bound)}")
    yield from _not_finite(limit)


def _min(limit: Declared) -> Iterator[Case]:
    step = _step(limit)
    yield from (_number(limit, _same(limit)), _number(limit, step(limit.bound, +1)))
    yield _number(limit, step(limit.bound, -1), f">= {int(limit.bound)}")
    yield from _not_finite(limit)


def _above(limit: Declared) -> Iterator[Case]:
    step = _step(limit)
    yield _number(limit, step(limit.bound, +1))
    yield _number(limit, limit.bound, f"> {int(limit.bound)}")
    yield _number(limit, step(limit.bound, -1), f"> {int(limit.bound)}")


def _same(limit: Declared) -> Any:
    return limit.bound if _is_float(limit) else int(limit.bound)


def _is_float(limit: Declared) -> bool:
    return _field(limit).cpp_type in (_field(limit).CPPTYPE_DOUBLE, _field(limit).CPPTYPE_FLOAT)


def _length(limit: Declared, count: int, told: str | None = None) -> Case:
    field = _field(limit)
    text = b"\0" * count if field.type == field.TYPE_BYTES else "a" * count

    def change(parent: Message) -> None:
        if field.is_repeated:
            getattr(parent, field.name)[:] = [text]
        else:
            setattr(parent, field.name, text)

    case = _case(limit, f"{count} bytes", change, f"{count} bytes" if told else None, told)
    return Case(case.what, case.request, f"{case.field}[0]", case.value, case.limit) if field.is_repeated else case


def _max_bytes(limit: Declared) -> Iterator[Case]:
    unit, least = max(1, _limit(_field(limit)).unit_bytes), _limit(_field(limit)).min_bytes
    if limit.bound - unit >= least:
        yield _length(limit, int(limit.bound) - unit)
    yield _length(limit, int(limit.bound))
    yield _length(limit, int(limit.bound) + unit, f"<= {limit.bound} bytes")


def _min_bytes(limit: Declared) -> Iterator[Case]:
    yield _length(limit, int(limit.bound))
    yield _length(limit, int(limit.bound) - 1, f">= {limit.bound} bytes")


def _unit_bytes(limit: Declared) -> Iterator[Case]:
    unit = int(limit.bound)
    yield from (_length(limit, unit), _length(limit, 2 * unit))
    for count in (2 * unit - 1, 2 * unit + 1):
        yield _length(limit, count, f"a multiple of {unit} bytes")


def _items(limit: Declared, count: int, told: str | None = None) -> Case:
    field = _field(limit)

    def change(parent: Message) -> None:
        del getattr(parent, field.name)[:]
        getattr(parent, field.name).extend([_one(field)] * count)

    return _case(limit, f"{count} items", change, f"{count} items" if told else None, told)


def _max_items(limit: Declared) -> Iterator[Case]:
    most = int(limit.bound)
    yield from (_items(limit, most - 1), _items(limit, most), _items(limit, most + 1, f"<= {most} items"))


def _min_items(limit: Declared) -> Iterator[Case]:
    least = int(limit.bound)
    yield from (_items(limit, least), _items(limit, least + 1), _items(limit, least - 1, f">= {least} items"))


def _required(limit: Declared) -> Iterator[Case]:
    name = limit.path[-1]
    yield _case(limit, "present", lambda parent: _fill(parent, _field(limit)))
    yield _case(limit, "absent", lambda parent: parent.ClearField(name), "nothing", "required")


def _name(limit: Declared) -> Iterator[Case]:
    name = limit.path[-1]
    yield _case(limit, "a name", lambda parent: setattr(parent, name, "a.B-c_9"))
    for bad in ("a/b", "-a", "a b", "é", "a\n"):
        change = lambda parent, bad=bad: setattr(parent, name, bad)  # noqa: E731
        yield _case(limit, repr(bad), change, bad, "[A-Za-z0-9][A-Za-z0-9._-]*")


def _one_required(limit: Declared) -> Iterator[Case]:
    oneof = limit.owner.oneofs_by_name[limit.path[-1]]
    for field in oneof.fields:
        yield _case(limit, field.name, lambda parent, field=field: _fill(parent, field))
    members = " | ".join(field.name for field in oneof.fields)
    yield _case(limit, "nothing", lambda parent: parent.ClearField(oneof.name), "nothing", members)


BUILDERS: dict[str, Callable[[Declared], Iterator[Case]]] = {
    "max": _max,
    "min": _min,
    "above": _above,
    "max_bytes": _max_bytes,
    "min_bytes": _min_bytes,
    "unit_bytes": _unit_bytes,
    "max_items": _max_items,
    "min_items": _min_items,
    "required": _required,
    "name": _name,
    ONE_REQUIRED: _one_required,
}
