"""One life of an engine's process, seen from the parent: from spawn to a named end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, Coroutine, Mapping
from typing import Any

from preceptor.error_details import error_of
from preceptor.errors import Corrupt, EngineFailed, PreceptorError
from preceptor.logs import get_logger
from preceptor_proto.v1 import common_pb2
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engine_host.child_logs import forward_lines
from preceptor_serving.engine_host.frames import PROGRESS, Frame, Kind, join_name, read_frame
from preceptor_serving.engine_host.kept_memory import KEPT_MEMORY
from preceptor_serving.engine_host.policy import HostPolicy

CHILD = "preceptor_serving.engine_host.child"
READ_AHEAD_BYTES = 4 << 20
KILL_WAIT_S = 10.0  # for the kernel to take a killed process down
LAST_LINES_S = 1.0  # for what a dying child wrote last; its own children may hold its output open
log = get_logger("preceptor.engine_host")

Answer = Frame | PreceptorError


class EngineProcess:
    """Open calls by number, a reader, a heartbeat. `ended` is done when the process is gone, and says why."""

    def __init__(self, spec: EngineSpec, policy: HostPolicy, process: asyncio.subprocess.Process, streams: Streams) -> None:
        self._spec, self._policy, self._process = spec, policy, process
        self._reader, self._writer = streams
        self._numbers = itertools.count(1)
        self._calls: dict[int, asyncio.Queue[Answer]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._logs = asyncio.create_task(forward_lines(process, spec.name), name=f"engine-{spec.name}-logs")
        self.heard_at = time.monotonic()
        self._blame = ""
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @classmethod
    async def spawn(cls, spec: EngineSpec, policy: HostPolicy) -> EngineProcess:
        """A process whose engine is loaded; raises the engine's own error where it could not be."""
        process, streams = await _spawn_child(spec.environ)
        life = cls(spec, policy, process, streams)
        try:
            async with asyncio.timeout(policy.start_timeout_s):
                await life._load()
        except TimeoutError:
            await life._give_up()
            raise EngineFailed(f"engine {spec.name} was not loaded within {policy.start_timeout_s:g} s") from None
        except BaseException:
            await life._give_up()
            raise
        life._run(life._read(), "reader")
        life._run(life._watch(), "heartbeat")
        return life

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def open_calls(self) -> int:
        return len(self._calls)

    async def stream(self, method: str, request: bytes) -> AsyncGenerator[bytes]:
        """Replies as they come. A caller that stops listening cancels the call in the engine."""
        number, answers = next(self._numbers), asyncio.Queue[Answer]()
        self._refuse_after_end()
        self._calls[number] = answers
        try:
            await self._send(Frame(Kind.CALL, number, join_name(method, request)))
            while (chunk := _chunk(await answers.get())) is not None:
                yield chunk
        finally:
            if self._calls.pop(number, None) is not None and not self.ended.done():
                self._writer.write(Frame(Kind.CANCEL, number).to_bytes())

    async def stop(self) -> None:
        """Lets open calls finish, closes the engine; what is left after the grace is killed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._policy.stop_grace_s):
                await self._send(Frame(Kind.STOP))
                await asyncio.shield(self.ended)
        self.kill("did not stop within its grace")
        await asyncio.wait({self.ended}, timeout=KILL_WAIT_S)

    def kill(self, blame: str) -> None:
        """Ends the process and whatever it started; nothing happens where it has ended already."""
        if not self.ended.done():
            self._blame = self._blame or blame
            _kill_group(self._process.pid)

    async def _load(self) -> None:
        start = json.dumps({"engine": self._spec.engine, "options": dict(self._spec.options)}).encode()
        await self._send(Frame(Kind.START, payload=start))
        frame = await read_frame(self._reader)
        if frame is None:
            raise EngineFailed(f"engine {self._spec.name} {_how(await self._process.wait())} while it was loading")
        if frame.kind is Kind.ERROR:
            raise _error_in(frame)
        if frame.kind is not Kind.READY:
            raise Corrupt("the engine's process did not say READY", field="kind", value=frame.kind.name)
        self.heard_at = time.monotonic()

    async def _read(self) -> None:
        """Hands frames to their calls until the process is gone; then fails whoever still waits."""
        try:
            while (frame := await read_frame(self._reader)) is not None:
                self.heard_at = time.monotonic()
                self._hand_over(frame)
        except Exception as error:  # whatever it is, callers wait for this loop: they must hear of its end
            self.kill(f"broke the protocol: {error}")
        await self._end()

    def _hand_over(self, frame: Frame) -> None:
        if frame.kind is Kind.PONG:
            (turn_s,) = PROGRESS.unpack(frame.payload)
            if turn_s > self._policy.turn_limit_s:
                self.kill(f"hung: one call ran for more than {self._policy.turn_limit_s:g} s")
        elif (answers := self._calls.get(frame.call)) is not None:
            if frame.kind is not Kind.REPLY:
                del self._calls[frame.call]
            answers.put_nowait(frame)

    async def _watch(self) -> None:
        """Heartbeats; a process that answers none of them for too long is killed."""
        while not self.ended.done():
            with contextlib.suppress(ConnectionError):
                await self._send(Frame(Kind.PING))
            await asyncio.sleep(self._policy.heartbeat_s)
            if time.monotonic() - self.heard_at > self._policy.heartbeat_timeout_s:
                self.kill(f"answered no heartbeat for {self._policy.heartbeat_timeout_s:g} s")
                return

    async def _give_up(self) -> None:
        """On an engine that never got ready."""
        _kill_group(self._process.pid)
        await self._take_down()

    async def _end(self) -> None:
        code = await self._take_down()
        why = self._blame or _how(code)
        self.ended.set_result(why)
        for answers in self._calls.values():
            answers.put_nowait(self._failure(why))
        self._calls.clear()

    async def _take_down(self) -> int:
        """Makes sure that the process, its children and its socket are gone; the exit code."""
        self._writer.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._policy.stop_grace_s):
                await self._process.wait()
        _kill_group(self._process.pid)
        code = await self._process.wait()
        await asyncio.wait({self._logs}, timeout=LAST_LINES_S)
        for task in (self._logs, *self._tasks):
            if task is not asyncio.current_task():
                task.cancel()
        return code

    def _refuse_after_end(self) -> None:
        if self.ended.done():
            raise self._failure(self.ended.result())

    def _failure(self, why: str) -> EngineFailed:
        pause_s = self._policy.backoff_first_s
        return EngineFailed(f"engine {self._spec.name} {why}", hint="it is being restarted; try again", retry_after_s=pause_s)

    async def _send(self, frame: Frame) -> None:
        self._writer.write(frame.to_bytes())
        with contextlib.suppress(ConnectionError):  # the reader notices the end and tells every caller
            await self._writer.drain()

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(work, name=f"engine-{self._spec.name}-{name}"))


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _spawn_child(environ: Mapping[str, str]) -> tuple[asyncio.subprocess.Process, Streams]:
    """A child in a session of its own, so that Ctrl-C on a terminal reaches the parent alone and drains in order."""
    ours, theirs = socket.socketpair()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", CHILD, str(theirs.fileno()), str(os.getpid())),
            pass_fds=(theirs.fileno(),),
            env={**KEPT_MEMORY, **os.environ, **environ},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    finally:
        theirs.close()
    return process, await asyncio.open_connection(sock=ours, limit=READ_AHEAD_BYTES)


def _chunk(answer: Answer) -> bytes | None:
    """One chunk of a reply; None at its end."""
    if isinstance(answer, PreceptorError):
        raise answer
    if answer.kind is Kind.ERROR:
        raise _error_in(answer)
    return None if answer.kind is Kind.DONE else answer.payload


def _error_in(frame: Frame) -> PreceptorError:
    return error_of(common_pb2.ErrorDetail.FromString(frame.payload))


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _how(code: int) -> str:
    """An exit code in words."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
