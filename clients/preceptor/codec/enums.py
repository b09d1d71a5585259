"""Closed sets that decide how bytes are read. Their numbers are the protocol's; people write their names in lower case."""

from __future__ import annotations

from enum import IntEnum


class WireEnum(IntEnum):
    """A number on the wire, a lower-case name for people: `Grade(1)`, `Grade("f16")` and `str(Grade.F16)` go together."""

    def __str__(self) -> str:
        return self.name.lower()

    def __format__(self, format_spec: str) -> str:
        return format(str(self), format_spec)

    @classmethod
    def _missing_(cls, value: object) -> WireEnum | None:
        return cls.__members__.get(value.upper()) if isinstance(value, str) else None


class Grade(WireEnum):
    """How lists of log-probabilities travel: bytes an entry against nats of error."""

    F32 = 0
    """4 bytes, exact."""
    F16 = 1
    """2 bytes, |error| <= max(2^-11 |x|, 2^-25)."""
    U8 = 2
    """1 byte, |error| <= 0.05 nats within 24 nats of the row's best entry."""


class HiddenDtype(WireEnum):
    """How hidden states travel. Number 0 is "unspecified" in the protocol and never valid."""

    F32 = 1
    F16 = 2
    BF16 = 3


class Validity(WireEnum):
    """Why a row has values, or why it has none. Values of rows that are not OK are NaN."""

    OK = 0
    MASKED = 1
    MISSING = 2
    MISSING_CAP = 3
    MISSING_PROVIDER = 4
    MISSING_DISABLED = 5
