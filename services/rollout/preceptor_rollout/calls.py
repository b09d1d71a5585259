"""Names of the calls that a generation engine answers beyond the common ones, for both sides of the process border."""

from __future__ import annotations

from enum import IntEnum

GENERATE = "generate"  # Unit -> lists of chunks
GUIDED = "guided"  # unit name, Unit -> turns up to the first question
ANSWERED = "answered"  # unit name, ScoreReply -> turns up to the next question
LEFT = "left"  # unit name -> one empty reply: nobody waits for that unit any more
PIECES = "pieces"  # PiecesRequest -> PiecesReply
RENDER = "render"  # RenderRequest -> RenderReply
STUDENT = "student"  # nothing -> RolloutDescribeReply


class TurnKind(IntEnum):
    """What a turn of a unit with a teacher in its loop holds: its first byte."""

    CHUNKS = 0
    QUESTION = 1  # a ScoreRequest that names no teacher; it ends the call


def make_turn(kind: TurnKind, payload: bytes) -> bytes:
    return bytes((kind,)) + payload


def read_turn(turn: bytes) -> tuple[TurnKind, bytes]:
    """The kind and the payload."""
    return TurnKind(turn[0]), turn[1:]
