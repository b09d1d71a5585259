"""Checks a message against the limits its own .proto declares (field option `limit`, oneof option `one_required`).

Doors call `check` on every request and clients may call it before sending, so that both refuse the same things with the
same words. Rules are compiled once for each message type; planes of bytes cost one length comparison whatever their size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from preceptor.errors import InvalidArgument, TooLarge
from preceptor_proto.v1 import limits_pb2

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor
    from google.protobuf.message import Message

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")

Rule = Callable[[Any, str], None]
"""Raises when the value, found at the given field path, breaks one limit."""


@dataclass(frozen=True, slots=True)
class FieldRules:
    """What to check in one field, and how to walk into it."""

    name: str
    repeated: bool
    is_message: bool
    has_presence: bool
    required: bool
    on_list: tuple[Rule, ...]
    on_value: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class MessageRules:
    fields: tuple[FieldRules, ...]
    required_oneofs: tuple[tuple[str, str], ...]


def check(message: Message, path: str = "") -> None:
    """Returns when every limit holds; otherwise raises `InvalidArgument` or `TooLarge` naming field, value and limit."""
    rules = _rules_of(message.DESCRIPTOR)
    for name, members in rules.required_oneofs:
        if message.WhichOneof(name) is None:
            where = path or "request"
            raise InvalidArgument(f"{where}: set one of {members}", field=_join(path, name), value="nothing", limit=members)
    for field in rules.fields:
        _check_field(message, field, _join(path, field.name))


def check_name(value: str, field: str) -> str:
    """The value itself when it is a name: letters, digits, dot, underscore, dash, not starting with a sign."""
    if not NAME.match(value):
        _refuse(field, value, "[A-Za-z0-9][A-Za-z0-9._-]*")
    return value


def _check_field(message: Message, field: FieldRules, path: str) -> None:
    value = getattr(message, field.name)
    if field.repeated:
        for rule in field.on_list:
            rule(value, path)
        _check_items(value, field, path)
        return
    present = message.HasField(field.name) if field.has_presence else bool(value)
    if not present:
        if field.required:
            raise InvalidArgument(f"{path} is missing", field=path, value="nothing", limit="required")
        if field.has_presence or not isinstance(value, int | float):
            return
    _check_one(value, field, path)


def _check_items(values: Iterable[Any], field: FieldRules, path: str) -> None:
    if field.is_message or field.on_value:
        for index, item in enumerate(values):
            _check_one(item, field, f"{path}[{index}]")


def _check_one(value: Any, field: FieldRules, path: str) -> None:
    if field.is_message:
        check(value, path)
        return
    for rule in field.on_value:
        rule(value, path)


@cache
def _rules_of(descriptor: Descriptor) -> MessageRules:
    compiled = (_field_rules(field) for field in descriptor.fields)
    oneofs = (o for o in descriptor.oneofs if _option(o, limits_pb2.one_required))
    return MessageRules(
        fields=tuple(rules for rules in compiled if _is_useful(rules)),
        required_oneofs=tuple((o.name, _members(o)) for o in oneofs),
    )


def _option(described: Any, extension: Any) -> Any:
    """The value of one of our options; the published type stubs do not know extensions of options."""
    return described.GetOptions().Extensions[extension]


def _is_useful(rules: FieldRules) -> bool:
    return bool(rules.is_message or rules.required or rules.on_list or rules.on_value)


def _members(oneof: OneofDescriptor) -> str:
    return " | ".join(field.name for field in oneof.fields)


def _field_rules(field: FieldDescriptor) -> FieldRules:
    limit: limits_pb2.Limit = _option(field, limits_pb2.limit)
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    return FieldRules(
        name=field.name,
        repeated=field.is_repeated,
        is_message=field.message_type is not None and not is_map,
        has_presence=field.has_presence,
        required=limit.required,
        on_list=tuple(_list_rules(limit)) if field.is_repeated else (),
        on_value=tuple(_value_rules(field, limit)),
    )


def _list_rules(limit: limits_pb2.Limit) -> Iterable[Rule]:
    if limit.HasField("min_items"):
        yield _at_least(limit.min_items, len, "items")
    if limit.HasField("max_items"):
        yield _at_most(limit.max_items, len, "items")


def _value_rules(field: FieldDescriptor, limit: limits_pb2.Limit) -> Iterable[Rule]:
    if field.cpp_type in {field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT} and (limit.ByteSize() > 0):
        yield _finite
    if limit.HasField("min"):
        yield _at_least(limit.min, _same, "")
    if limit.HasField("max"):
        yield _at_most(limit.max, _same, "")
    if limit.HasField("above"):
        yield _above(limit.above)
    if limit.HasField("max_bytes"):
        yield _at_most(limit.max_bytes, _byte_length, "bytes")
    if limit.HasField("min_bytes"):
        yield _at_least(limit.min_bytes, _byte_length, "bytes")
    if limit.HasField("unit_bytes"):
        yield _whole(limit.unit_bytes)
    if limit.name:
        yield _named


def _same(value: Any) -> Any:
    return value


def _byte_length(value: str | bytes) -> int:
    return len(value.encode()) if isinstance(value, str) else len(value)


def _at_least(least: float, measure: Callable[[Any], Any], unit: str) -> Rule:
    def rule(value: Any, path: str) -> None:
        if measure(value) < least:
            _refuse(path, _told(measure(value), unit), f">= {_told(least, unit)}")

    return rule


def _at_most(most: float, measure: Callable[[Any], Any], unit: str) -> Rule:
    def rule(value: Any, path: str) -> None:
        if measure(value) > most:
            _refuse(path, _told(measure(value), unit), f"<= {_told(most, unit)}", TooLarge if unit else InvalidArgument)

    return rule


def _above(bound: float) -> Rule:
    def rule(value: Any, path: str) -> None:
        if not value > bound:
            _refuse(path, _told(value, ""), f"> {_told(bound, '')}")

    return rule


def _whole(unit_bytes: int) -> Rule:
    def rule(value: bytes, path: str) -> None:
        if len(value) % unit_bytes:
            _refuse(path, f"{len(value)} bytes", f"a multiple of {unit_bytes} bytes")

    return rule


def _finite(value: float, path: str) -> None:
    if not math.isfinite(value):
        _refuse(path, str(value), "a finite number")


def _named(value: str, path: str) -> None:
    check_name(value, path)


def _told(number: float, unit: str) -> str:
    text = str(int(number)) if float(number).is_integer() else str(number)
    return f"{text} {unit}".rstrip()


def _refuse(path: str, value: str, limit: str, error: type[InvalidArgument] = InvalidArgument) -> None:
    raise error(f"{path} is {value}; the limit is {limit}", field=path, value=value, limit=limit)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
