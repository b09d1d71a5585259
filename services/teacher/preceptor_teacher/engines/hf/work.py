"""Jobs on their way through a call, and which of them go through a forward pass together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from preceptor_serving.engines.protocol import ScoreItem
from preceptor_teacher.engines.hf.answer import Planned
from preceptor_teacher.engines.hf.forward import KeyValues, Piece
from preceptor_teacher.growing import Growth

PAST_PER_NEW = 8  # a past token costs a forward pass about this many times less than a new one
FULL_TOKENS = 256  # a pass of so many tokens gains nothing from more, if these bring padding
PADDING_SHARE = 0.1  # of such a pass, at most


@dataclass(frozen=True, slots=True)
class Job:
    """One item to score; `growth` is None for a sequence that is sent once and shares with nobody."""

    item: ScoreItem
    growth: Growth | None = None

    @property
    def kept(self) -> bool:
        return self.growth is not None and self.growth.kept


@dataclass(frozen=True, slots=True)
class Lead:
    """What the first member of a group is charged for all of them."""

    tokens: int = 0
    seconds: float = 0.0

    def __add__(self, other: Lead) -> Lead:
        return Lead(self.tokens + other.tokens, self.seconds + other.seconds)


@dataclass(slots=True)
class Work:
    """A job on its way: what is planned, what of its prefix is known by now, what it computed of that for others too.

    `apart`: it reads its prefix itself, because no pass of its own for that had room.
    """

    index: int
    job: Job
    planned: Planned
    past: KeyValues | None
    lead: Lead = Lead()
    apart: bool = False

    @property
    def known(self) -> int:
        return 0 if self.past is None else self.past.tokens

    @property
    def piece(self) -> Piece:
        return Piece(self.job.item.sequence.ids[self.known : self.planned.tokens], self.past)


class HasPiece(Protocol):
    @property
    def piece(self) -> Piece: ...


W = TypeVar("W", bound=HasPiece)


def batches(works: Sequence[W], budget_tokens: int) -> Iterator[list[W]]:
    """Length-sorted, each within the budget of padded tokens, or of one item; a full one takes no more padding."""
    batch: list[W] = []
    for work in sorted(works, key=lambda w: len(w.piece.ids)):
        if batch and (_padded_tokens([*batch, work]) > budget_tokens or _is_full_for(batch, work)):
            yield batch
            batch = []
        batch.append(work)
    if batch:
        yield batch


def _padded_tokens(batch: Sequence[HasPiece]) -> int:
    new, past = max(len(w.piece.ids) for w in batch), max(w.piece.past_tokens for w in batch)
    return len(batch) * (new + past // PAST_PER_NEW)


def _is_full_for(batch: Sequence[HasPiece], longest: HasPiece) -> bool:
    tokens = sum(len(w.piece.ids) for w in batch)
    padded = len(longest.piece.ids) * (len(batch) + 1)
    return tokens >= FULL_TOKENS and 1 - (tokens + len(longest.piece.ids)) / padded > PADDING_SHARE
