"""An environment for the bundled task: a tool that tells what is carried, and a reward that says which calls were right.

    859+827  ->  9+7+0=  told 1, a quarter    6 5+2+1=  told 0, a quarter    8 8+8+0=  told 1, a quarter    6 1686  a quarter

Its answers have the role `tool`, which the pair's chat template puts inside the reply. Replies and answers together are then the
text that both models were trained on, so the teacher can judge a reply of any turn: `carries.yaml` trains on its scores,
`carries-reward.yaml` on the reward. `play_carries.py` shows why nothing is learned from answers in messages of a user.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from examples.tiny.task import DIGITS, Problem, parse
from preceptor_rollout.environments import Answer

CALL = re.compile(r"(\d)\+(\d)\+(\d)=?")  # a column; the stop text may be cut
SHARE = 1 / (DIGITS + 1)  # of each column, and of the answer


@dataclass(slots=True)
class Sum:
    """A rollout: the calls that are still to come, and the answer."""

    calls: list[str]
    answer: str

    @classmethod
    def of(cls, problem: Problem) -> Sum:
        return cls(["+".join(map(str, column)) for column in problem.columns], problem.answer)


class Carries:
    """An `Environment`; the task holds the `prompt`."""

    def start(self, task: Mapping[str, Any]) -> Sum:
        return Sum.of(parse(task["prompt"]))

    def step(self, state: Sum, reply: str) -> Answer:
        last = reply.rsplit(maxsplit=1)[-1] if reply.split() else ""
        call = CALL.fullmatch(last)
        if call is None:
            return Answer(reward=SHARE * (last == state.answer))
        wanted = state.calls.pop(0) if state.calls else ""
        carried = sum(map(int, call.groups())) // 10
        return Answer.saying(str(carried), SHARE * ("+".join(call.groups()) == wanted), "tool")


def create(_options: Mapping[str, Any]) -> Carries:
    """The factory that the service's setting names."""
    return Carries()
