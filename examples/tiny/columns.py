"""An environment for the bundled task: a calculator whose reward says which calls were the right ones.

    859+827  ->  9+7+0=  told 16, a quarter    5+2+1=  told 8, a quarter    8+8+0=  told 16, a quarter    1686  a quarter, the end

The bundled student works a sum in one go, and has never been told a value. To collect the whole reward it has to go on behind the
answers of a tool: `columns.yaml` trains that, and nobody but the environment teaches it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from examples.tiny.task import DIGITS, Problem
from preceptor_rollout.environments import Answer
from preceptor_rollout.environments.calculator import value_of

SHARE = 1 / (DIGITS + 1)  # of each column, and of the answer


@dataclass(slots=True)
class Sum:
    """A rollout: the calls that are still to come, and the answer."""

    calls: list[str]
    answer: str


class Columns:
    """An `Environment`; the task holds the `prompt`."""

    def start(self, task: Mapping[str, Any]) -> Sum:
        problem = Problem(*map(int, task["prompt"].split("+")))
        return Sum(["+".join(map(str, column)) for column in problem.columns], problem.answer)

    def step(self, state: Sum, reply: str) -> Answer:
        last = reply.rsplit(maxsplit=1)[-1] if reply.split() else ""
        value = value_of(last.removesuffix("="))
        if value is None:
            return Answer(reward=SHARE * (last == state.answer))
        wanted = state.calls.pop(0) if state.calls else ""
        return Answer.saying(str(value), reward=SHARE * (last.removesuffix("=") == wanted))


def create(_options: Mapping[str, Any]) -> Columns:
    """The factory that the service's setting names."""
    return Columns()
