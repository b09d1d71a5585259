"""The side of `child` that asks: starts it when it is needed, waits so long, and kills what takes longer."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preceptor.errors import EngineFailed, MissingExtra

CHILD = Path(__file__).with_name("child.py")
START_S = 60.0  # sympy is slow to import on a busy machine
MOST_LINE_BYTES = 1 << 16  # of an answer
STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found out. `same` is None where the reference is no mathematics."""

    same: bool | None
    in_time: bool = True


class MathProcess:
    """One child, used by one question at a time."""

    def __init__(self) -> None:
        self._child: Process | None = None
        self._turn = asyncio.Lock()

    async def compare(self, reference: str, response: str, within_s: float) -> Answer:
        """Whether the last answer in the response is the reference."""
        async with self._turn:
            child = await self._started()
            try:
                return await asyncio.wait_for(self._asked(child, reference, response), within_s)
            except TimeoutError:
                await self._kill()
                return Answer(same=False, in_time=False)
            except BaseException:
                await self._kill()  # its answer would be read as that to the next question
                raise

    async def close(self) -> None:
        await self._kill()

    async def _started(self) -> Process:
        if self._child is not None and self._child.returncode is None:
            return self._child
        if importlib.util.find_spec("math_verify") is None:
            raise MissingExtra("grader math_verify needs math-verify", hint="pip install 'preceptor[math]'")
        self._child = await asyncio.create_subprocess_exec(
            sys.executable, "-I", str(CHILD), stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env={}, limit=MOST_LINE_BYTES
        )
        try:
            await asyncio.wait_for(_line(self._child), START_S)
        except TimeoutError:
            await self._kill()
            raise EngineFailed("the process that reads mathematics did not start", field="grader", value="math_verify") from None
        except BaseException:
            await self._kill()  # what it says when it is ready would be read as an answer
            raise
        return self._child

    async def _asked(self, child: Process, reference: str, response: str) -> Answer:
        assert child.stdin is not None
        child.stdin.write(json.dumps({"reference": reference, "response": response}).encode() + b"\n")
        await child.stdin.drain()
        said = await _line(child)
        return Answer(said["same"])

    async def _kill(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if child.returncode is None:
            child.kill()
        await asyncio.wait_for(child.wait(), STOP_S)


async def _line(child: Process) -> dict[str, Any]:
    assert child.stdout is not None
    line = await child.stdout.readline()
    if not line:
        raise EngineFailed("the process that reads mathematics died", field="grader", value="math_verify")
    return json.loads(line)
