"""What an environment is: two methods, and what the second one says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from preceptor.client.rollout import Message


@dataclass(frozen=True, slots=True)
class Answer:
    """What the student reads next, and what its reply was worth. Without messages the rollout is over."""

    messages: tuple[Message, ...] = ()
    reward: float = 0.0

    @classmethod
    def saying(cls, text: str, reward: float = 0.0, role: str = "user") -> Answer:
        """The common case: one message."""
        return cls((Message(role, text),), reward)


class Environment(Protocol):
    """Answers the student between turns. One object serves all rollouts, from several threads at once: what belongs to one of
    them is in its state. Both methods may take their time, up to the deadline of a step, and may raise: that rollout fails."""

    def start(self, task: Mapping[str, Any]) -> Any:
        """The state of one rollout, from what the request says of its prompt."""
        ...

    def step(self, state: Any, reply: str) -> Answer:
        """The answer to the newest reply of the student, as text. Called again with the same state for the next one."""
        ...
