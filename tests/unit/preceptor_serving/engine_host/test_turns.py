"""Calls take turns on the engine's thread: streams interleave, failures stay with their call, a stop finishes what is open."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from preceptor.error_details import error_of
from preceptor.errors import InvalidArgument
from preceptor_proto.v1 import common_pb2
from preceptor_serving.engine_host import frames
from preceptor_serving.engine_host.frames import Frame, Kind, join_name
from preceptor_serving.engine_host.turns import Turns

CLOSED: list[bytes] = []


def count(request: bytes) -> Iterator[bytes]:
    try:
        for number in range(int(request)):
            yield b"%d" % number
    finally:
        CLOSED.append(request)


def fail(request: bytes) -> Iterator[bytes]:
    yield b"first"
    raise InvalidArgument("no", field="x") if request == b"typed" else RuntimeError("secret detail")


def eager(request: bytes) -> Iterator[bytes]:
    raise InvalidArgument("before the first turn", field="x")


def run(*arrived: Frame) -> list[Frame]:
    """Everything has arrived before the first turn; the answers in order."""
    sent: list[Frame] = []
    turns = Turns({"count": count, "fail": fail, "eager": eager}, sent.append)
    for frame in (*arrived, Frame(Kind.STOP)):
        turns.put(frame)
    turns.run()
    assert turns.turn_s() == 0.0
    return sent


def call(number: int, method: str, request: bytes) -> Frame:
    return Frame(Kind.CALL, number, join_name(method, request))


def test_streams_interleave_chunk_by_chunk() -> None:
    sent = run(call(1, "count", b"3"), call(2, "count", b"1"))
    told = [(frame.kind.name, frame.call, frame.payload) for frame in sent]
    assert told == [
        ("REPLY", 1, b"0"),
        ("REPLY", 2, b"0"),
        ("REPLY", 1, b"1"),
        ("DONE", 2, b""),
        ("REPLY", 1, b"2"),
        ("DONE", 1, b""),
    ]


def test_a_failure_ends_its_own_call_only_and_a_defect_keeps_its_details() -> None:
    sent = run(
        call(1, "fail", b"typed"),
        call(2, "fail", b"defect"),
        call(3, "nothing", b""),
        call(4, "eager", b""),
        call(5, "count", b"1"),
    )
    failed = [frame for frame in sent if frame.kind is Kind.ERROR]
    errors = {frame.call: error_of(common_pb2.ErrorDetail.FromString(frame.payload)) for frame in failed}
    assert {number: error.code.value for number, error in errors.items()} == {
        1: "INVALID_ARGUMENT",
        2: "INTERNAL",
        3: "UNSUPPORTED",
        4: "INVALID_ARGUMENT",
    }
    assert "secret detail" not in errors[2].message
    assert errors[3].limit == "count, eager, fail"
    assert [frame.kind for frame in sent if frame.call == 5] == [Kind.REPLY, Kind.DONE]


def test_a_cancelled_stream_is_closed_and_says_nothing_more() -> None:
    CLOSED.clear()
    assert run(call(1, "count", b"5"), Frame(Kind.CANCEL, 1), Frame(Kind.CANCEL, 77)) == []
    sent = run(call(1, "count", b"2"))
    assert sent[-1] == Frame(Kind.DONE, 1)
    assert CLOSED == [b"2"]  # a generator that never ran has nothing to give back


def test_a_reply_that_no_frame_can_hold_fails_its_call_and_not_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_PAYLOAD_BYTES", 200)
    sent: list[Frame] = []

    def send(frame: Frame) -> None:
        frame.to_bytes()
        sent.append(frame)

    turns = Turns({"huge": lambda _: iter([bytes(201), b"more"]), "count": count}, send)
    for frame in (call(1, "huge", b""), call(2, "count", b"1"), Frame(Kind.STOP)):
        turns.put(frame)
    turns.run()
    failed = error_of(common_pb2.ErrorDetail.FromString(sent[0].payload))
    assert (failed.code.value, failed.value, failed.limit) == ("TOO_LARGE", "201", "200")
    assert [(frame.kind, frame.call) for frame in sent] == [(Kind.ERROR, 1), (Kind.REPLY, 2), (Kind.DONE, 2)]
