from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor
LIMIT_FIELD_NUMBER: _ClassVar[int]
limit: _descriptor.FieldDescriptor
ONE_REQUIRED_FIELD_NUMBER: _ClassVar[int]
one_required: _descriptor.FieldDescriptor

class Limit(_message.Message):
    __slots__ = ("min", "max", "above", "min_bytes", "max_bytes", "unit_bytes", "min_items", "max_items", "required", "name")
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    ABOVE_FIELD_NUMBER: _ClassVar[int]
    MIN_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    UNIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MIN_ITEMS_FIELD_NUMBER: _ClassVar[int]
    MAX_ITEMS_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    min: float
    max: float
    above: float
    min_bytes: int
    max_bytes: int
    unit_bytes: int
    min_items: int
    max_items: int
    required: bool
    name: bool
    def __init__(self, min: _Optional[float] = ..., max: _Optional[float] = ..., above: _Optional[float] = ..., min_bytes: _Optional[int] = ..., max_bytes: _Optional[int] = ..., unit_bytes: _Optional[int] = ..., min_items: _Optional[int] = ..., max_items: _Optional[int] = ..., required: bool = ..., name: bool = ...) -> None: ...
