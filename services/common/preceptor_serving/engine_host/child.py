"""The engine's process: `python -m preceptor_serving.engine_host.child FD PARENT_PID`.

It lives exactly as long as its parent wants it: it ends when the socket does, and on Linux the kernel kills it when the
parent dies, even while the engine holds the interpreter.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import signal
import socket
import sys
import threading
from typing import Any

from preceptor.error_details import detail_of
from preceptor.errors import Internal, PreceptorError
from preceptor_serving.engine_host.frames import PROGRESS, Frame, Kind, receive_frame
from preceptor_serving.engine_host.log_lines import send_logs_to
from preceptor_serving.engine_host.methods import methods_of
from preceptor_serving.engine_host.turns import Turns
from preceptor_serving.engines.protocol import Engine
from preceptor_serving.engines.registry import create_engine

PR_SET_PDEATHSIG = 1
EXIT_FAILED_TO_LOAD = 3
log = logging.getLogger("preceptor.engine")


class Connection:
    """The child's end of the socket: whole frames, written by either thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._writing = threading.Lock()

    def receive(self) -> Frame | None:
        return receive_frame(self._socket)

    def send(self, frame: Frame) -> None:
        """A parent that has gone is noticed by the reader; nothing is left to tell it."""
        with self._writing, contextlib.suppress(ConnectionError):
            self._socket.sendall(frame.to_bytes())


def main(arguments: list[str]) -> int:
    fd, parent_pid = (int(argument) for argument in arguments)
    _die_with(parent_pid)
    send_logs_to(sys.stderr)
    connection = Connection(socket.socket(fileno=fd))
    start = connection.receive()
    if start is None:
        return 0
    engine = _load(json.loads(start.payload), connection)
    if engine is None:
        return EXIT_FAILED_TO_LOAD
    turns = Turns(methods_of(engine), connection.send)
    threading.Thread(target=_read, args=(connection, turns), name="reader", daemon=True).start()
    connection.send(Frame(Kind.READY))
    turns.run()
    engine.close()
    return 0


def _load(start: dict[str, Any], connection: Connection) -> Engine | None:
    """The engine; its failure to load is told to the parent as the error it is."""
    try:
        return create_engine(start["engine"], start["options"])
    except Exception as error:
        log.error("the engine cannot be loaded", exc_info=error)
        named = error if isinstance(error, PreceptorError) else Internal(f"{type(error).__name__}: {error}")
        connection.send(Frame(Kind.ERROR, 0, detail_of(named).SerializeToString()))
        return None


def _read(connection: Connection, turns: Turns) -> None:
    """Answers heartbeats whatever the engine does, hands on the rest, and ends the process with the socket."""
    while (frame := connection.receive()) is not None:
        if frame.kind is Kind.PING:
            connection.send(Frame(Kind.PONG, payload=PROGRESS.pack(turns.turn_s())))
        else:
            turns.put(frame)
    os._exit(0)


def _die_with(parent_pid: int) -> None:
    """Asks the kernel for a SIGKILL when the parent dies; the parent may have died before that."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:
            os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
