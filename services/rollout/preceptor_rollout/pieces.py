"""Ids back to what each of them stands for, so that people can read a response token by token."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from preceptor import wire
from preceptor.errors import InvalidArgument
from preceptor.names import TokenKind
from preceptor_proto.v1 import common_pb2, rollout_pb2
from preceptor_rollout.vocabulary import Vocabulary
from preceptor_serving.digests import Entry, tokenizer_entries


class Pieces:
    """The bytes of every id. They are listed once somebody asks: most rollout services never are."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def answer(self, request: rollout_pb2.PiecesRequest) -> rollout_pb2.PiecesReply:
        """One list of pieces for each list of ids, in order."""
        return rollout_pb2.PiecesReply(
            pieces=[self._of(ids, f"ids[{index}]") for index, ids in enumerate(request.ids)],
            tokenizer_sha256=self._vocabulary.tokenizer_sha256,
        )

    @cached_property
    def _entries(self) -> list[Entry]:
        return tokenizer_entries(self._vocabulary.tokenizer)

    def _of(self, message: common_pb2.TokenIds, field: str) -> rollout_pb2.TokenPieces:
        ids, size = wire.ids_from_proto(message, field), self._vocabulary.size
        beyond = np.flatnonzero(ids >= size)
        if len(beyond):
            at = int(beyond[0])
            raise InvalidArgument(
                f"{field}: the tokenizer has no id {ids[at]}", field=f"{field}[{at}]", value=int(ids[at]), limit=f"< {size}"
            )
        entries = [self._entries[token] for token in ids.tolist()]
        special = bytes(kind is TokenKind.SPECIAL for kind, _ in entries)
        return rollout_pb2.TokenPieces(utf8=[raw for _, raw in entries], special_u8=special)
