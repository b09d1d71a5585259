"""Units that wait for an answer of their teacher: between two calls they stand here, and the engine works for others.

A call ends with the question; the unit goes on with the call that brings the reply.
"""

from __future__ import annotations

from collections.abc import Iterator

from preceptor.errors import Unavailable
from preceptor_proto.v1 import teacher_pb2
from preceptor_rollout import chunks
from preceptor_rollout.calls import TurnKind, make_turn
from preceptor_rollout.growth import Steps
from preceptor_rollout.guide import Question
from preceptor_serving.engine_host.frames import split_name

MOST_PARKED = 1024  # units whose caller is gone without a word; far above what runs at once


class Parked:
    """Suspended units by name, the one that waits longest first."""

    def __init__(self) -> None:
        self._steps: dict[str, Steps] = {}

    def begin(self, name: str, steps: Steps) -> Iterator[bytes]:
        """Turns of a new unit up to its first question."""
        return self._run(name, steps, None)

    def answered(self, payload: bytes) -> Iterator[bytes]:
        """Unit name and ScoreReply in; turns up to the next question out."""
        name, reply = split_name(payload)
        steps = self._steps.pop(name, None)
        if steps is None:
            raise Unavailable("the engine does not know this unit any more", field="unit", hint="ask for its rollouts again")
        yield from self._run(name, steps, teacher_pb2.ScoreReply.FromString(reply))

    def left(self, payload: bytes) -> Iterator[bytes]:
        """Unit name in: what it holds is given back."""
        name, _ = split_name(payload)
        self._drop(name)
        yield b""

    def clear(self) -> None:
        for name in list(self._steps):
            self._drop(name)

    def _run(self, name: str, steps: Steps, reply: teacher_pb2.ScoreReply | None) -> Iterator[bytes]:
        parked = False
        try:
            while (due := _next(steps, reply)) is not None:
                reply = None
                if isinstance(due, Question):
                    parked = True
                    self._park(name, steps)
                    yield make_turn(TurnKind.QUESTION, due.request.SerializeToString())
                    return
                if due:
                    yield make_turn(TurnKind.CHUNKS, chunks.to_bytes(due))
        finally:
            if not parked:
                steps.close()

    def _park(self, name: str, steps: Steps) -> None:
        self._steps[name] = steps
        while len(self._steps) > MOST_PARKED:
            self._drop(next(iter(self._steps)))

    def _drop(self, name: str) -> None:
        steps = self._steps.pop(name, None)
        if steps is not None:
            steps.close()


def _next(steps: Steps, reply: teacher_pb2.ScoreReply | None) -> list[chunks.Chunk] | Question | None:
    try:
        return next(steps) if reply is None else steps.send(reply)
    except StopIteration:
        return None
