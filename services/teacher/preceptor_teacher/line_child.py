"""A process of its own that answers JSON lines with JSON lines: started when it is needed, killed when it takes too long."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format

from preceptor.error_details import detail_of, error_of
from preceptor.errors import EngineFailed, PreceptorError
from preceptor_proto.v1 import common_pb2

ERROR = "error"
MOST_LINE_BYTES = 1 << 20  # of an answer
STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class Program:
    """What is run, and what it may know of this process. It says one line when it is ready."""

    name: str  # as errors call it
    command: Sequence[str]
    environ: Mapping[str, str]
    start_s: float
    tells_stderr: bool = False  # what it writes there goes where ours goes


class LineChild:
    """One child, used by one question at a time."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._child: Process | None = None
        self._turn = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self._child.pid if self._child is not None else None

    async def ask(self, question: Mapping[str, Any], within_s: float) -> dict[str, Any]:
        """What it answers. `TimeoutError`: it took longer, and was killed; the next question starts another."""
        async with self._turn:
            child = await self._started()
            try:
                return await asyncio.wait_for(self._asked(child, question), within_s)
            except PreceptorError:
                raise
            except BaseException:
                await self._kill()  # its answer would be read as that to the next question
                raise

    async def close(self) -> None:
        await self._kill()

    async def _started(self) -> Process:
        if self._child is not None and self._child.returncode is None:
            return self._child
        self._child = await asyncio.create_subprocess_exec(
            *self._program.command, stdin=PIPE, stdout=PIPE, stderr=None if self._program.tells_stderr else DEVNULL,
            env=self._program.environ, limit=MOST_LINE_BYTES,
        )  # fmt: skip
        try:
            await asyncio.wait_for(self._line(self._child), self._program.start_s)
        except TimeoutError:
            await self._kill()
            raise EngineFailed(f"{self._program.name} did not start", field="grader", value=self._program.name) from None
        except BaseException:
            await self._kill()  # what it says when it is ready would be read as an answer
            raise
        return self._child

    async def _asked(self, child: Process, question: Mapping[str, Any]) -> dict[str, Any]:
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps(question).encode() + b"\n")
            await child.stdin.drain()
        except ConnectionError:
            await self._kill()
            raise self._died() from None
        return await self._line(child)

    async def _line(self, child: Process) -> dict[str, Any]:
        assert child.stdout is not None
        line = await child.stdout.readline()
        if not line:
            await self._kill()
            raise self._died()
        said = json.loads(line)
        if ERROR in said:
            raise error_of(json_format.ParseDict(said[ERROR], common_pb2.ErrorDetail()))
        return said

    def _died(self) -> EngineFailed:
        return EngineFailed(f"{self._program.name} died", field="grader", value=self._program.name)

    async def _kill(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if child.returncode is None:
            child.kill()
        await asyncio.wait_for(child.wait(), STOP_S)


def error_line(error: PreceptorError) -> dict[str, Any]:
    """What a child answers that cannot do what it was asked."""
    return {ERROR: json_format.MessageToDict(detail_of(error))}
