"""Generated messages: nearly valid ones, hostile ones, and bytes that are no message at all. Everything follows from one rng."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

INTEGERS = (0, 1, 2, 3, 7, 63, 64, 255, 4096, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1, -1, -(2**31), -(2**63))
FLOATS = (0.0, -0.0, 0.5, 1.0, -1.0, 1e-300, 1e300, 3.4e38, float("nan"), float("inf"), float("-inf"))
NESTED = '{"a":' * 30
TEXTS = (
    NESTED,
    "",
    "fake",
    "tiny",
    "judge",
    "verbal",
    "run-1",
    "a" * 129,
    "../../etc",
    "a/b",
    "{x}",
    "é" * 70,
    "\x00",
    " ",
    "{}",
    "[]",
    '{"a":' * 30,
)
MAX_DEPTH = 6
BOUNDS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-1, 2**31 - 1),
}


def random_message(kind: type[Message], rng: random.Random, depth: int = 0) -> Message:
    """Any message that protobuf admits: each field is there with an even chance."""
    message = kind()
    for field in kind.DESCRIPTOR.fields:
        if rng.random() < 0.5 and depth < MAX_DEPTH:
            put(message, field, rng, depth)
    return message


def mutated(message: Message, rng: random.Random) -> Message:
    """The message with one to three of its fields, at any depth, replaced, cleared, repeated or added."""
    copy = type(message)()
    copy.CopyFrom(message)
    for _ in range(rng.randint(1, 3)):
        target = rng.choice(list(_inside(copy)))
        field = rng.choice(target.DESCRIPTOR.fields) if target.DESCRIPTOR.fields else None
        if field is None:
            continue
        if rng.random() < 0.25:
            target.ClearField(field.name)
        else:
            put(target, field, rng, MAX_DEPTH - 2)
    return copy


def mangled(raw: bytes, rng: random.Random) -> bytes:
    """The bytes with some of them turned, cut out, doubled, or cut off."""
    data = bytearray(raw)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(data) + 1)
        change: Callable[[], None] = rng.choice(
            [
                lambda at=at: data.__setitem__(slice(at, at + 1), bytes([rng.randrange(256)])),
                lambda at=at: data.__delitem__(slice(at, at + rng.randint(1, 9))),
                lambda at=at: data.__setitem__(slice(at, at), rng.randbytes(rng.randint(1, 9))),
                lambda at=at: data.__setitem__(slice(at, at), data[at : at + rng.randint(1, 40)]),
                lambda at=at: data.__delitem__(slice(at, None)),
            ]
        )
        change()
    return bytes(data)


def put(message: Message, field: FieldDescriptor, rng: random.Random, depth: int) -> None:
    """Some value in the field; several where it is repeated."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return
    if field.is_repeated:
        for _ in range(rng.choice((0, 1, 1, 2, 5))):
            _append(getattr(message, field.name), field, rng, depth)
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(random_message(GetMessageClass(field.message_type), rng, depth + 1))
    else:
        setattr(message, field.name, _scalar(field, rng))


def _append(values: Any, field: FieldDescriptor, rng: random.Random, depth: int) -> None:
    if field.message_type is not None:
        values.add().CopyFrom(random_message(GetMessageClass(field.message_type), rng, depth + 1))
    else:
        values.append(_scalar(field, rng))


def _scalar(field: FieldDescriptor, rng: random.Random) -> Any:
    kind = field.cpp_type
    if kind in BOUNDS:
        low, high = BOUNDS[kind]
        return rng.choice([value for value in INTEGERS if low <= value <= high])
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return rng.choice(FLOATS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rng.randbytes(rng.choice((0, 1, 2, 3, 4, 8, 12, 32, 400)))
    return rng.choice(TEXTS)


def _inside(message: Message) -> list[Message]:
    """The message and all messages that are set in it."""
    found = [message]
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for one in value if field.is_repeated else [value]:
            found += _inside(one)
    return found
