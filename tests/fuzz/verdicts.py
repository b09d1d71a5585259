"""What an answer may be, and the list of those that may not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from google.protobuf.message import Message

from preceptor_proto.v1 import common_pb2

FORBIDDEN = frozenset({"INTERNAL", "UNKNOWN", "ENGINE_FAILED", "UNAVAILABLE", "CORRUPT", "HANG", "CRASH"})
"""Codes that nothing a caller sends may lead to: the fault would be ours, or lasting."""
NAMELESS = frozenset({"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED"})
"""Refusals that are about the moment and not about a field."""


@dataclass(frozen=True)
class Answer:
    """One outcome: OK, or a code with the field that it names."""

    code: str
    field: str = ""
    message: str = ""

    @property
    def complaint(self) -> str:
        """Why it may not be; empty where it may."""
        if self.code in FORBIDDEN and not (self.code == "UNAVAILABLE" and self.field):
            return f"{self.code}: {self.message}"
        if self.code != "OK" and self.code not in NAMELESS and not self.field:
            return f"{self.code} names no field: {self.message}"
        return ""


@dataclass(frozen=True)
class Finding:
    """An answer that may not be, and how to ask again."""

    door: str
    what: str
    case: int
    complaint: str
    request: str

    def told(self) -> dict[str, object]:
        return asdict(self)


def inner_errors(reply: Message) -> Iterator[Answer]:
    """Errors of single items inside a reply that is fine as a whole."""
    for field, value in reply.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for one in value if field.is_repeated else [value]:
            if isinstance(one, common_pb2.ErrorDetail):
                yield Answer(common_pb2.ErrorCode.Name(one.code), one.field, one.message)
            else:
                yield from inner_errors(one)
