"""One item's keys, and what a reply and the entries under these keys have to do with each other (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from preceptor import wire
from preceptor.names import CacheIdentity, cache_key
from preceptor.types import CacheTier, ModelInfo, Receipt, ScoreItem
from preceptor_proto.v1 import common_pb2, teacher_pb2
from preceptor_teacher.cache.pieces import Piece, pieces_of
from preceptor_teacher.cache.planes import carries_offsets, cut_rows, grade_cost, join_rows

NORMALISER = "full"


@dataclass(frozen=True, slots=True)
class Lookup:
    """An item's pieces and the key of each, in order."""

    item: ScoreItem
    info: ModelInfo
    pieces: tuple[Piece, ...]
    keys: tuple[bytes, ...]


def lookup_of(item: ScoreItem, info: ModelInfo, engine: str, secret: bytes, *, grows: bool) -> Lookup | None:
    """None where nothing of the item is remembered. `engine` names what computes, to the options that change bits."""
    pieces = pieces_of(item, grows=grows)
    identity = CacheIdentity(info.model, engine, info.numerics_version, info.dtype, NORMALISER)
    keys = tuple(cache_key(secret, identity, piece.item.sequence, piece.item.want) for piece in pieces)
    return Lookup(item, info, pieces, keys) if keys else None


def entries_of(lookup: Lookup, rows: common_pb2.Rows) -> Iterator[tuple[bytes, bytes]]:
    """What is remembered of a reply: every piece that it holds whole."""
    if carries_offsets(rows):
        return
    lists = lookup.item.want.candidates
    offsets = None if lists is None else lists.offsets[: rows.count + 1]  # a growing task gets fewer rows than it asked for
    end = rows.start + rows.count
    for key, piece in zip(lookup.keys, lookup.pieces, strict=True):
        if rows.start <= piece.start and piece.end <= end:
            yield key, cut_rows(rows, piece.start, piece.end, offsets).SerializeToString()


def result_of(lookup: Lookup, values: Sequence[bytes], tier: CacheTier) -> teacher_pb2.ScoreResult:
    """The reply that the entries make, with a receipt of its own: nothing was computed."""
    rows = join_rows([common_pb2.Rows.FromString(value) for value in values])
    cost, want = grade_cost(rows), lookup.item.want
    receipt = replace(
        Receipt.of(lookup.info),
        temperature=want.temperature,
        grade=want.grade,
        error_bound_nats=cost.error_bound_nats,
        clipped_low=cost.clipped_low,
        cache=tier,
    )
    return teacher_pb2.ScoreResult(rows=rows, receipt=wire.receipt_to_proto(receipt))


def as_hit(result: teacher_pb2.ScoreResult) -> teacher_pb2.ScoreResult:
    """The same result for another caller, who waited for it and computed nothing."""
    copy = teacher_pb2.ScoreResult()
    copy.CopyFrom(result)
    for field in ("tokens_computed", "tokens_reused", "tokens_recomputed", "time"):
        copy.receipt.ClearField(field)
    copy.receipt.cache = common_pb2.CACHE_TIER_MEMORY
    return copy
