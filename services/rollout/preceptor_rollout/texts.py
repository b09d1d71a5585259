"""The calls of a generation engine that need its tokenizer alone, and the one that describes its student."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from preceptor import wire
from preceptor.types import ModelInfo
from preceptor_proto.v1 import rollout_pb2
from preceptor_rollout.calls import PIECES, RENDER
from preceptor_rollout.pieces import Pieces
from preceptor_rollout.render import render
from preceptor_rollout.vocabulary import Vocabulary
from preceptor_serving.engines.protocol import Method


class TextCalls:
    """Text to ids, and ids to what they stand for."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary, self._pieces = vocabulary, Pieces(vocabulary)

    def methods(self) -> Mapping[str, Method]:
        return {PIECES: self._in_pieces, RENDER: self._render}

    def _render(self, payload: bytes) -> Iterator[bytes]:
        """RenderRequest in, RenderReply out."""
        yield render(rollout_pb2.RenderRequest.FromString(payload), self._vocabulary).SerializeToString()

    def _in_pieces(self, payload: bytes) -> Iterator[bytes]:
        """PiecesRequest in, PiecesReply out."""
        yield self._pieces.answer(rollout_pb2.PiecesRequest.FromString(payload)).SerializeToString()


def student_reply(info: ModelInfo, eos_ids: Sequence[int], *, guided: bool) -> bytes:
    """RolloutDescribeReply. `guided`: the engine runs policies that ask a teacher while they draw."""
    student = wire.model_info_to_proto(info)
    return rollout_pb2.RolloutDescribeReply(student=student, eos_ids=eos_ids, guided=guided).SerializeToString()
