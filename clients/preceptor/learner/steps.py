"""From bytes of a response's text to its rows: which tokens a grader's steps are."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preceptor import wire
from preceptor.errors import Corrupt, Unsupported
from preceptor.learner.ports import RolloutPort
from preceptor_proto.v1 import common_pb2, rollout_pb2, teacher_pb2

MOST_DOUBTS = 256
"""How many places of doubt a grader is told at most."""


@dataclass(frozen=True, slots=True)
class Response:
    """What a grader reads of a rollout, and how its steps become rows. Without `rows` nobody asks for steps."""

    text: str
    unsure_at: Sequence[int] = ()
    rows: Rows | None = None

    def placed(self, result: teacher_pb2.GradeResult) -> teacher_pb2.Verdict | None:
        """The verdict, its steps as rows where steps are asked for; None where there is an error instead."""
        if result.HasField("error"):
            return None
        return result.verdict if self.rows is None else self.rows.placed(result.verdict)


@dataclass(frozen=True, slots=True)
class Rows:
    """How many bytes of the text stand before each row; None where the tokens are not what the text was made of."""

    starts_r: NDArray[np.int64] | None

    def placed(self, verdict: teacher_pb2.Verdict) -> teacher_pb2.Verdict:
        """The verdict with the rows of its steps; without steps where they cannot be found. What is left has the last step."""
        if verdict.validity != common_pb2.VALIDITY_OK:
            return verdict
        ends = np.array(wire.verdict_from_proto(verdict).step_ends, np.int64)
        if not len(ends):
            raise Unsupported("the grader tells no steps apart, and a term reads step_reward", field="spec.grader", value="",
                              hint="name a grader that does, or read reward")  # fmt: skip
        placed = teacher_pb2.Verdict()
        placed.CopyFrom(verdict)
        if self.starts_r is not None:
            rows = np.searchsorted(self.starts_r, ends)
            rows[-1] = len(self.starts_r)
            placed.step_rows_u32le = rows.astype("<u4").tobytes()
        return placed

    def doubts(self, logprob_policy_f32le: bytes) -> list[int]:
        """Where the tokens start that the student was least sure of when it drew them, the least sure first."""
        logprobs_r = np.frombuffer(logprob_policy_f32le, "<f4")
        if self.starts_r is None or len(logprobs_r) != len(self.starts_r) or np.isnan(logprobs_r).any():
            return []
        order = np.argsort(logprobs_r, kind="stable")
        return list(dict.fromkeys(self.starts_r[order].tolist()))[:MOST_DOUBTS]


async def responses_with_rows(
    port: RolloutPort, rollouts: Sequence[rollout_pb2.RolloutResult], deadline_s: float
) -> list[Response]:
    """What the rollouts say, and where each of their tokens stands in it."""
    lasts = [one.sequence.segments[-1].response for one in rollouts]
    reply = await port.pieces(rollout_pb2.PiecesRequest(ids=lasts), deadline_s=deadline_s)
    if len(reply.pieces) != len(rollouts):
        raise Corrupt("another number of lists of pieces", field="pieces", value=len(reply.pieces), limit=len(rollouts))
    return [_response(rollout, pieces) for rollout, pieces in zip(rollouts, reply.pieces, strict=True)]


def _response(rollout: rollout_pb2.RolloutResult, pieces: rollout_pb2.TokenPieces) -> Response:
    """The text of several turns is the last one alone, so its bytes are no rows of the whole rollout."""
    one_turn = wire.sequence_from_proto(rollout.sequence).row_count == len(pieces.utf8)
    rows = Rows(row_starts(pieces, rollout.text) if one_turn else None)
    return Response(rollout.text, rows.doubts(rollout.behaviour.logprob_policy_f32le), rows)


def row_starts(pieces: rollout_pb2.TokenPieces, text: str) -> NDArray[np.int64] | None:
    """How many bytes of the text stand before each row; None where the pieces are not what the text was made of.

    A piece may end inside a character, and bytes that are none read as they do in the text. Behind a text that was trimmed at a
    stop string, every row starts at its end.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    parts = [decoder.decode(b"" if special else raw) for raw, special in zip(pieces.utf8, pieces.special_u8, strict=True)]
    whole = "".join(parts) + decoder.decode(b"", final=True)
    dropped = 0 if whole.startswith(text) else 1  # some tokenizers leave out a space at the very beginning
    if whole[:dropped].strip() or not whole[dropped:].startswith(text):
        return None
    lengths = [len(part.encode()) for part in parts]
    return np.clip(np.cumsum([0, *lengths[:-1]]) - dropped, 0, len(text.encode()))[: len(parts)]
