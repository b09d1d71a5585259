"""Advances the open calls of an engine in turns, on one thread.

Plain calls take one turn. Streams (growing tasks, generation) take one turn a chunk, so that a long one delays a short
one by a chunk and not by its whole length.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from preceptor.error_details import detail_of
from preceptor.errors import Internal, PreceptorError, Unsupported
from preceptor_serving.engine_host.frames import Frame, Kind, split_name
from preceptor_serving.engines.protocol import Method

log = logging.getLogger("preceptor.engine")


def find_method(methods: Mapping[str, Method], name: str) -> Method:
    """The call of that name, or `Unsupported` with those there are."""
    if name not in methods:
        known = ", ".join(sorted(methods))
        raise Unsupported(f"this engine has no call {name!r}", field="method", value=name, limit=known)
    return methods[name]


def named_failure(error: Exception) -> PreceptorError:
    """A typed error is an answer; anything else is a defect of the engine, told in the log and survived."""
    if isinstance(error, PreceptorError):
        return error
    log.error("the engine raised", exc_info=error)
    return Internal(f"the engine raised {type(error).__name__}", hint="see the engine's log")


@dataclass
class Turns:
    """Frames come in through `put`, from any thread; `run` works until a STOP and answers through `send`."""

    methods: Mapping[str, Method]
    send: Callable[[Frame], None]
    _arrived: queue.SimpleQueue[Frame] = field(default_factory=queue.SimpleQueue)
    _open: dict[int, Iterator[bytes]] = field(default_factory=dict)
    _turn_began: float | None = None
    _stopping: bool = False

    def put(self, frame: Frame) -> None:
        self._arrived.put(frame)

    def turn_s(self) -> float:
        """How long the current turn has been running; 0 between turns. Read by the heartbeat's thread."""
        began = self._turn_began
        return 0.0 if began is None else time.monotonic() - began

    def run(self) -> None:
        """Returns after a STOP, once every open call is finished."""
        while self._open or not self._stopping:
            self._take_arrivals()
            for call in list(self._open):
                self._advance(call)

    def _take_arrivals(self) -> None:
        """Waits for a frame only while there is nothing else to do."""
        wait = not self._open
        while wait or not self._arrived.empty():
            self._take(self._arrived.get())
            wait = False

    def _take(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.CALL:
                self._begin(frame)
            case Kind.CANCEL:
                self._close(frame.call)
            case Kind.STOP:
                self._stopping = True
            case _:
                raise AssertionError(f"{frame.kind!r} is not for the engine's thread")

    def _begin(self, frame: Frame) -> None:
        name, request = split_name(frame.payload)
        try:
            self._open[frame.call] = find_method(self.methods, name)(request)
        except Exception as error:
            self._fail(frame.call, error)

    def _advance(self, call: int) -> None:
        self._turn_began = time.monotonic()
        try:
            self.send(Frame(Kind.REPLY, call, next(self._open[call])))
        except StopIteration:
            del self._open[call]
            self.send(Frame(Kind.DONE, call))
        except Exception as error:  # also a reply that no frame can hold: it fails its call, not the process
            self._close(call)
            self._fail(call, error)
        finally:
            self._turn_began = None

    def _fail(self, call: int, error: Exception) -> None:
        self.send(Frame(Kind.ERROR, call, detail_of(named_failure(error)).SerializeToString()))

    def _close(self, call: int) -> None:
        close = getattr(self._open.pop(call, None), "close", None)
        if close is not None:  # a generator; what it holds is given back now
            close()
