"""JSON by pieces: the same value as `json.dumps` would send, whole or streamed, and nothing waits for it."""

from __future__ import annotations

import json
import threading
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import StreamingResponse

from preceptor_serving.doors.rest_pieces import BLOCK_CHARS, Pieces, json_pieces, json_reply

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)


def with_pieces(value: Any, depth: int = 0) -> Any:
    """The same value with every other level made when it is asked for."""
    if isinstance(value, dict):
        changed: Any = {key: with_pieces(inner, depth + 1) for key, inner in value.items()}
    elif isinstance(value, list):
        changed = [with_pieces(inner, depth + 1) for inner in value]
    else:
        changed = value
    return Pieces(list(json_pieces(changed))) if depth % 2 else changed


@given(VALUES)
def test_pieces_join_to_the_value(value):
    assert json.loads("".join(json_pieces(with_pieces(value)))) == value


async def body_of(reply: Any) -> bytes:
    if not isinstance(reply, StreamingResponse):
        return bytes(reply.body)
    return b"".join([bytes(block) async for block in reply.body_iterator])  # pyright: ignore


async def test_small_replies_have_a_length_and_long_ones_are_streamed_in_bounded_blocks():
    for count, streamed in ((3, False), (BLOCK_CHARS // 8, True)):
        numbers = [1000000 + one for one in range(count)]
        text = ("[", *(f"{',' if at else ''}{one}" for at, one in enumerate(numbers)), "]")
        reply = await json_reply({"numbers": Pieces(text), "after": 1})
        assert isinstance(reply, StreamingResponse) is streamed
        assert json.loads(await body_of(reply)) == {"numbers": numbers, "after": 1}


async def test_the_text_is_made_on_another_thread_and_only_when_it_is_asked_for():
    made_on: list[int] = []

    def text():
        for at in range(3 * BLOCK_CHARS // 1000):
            made_on.append(threading.get_ident())
            yield f"{'[' if at == 0 else ','}{'1' * 1000}"
        yield "]"

    reply = await json_reply(Pieces(text()))
    before = len(made_on)
    assert before < BLOCK_CHARS // 1000 + 2, "one block is made ahead"
    await body_of(reply)
    assert len(made_on) > before
    assert threading.get_ident() not in made_on
