"""The side of `child` that asks: waits so long, and takes what lasts longer for no answer."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from preceptor.errors import MissingExtra
from preceptor_teacher.line_child import LineChild, Program

CHILD = Path(__file__).with_name("child.py")
START_S = 60.0  # sympy is slow to import on a busy machine
PROGRAM = Program("the process that reads mathematics", (sys.executable, "-I", str(CHILD)), {}, START_S)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found out. `same` is None where the reference is no mathematics."""

    same: bool | None
    in_time: bool = True


class MathProcess:
    """One child, used by one question at a time."""

    def __init__(self) -> None:
        self._child = LineChild(PROGRAM)

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self._child.pid

    async def compare(self, reference: str, response: str, within_s: float) -> Answer:
        """Whether the last answer in the response is the reference."""
        if importlib.util.find_spec("math_verify") is None:
            raise MissingExtra("grader math_verify needs math-verify", hint="pip install 'preceptor[math]'")
        try:
            said = await self._child.ask({"reference": reference, "response": response}, within_s)
        except TimeoutError:
            return Answer(same=False, in_time=False)
        return Answer(said["same"])

    async def close(self) -> None:
        await self._child.close()
