"""Bytes that claim to be columns, rows and other parts of messages: each is read, or refused by name."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from google.protobuf.message import DecodeError, Message

from preceptor import codec, wire
from preceptor.errors import Internal, PreceptorError
from preceptor.types import Grade, IdLogprobs, ModelInfo, RaggedLogprobs, Receipt, Rows
from preceptor_proto.v1 import common_pb2, teacher_pb2
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from tests.fuzz.messages import mangled, mutated, random_message
from tests.fuzz.seeds import seeds
from tests.fuzz.verdicts import Finding

INFO: ModelInfo = FakeEngine(FakeOptions()).describe()[0]


def _rows(grade: Grade) -> Message:
    rng = np.random.default_rng(1)
    values = -rng.random((3, 4)).astype(np.float32)
    ids = np.sort(rng.integers(0, 60, (3, 4)).astype(np.uint32), axis=1)
    ragged = RaggedLogprobs(np.array([0, 1, 1, 4], np.uint32), -rng.random(4).astype(np.float32))
    column = -rng.random(3).astype(np.float32)
    rows = Rows(0, np.zeros(3, np.uint8), column, column, column, IdLogprobs(ids, -np.sort(-values, axis=1)), ragged)
    return wire.rows_to_proto(rows, grade, 64)[0]


READERS: dict[str, tuple[Callable[[], Message], Callable[[Message], object]]] = {
    **{f"Rows {grade.name}": (lambda grade=grade: _rows(grade), wire.rows_from_proto) for grade in Grade},
    "Sequence": (lambda: seeds()["Teacher.Score"][0].items[0].sequence, wire.sequence_from_proto),
    "Want": (lambda: seeds()["Teacher.Score"][0].items[1].want, wire.want_from_proto),
    "ModelInfo": (lambda: wire.model_info_to_proto(INFO), wire.model_info_from_proto),
    "Receipt": (lambda: wire.receipt_to_proto(Receipt.of(INFO)), wire.receipt_from_proto),
    "Verdict": (lambda: teacher_pb2.Verdict(reward=0.5), wire.verdict_from_proto),
    "Behaviour": (lambda: common_pb2.Behaviour(versions_u32le=bytes(12)), lambda one: wire.behaviour_from_proto(one, 3)),
}
"""What is read -> (a good one, its reader)."""


class CodecFuzz:
    """Cases by number."""

    door = "codec"

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.names = [*READERS, "columns"]

    async def close(self) -> None:
        """Nothing is open."""

    async def case(self, number: int) -> tuple[str, list[Finding]]:
        rng = random.Random(f"{self._seed}/{number}")
        name = self.names[number % len(self.names)]
        if name == "columns":
            raw = rng.randbytes(rng.choice((0, 1, 4, 12, 13, 300)))
            return name, _found(name, number, raw, lambda: _columns(raw, rng))
        make, read = READERS[name]
        good = make()
        how = rng.choice((mutated, lambda one, rng: random_message(type(one), rng), None))
        raw = how(good, rng).SerializeToString() if how else mangled(good.SerializeToString(), rng)
        return name, _found(name, number, raw, lambda: read(type(good).FromString(raw)))


def _columns(raw: bytes, rng: random.Random) -> None:
    rows = rng.choice((0, 1, 3, 75, -1, 2**31))
    for read in (codec.decode_column, codec.decode_validity, codec.decode_offsets):
        try:
            read(raw, rows)
        except PreceptorError as error:
            if isinstance(error, Internal) or not error.field:
                raise


def _found(name: str, number: int, raw: bytes, read: Callable[[], object]) -> list[Finding]:
    try:
        read()
    except DecodeError:
        return []
    except PreceptorError as error:
        complaint = "" if error.field and not isinstance(error, Internal) else f"{error.code} names no field: {error.message}"
    except Exception as error:
        complaint = f"CRASH: {type(error).__name__}: {error}"
    else:
        return []
    return [Finding("codec", name, number, complaint, raw.hex())] if complaint else []
