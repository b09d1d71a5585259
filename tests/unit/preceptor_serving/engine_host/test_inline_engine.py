"""An engine in a thread behaves as one in a process: whoever leaves gives back what his call holds."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import aclosing

from preceptor_serving.engine_host.inline import InlineEngine
from preceptor_serving.engines.fake import FakeEngine
from preceptor_serving.engines.fake.options import FakeOptions
from preceptor_serving.engines.protocol import Method


class Growing(FakeEngine):
    """An engine whose streams hold something until they are closed."""

    def __init__(self) -> None:
        super().__init__(FakeOptions())
        self.closed_on: list[str] = []

    def methods(self) -> Mapping[str, Method]:
        return {"grow": self._grow}

    def _grow(self, request: bytes) -> Iterator[bytes]:
        try:
            while True:
                yield b"row"
        finally:
            self.closed_on.append(threading.current_thread().name)


async def test_a_stream_that_its_caller_left_is_closed_on_the_engines_thread() -> None:
    engine = Growing()
    inline = InlineEngine(lambda: engine)
    await inline.start()
    async with aclosing(inline.stream("grow", b"", timeout_s=30)) as replies:
        assert await anext(replies) == b"row"
    await inline.call("describe", b"", timeout_s=30)  # a turn after it: one thread takes them in order
    assert engine.closed_on == ["engine_0"]
    await inline.stop()
