"""Frames between the two processes: what goes in comes out, and nonsense is refused before it is believed."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor.errors import Corrupt
from preceptor_serving.engine_host.frames import (
    HEADER,
    MAX_PAYLOAD_BYTES,
    Frame,
    Kind,
    join_name,
    read_frame,
    receive_frame,
    split_name,
)
from preceptor_serving.engine_host.log_lines import SEPARATOR, parse_line

frames = st.builds(Frame, st.sampled_from(Kind), st.integers(0, 2**64 - 1), st.binary(max_size=300))


async def read_all(data: bytes) -> list[Frame]:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    found = []
    while (frame := await read_frame(reader)) is not None:
        found.append(frame)
    return found


@given(st.lists(frames, max_size=5), st.integers(1, 16))
def test_both_readers_give_what_was_written_and_stop_at_a_torn_end(written: list[Frame], torn_bytes: int) -> None:
    data = b"".join(frame.to_bytes() for frame in written)
    torn = data + HEADER.pack(500, Kind.REPLY, 1)[:torn_bytes]
    assert asyncio.run(read_all(torn)) == written
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(torn)
        ours.shutdown(socket.SHUT_WR)
        assert [receive_frame(theirs) for _ in written] == written
        assert receive_frame(theirs) is None


@pytest.mark.parametrize("header", [HEADER.pack(0, 0, 0), HEADER.pack(0, 99, 0), HEADER.pack(MAX_PAYLOAD_BYTES + 1, 4, 1)])
def test_a_header_that_cannot_be_is_refused_before_anything_is_allocated(header: bytes) -> None:
    with pytest.raises(Corrupt):
        asyncio.run(read_all(header))


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), st.binary())
def test_a_name_and_the_rest_stay_apart(name: str, rest: bytes) -> None:
    assert split_name(join_name(name, rest)) == (name, rest)


@pytest.mark.parametrize("line", ["Fatal Python error: x", SEPARATOR + '{"level": 30', ""])
def test_what_is_no_log_record_is_told_as_it_is(line: str) -> None:
    assert parse_line(line)[2] == line
